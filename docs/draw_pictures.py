"""Draw the pictures of the README and the docs from the demo faces: python docs/draw_pictures.py

A report is photographed by a headless Chromium: python docs/draw_pictures.py RUN/report.html
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from siamtune.config import DataConfig
from siamtune.data.prepare import prepare
from siamtune.data.sources import Source, open_source
from siamtune.data.split import split_identities

DOCS = Path(__file__).parent
PEOPLE, PHOTOGRAPHS = (3, 11, 25, 31), 9
CROP_FACTORS, NORMALIZATIONS = (0.75, 1.0, 1.5, 2.25), ("minmax", "lcn", "lcn-", "zca")
FACE_PX, ZOOM = 64, 2
PAGE_PX, PAGE_ZOOM = (1140, 1640), 0.75

Picture = NDArray[Any]  # (H, W, 3) uint8, RGB


def album(source: Source, person: int) -> NDArray[np.int64]:
    """Indices of a person's photographs."""
    return np.flatnonzero(source.identities == person)


def mosaic(source: Source) -> Picture:
    """A row of photographs a person."""
    return np.vstack(
        [
            np.hstack([source.pictures[i] for i in album(source, person)[:PHOTOGRAPHS]])
            for person in PEOPLE
        ]
    )


def crops(source: Source, index: int) -> Picture:
    """One photograph as a network sees it: crop factors across, normalizations down."""
    rows = []
    for name in NORMALIZATIONS:
        row = []
        for factor in CROP_FACTORS:
            config = DataConfig(crop_factor=factor, resolution_px=FACE_PX, normalization=name)
            faces = prepare(source, config)
            image = torch.tensor(faces.images[index][None], dtype=torch.float32)
            face = faces.normalization(image)[0, 0]
            low, high = face.quantile(torch.tensor([0.005, 0.995]))
            row.append(((face - low) / (high - low)).clamp(0, 1).numpy() * 255)
        rows.append(np.hstack(row))
    gray = np.vstack(rows).astype(np.uint8)
    gray = cv2.resize(gray, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)


def page(path: Path) -> Picture:
    """The upper part of a report."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "page.png")
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", f"--user-data-dir={folder}", "--hide-scrollbars",
             f"--screenshot={shot}", f"--window-size={PAGE_PX[0]},{PAGE_PX[1]}",
             path.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
        picture = cv2.cvtColor(cv2.imread(str(shot)), cv2.COLOR_BGR2RGB)
        return cv2.resize(picture, None, fx=PAGE_ZOOM, fy=PAGE_ZOOM, interpolation=cv2.INTER_AREA)


def figure(name: str, *photographs: str) -> Picture:
    """What `siamtune figures` draws of two photographs, with the model that comes along."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "siamtune", "figures", "--pair", *photographs,
             "--only", name, "--to", folder],
            cwd=DOCS, check=True,
        )  # fmt: skip
        return cv2.cvtColor(cv2.imread(f"{folder}/{name}.png"), cv2.COLOR_BGR2RGB)


def save(name: str, picture: Picture, quality: int = 85) -> None:
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    cv2.imwrite(str(DOCS / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)


def main() -> None:
    if len(sys.argv) > 1:
        save("report.jpg", page(Path(sys.argv[1])), quality=70)
        return
    source = open_source("demo")
    save("demo-faces.jpg", mosaic(source))
    save("crops.jpg", crops(source, int(album(source, PEOPLE[0])[0])))
    # Two people whom no training of split seed 0 sees: the tour asks about them.
    tested = split_identities(source.identities, source.names, seed=0).test
    one, other = (album(source, person) for person in tested[:2])
    for name, index in (("ida-1", one[0]), ("ida-2", one[1]), ("otto", other[0])):
        save(f"{name}.jpg", source.pictures[index], quality=90)
    save("pair.jpg", figure("pair", "ida-1.jpg", "ida-2.jpg"))


if __name__ == "__main__":
    main()
