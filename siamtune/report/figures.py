"""Pictures of what a model does, for people: every function returns a matplotlib figure.

Faces `(C, R, R)` are what a network is given; pictures `(H, W, 3)` RGB are what they were cut from.
"""

# N pictures · C channels · R resolution · D embedding size

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from siamtune.report.table import one_line, shown
from siamtune.shipping.inside import Layer
from siamtune.shipping.verifier import Verdict, Verifier

SAME, DIFFERENT, INK, SOFT, RULE, MARK = (
    "#0f766e", "#c2362b", "#1c2330", "#5d6675", "#e3e0d8", "#6d28d9",
)  # fmt: skip
STYLE: dict[Any, object] = {
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 10.0,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "siamtune",  # equal figures are equal files
    "text.parse_math": False,  # a dollar in a file's name begins no formula
}
DPI = 150
POSITIVE, NEGATIVE = (0.03, 0.30, 0.65), (0.76, 0.10, 0.12)
SALIENCY_COLUMNS = (
    "",
    "gradient of minus the distance",
    "brighter: more alike",
    "brighter: less alike",
)
NAME_LETTERS = 26
GOLDEN = 0.6180339887


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures, what was cut out of them, and what a model says of them.

    Attributes:
        boxes: `(2, 5)` left, top, width, height and turn in the pictures.
        faces: `(2, C, R, R)` uint8.
        truth: whether it is one person, where that is known.
    """

    pictures: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    boxes: NDArray[np.float64]
    faces: NDArray[np.uint8]
    names: tuple[str, str]
    verdict: Verdict
    truth: bool | None = None


def pair_figure(pairs: Sequence[Pair], verifier: Verifier) -> Figure:
    """Each pair with its verdict, and below where all of them lie on the way to a probability."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(6.0, 3.6 * len(pairs)), 5.4), layout="constrained")
        above, below = _parts(figure, 2, 1, heights=(3, 2.4))
        parts = _parts(above, 1, len(pairs))
        for place, (part, pair) in enumerate(zip(parts, pairs, strict=True), start=1):
            verdict = pair.verdict
            number = f"{place}  " if len(pairs) > 1 else ""
            part.suptitle(
                number + _verdict(pair), color=_colour(verdict.same), fontweight="bold", fontsize=12
            )
            for axes, picture, box, name in zip(
                part.subplots(1, 2), pair.pictures, pair.boxes, pair.names, strict=True
            ):
                _bare(axes)
                axes.imshow(picture)
                for colour, width in (("white", 2.6), (MARK, 1.2)):
                    axes.add_patch(
                        Rectangle(
                            box[:2],
                            *box[2:4],
                            angle=box[4],
                            rotation_point="center",
                            fill=False,
                            color=colour,
                            linewidth=width,
                        )
                    )
                axes.set(xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0))
                axes.set_xlabel(_name(name), fontsize=7)
            part.supxlabel(
                f"score {verdict.score:.3f}   probability {verdict.probability:.3f}", fontsize=10
            )
        _calibration(below.subplots(), pairs, verifier)
    return figure


def _verdict(pair: Pair) -> str:
    words = "same person" if pair.verdict.same else "different people"
    if pair.truth is None:
        return words
    if pair.truth == pair.verdict.same:
        return f"{words} ✓\nrightly so"
    return f"{words} ✗\nin truth {'one person' if pair.truth else 'two people'}"


def mistakes_figure(pairs: Sequence[Pair]) -> Figure:
    """Pairs that a model is wrong about, two in a row, each as what was cut out of its pictures."""
    rows = math.ceil(len(pairs) / 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 1.95 * rows), layout="constrained")
        parts = _parts(figure, rows, 2)
        for part, pair in zip(parts, pairs, strict=False):
            part.suptitle(
                f"score {pair.verdict.score:.3f}  probability {pair.verdict.probability:.3f}",
                color=_colour(pair.verdict.same), fontsize=8,
            )  # fmt: skip
            for axes, picture, box, name in zip(
                part.subplots(1, 2), pair.pictures, pair.boxes, pair.names, strict=True
            ):
                _bare(axes)
                axes.imshow(picture)
                left, top, width, height, _ = box
                axes.set(xlim=(left, left + width), ylim=(top + height, top), facecolor=RULE)
                axes.set_xlabel(_name(name), fontsize=6)
    return figure


def _calibration(axes: Axes, pairs: Sequence[Pair], verifier: Verifier) -> None:
    """The curve from score to probability, the threshold, and every pair on it."""
    scores = np.array([pair.verdict.score for pair in pairs])
    reach = 6 / max(verifier.calibration.slope, 1e-6)  # beyond it the curve is flat
    middle = verifier.threshold
    low = min(middle - reach, scores.min() - reach / 20)
    # A distance, which is scored by its negative, ends at 0; what a scorer gives has no end.
    end = middle + reach if verifier.scorer is not None else min(0.0, middle + reach)
    high = max(end, scores.max() + reach / 20)
    x = np.linspace(low, high, 400)
    axes.axvspan(low, middle, color=DIFFERENT, alpha=0.06, linewidth=0)
    axes.axvspan(middle, high, color=SAME, alpha=0.06, linewidth=0)
    axes.axvline(middle, color=SOFT, linewidth=1)
    axes.plot(x, verifier.calibration.probability(x), color=SOFT, linewidth=1.5)
    for place, pair in enumerate(pairs, start=1):
        at = pair.verdict.score, pair.verdict.probability
        axes.plot(*at, "o", color=_colour(pair.verdict.same), markersize=9)
        if len(pairs) > 1:
            axes.annotate(
                str(place), at, xytext=(0, 8), textcoords="offset points", ha="center",
                fontweight="bold",
            )  # fmt: skip
    axes.set(
        xlim=(low, high), ylim=(-0.05, 1.18), yticks=(0, 0.5, 1),
        xlabel=f"score: {score_name(verifier)}", ylabel="probability",
    )  # fmt: skip
    for text, side in (("different people ", "right"), (" same person", "left")):
        axes.text(
            middle, 1.09, text, ha=side, color=_colour(side == "left"), fontsize=9, va="center"
        )
    axes.text(
        middle, 0.02, f" threshold {verifier.threshold:.3f}", ha="left", color=SOFT, fontsize=9
    )


def map_figure(
    faces: NDArray[np.uint8],
    embeddings: NDArray[np.float32],
    identities: NDArray[np.int64],
    distance: str,
    title: str,
) -> Figure:
    """Faces `(N, C, R, R)` laid out so that near ones have embeddings `(N, D)` near each other.

    t-SNE (van der Maaten and Hinton 2008), then moved onto a grid so that no face hides another.
    A frame's colour tells its person, of `identities` `(N,)`.
    """
    columns, rows = _grid_cells(len(faces))
    cells = _on_grid(_plane(embeddings, distance), columns, rows)
    _, people = np.unique(identities, return_inverse=True)
    side = faces.shape[-1]
    frame = max(1, side // 16)
    step = side + 4 * frame  # a frame on both sides, and as much between two of them
    sheet = np.full((rows * step, columns * step, 3), 255, np.uint8)
    for face, (column, row), person in zip(faces, cells, people, strict=True):
        top, left = row * step + frame, column * step + frame
        framed = sheet[top : top + side + 2 * frame, left : left + side + 2 * frame]
        framed[:] = np.array(_person_colour(int(person))) * 255
        framed[frame:-frame, frame:-frame] = face.transpose(1, 2, 0)  # gray spreads to all three
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 12 * rows / columns + 0.5), layout="constrained")
        axes = figure.subplots()
        _bare(axes)
        axes.set_title(title, fontsize=12)
        axes.imshow(sheet)
    return figure


def _plane(embeddings: NDArray[np.float32], distance: str) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    metric = {"l1": "manhattan", "l2": "euclidean", "cosine": "cosine"}[distance]
    perplexity = min(15.0, (len(embeddings) - 1) / 3)
    plane = TSNE(
        metric=metric, perplexity=perplexity, init="pca", max_iter=500, random_state=0, n_jobs=1
    )
    return np.asarray(plane.fit_transform(embeddings), np.float64)


def _grid_cells(count: int) -> tuple[int, int]:
    """Columns and rows of a grid a quarter wider than high, with some cells to spare."""
    columns = math.ceil(math.sqrt(1.25 * 1.15 * count))
    return columns, math.ceil(1.15 * count / columns)


def _on_grid(plane: NDArray[np.float64], columns: int, rows: int) -> NDArray[np.int64]:
    """A cell (column, row) for each point `(N, 2)`; all move as little as they can together."""
    from scipy.optimize import linear_sum_assignment

    low, high = plane.min(0), plane.max(0)
    points = (plane - low) / np.maximum(high - low, 1e-12) * (columns - 1, rows - 1)
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    costs = ((points[:, None] - cells) ** 2).sum(-1)
    _, chosen = linear_sum_assignment(costs)
    return cells[chosen]


def layers_figure(layers: Sequence[Layer], embedding: NDArray[np.float32], title: str) -> Figure:
    """Each layer's maps side by side, dark where they are low; at last the embedding `(D,)`."""
    per_row = min(5, len(layers))
    rows = math.ceil(len(layers) / per_row)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * per_row, 3.4 * rows + 1.3), layout="constrained")
        figure.suptitle(title, fontsize=12)
        above, below = _parts(figure, 2, 1, heights=(3.4 * rows, 1))
        grid = above.subplots(rows, per_row, squeeze=False).ravel()
        for axes in grid[len(layers) :]:
            axes.remove()
        for place, (axes, layer) in enumerate(zip(grid, layers, strict=False)):
            _bare(axes)
            maps, height, width = layer.maps.shape
            name = "as the network sees it" if not place else f"{place}. {layer.name}"
            axes.set_title(f"{name}\n{maps} × {height} × {width}", fontsize=8.5)
            if not place:
                axes.imshow(_picture(_stretched(layer.maps)), cmap="gray")
            else:
                axes.imshow(_montage(layer.maps), cmap="magma", interpolation="nearest")
        strip = below.subplots()
        strip.bar(np.arange(len(embedding)), embedding, width=1.0, color=SOFT, linewidth=0)
        strip.axhline(0, color=RULE, linewidth=1)
        strip.set(xlim=(-0.5, len(embedding) - 0.5), yticks=[])
        strip.set_xlabel(f"embedding, {len(embedding)} numbers", fontsize=9)
    return figure


def _montage(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(M, H, W)` in one square, each map in its own contrast, with gaps between them."""
    count, height, width = maps.shape
    columns = math.ceil(math.sqrt(count))
    gap = max(1, width // 16)
    montage = np.full((columns * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for place, one in enumerate(maps):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        spread = np.ptp(one)
        montage[top : top + height, left : left + width] = (
            (one - one.min()) / spread if spread > 0 else 0
        )
    return montage


def saliency_figure(pairs: Sequence[Pair], gradients: Sequence[NDArray[np.float32]]) -> Figure:
    """A row a face: the face, the gradient of the score, its positive and its negative part.

    `gradients` has `(2, R, R)` for each pair.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 5.4 * len(pairs) + 0.6), layout="constrained")
        parts = _parts(figure, len(pairs), 1)
        for part, pair, gradient in zip(parts, pairs, gradients, strict=True):
            verdict = pair.verdict
            part.suptitle(
                f"{'same person' if verdict.same else 'different people'}, "
                f"score {verdict.score:.3f}, threshold {verdict.threshold:.3f}",
                color=_colour(verdict.same), fontweight="bold",
            )  # fmt: skip
            grid = part.subplots(2, 4)
            for row, face, change, name in zip(grid, pair.faces, gradient, pair.names, strict=True):
                strongest = float(np.quantile(np.abs(change), 0.995)) or 1.0
                for axes, heading in zip(row, SALIENCY_COLUMNS, strict=True):
                    _bare(axes)
                    axes.set_title(heading or _name(name), fontsize=9)
                row[0].imshow(_picture(face), cmap="gray", vmin=0, vmax=255)
                row[1].imshow(change, cmap="RdBu", vmin=-strongest, vmax=strongest)
                for axes, sign, colour in ((row[2], 1, POSITIVE), (row[3], -1, NEGATIVE)):
                    axes.imshow(_overlaid(face, np.maximum(sign * change, 0), colour))
    return figure


def _overlaid(
    face: NDArray[np.uint8], part: NDArray[np.float32], colour: tuple[float, float, float]
) -> NDArray[np.float64]:
    """A pale face `(C, R, R)` and in colour where `part` `(R, R)`, none below zero, is large.

    Convolutions that skip pixels leave their grid in a gradient; a blur of its width takes it off.
    """
    blurred = cv2.GaussianBlur(part, (0, 0), max(1.0, part.shape[0] / 40))
    strength = (blurred / (blurred.max() or 1.0))[..., None]
    pale = 1 - (1 - face.mean(0)[..., None] / 255) * 0.45
    return pale * (1 - strength) + np.array(colour) * strength


def mosaic_figure(
    cells: Mapping[tuple[str, float], NDArray[np.floating]],
    trained: tuple[str, float] | None,
    title: str,
) -> Figure:
    """Faces `(K, C, R, R)` for each (normalization, crop factor): a row and a column each.

    The cell that a model was `trained` on is framed. Each face has its own contrast, as zero has no
    common meaning; K faces stand in a square.
    """
    names = list(dict.fromkeys(name for name, _ in cells))
    factors = sorted({factor for _, factor in cells})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * len(factors) + 0.6, 2.4 * len(names) + 0.9),
                        layout="constrained")  # fmt: skip
        figure.suptitle(title, fontsize=12)
        grid = figure.subplots(len(names), len(factors), squeeze=False)
        for row, name in zip(grid, names, strict=True):
            for axes, factor in zip(row, factors, strict=True):
                faces = [_picture(_stretched(face)) for face in cells[name, factor]]
                axes.imshow(_square(faces), cmap="gray", vmin=0, vmax=255)
                _bare(axes)
                if (name, factor) == trained:
                    for spine in axes.spines.values():
                        spine.set(visible=True, color=MARK, linewidth=3)
        for axes, factor in zip(grid[0], factors, strict=True):
            axes.set_title(f"crop factor {shown(factor)}")
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name, fontsize=11)
    return figure


def _square(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = math.ceil(math.sqrt(len(pictures)))
    pictures = [*pictures, *[np.full_like(pictures[0], 255)] * (-len(pictures) % columns)]
    return np.vstack([
        np.hstack(pictures[start : start + columns]) for start in range(0, len(pictures), columns)
    ])  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, .png or .svg; equal figures give equal files.

    Raises:
        OSError: the disk refuses.
    """
    with matplotlib.rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=DPI, metadata=metadata)


def _parts(
    figure: Any, rows: int, columns: int, heights: Sequence[float] | None = None
) -> list[Any]:
    """A figure, or a part of one, divided once more; row by row."""
    parts = figure.subfigures(
        rows, columns, squeeze=False, height_ratios=heights, wspace=0.05, hspace=0.03
    )
    return list(parts.ravel())


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _picture(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(C, R, R)` as matplotlib shows it: `(R, R)`, or `(R, R, 3)` of colour."""
    return face[0] if len(face) == 1 else face.transpose(1, 2, 0)


def _stretched(face: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Any numbers `(C, R, R)` as bytes; the outermost half percent on both sides is cut off."""
    low, high = np.quantile(face, [0.005, 0.995])
    return ((face - low) / max(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)


def score_name(verifier: Verifier) -> str:
    """What a model's score is, beside an axis."""
    if verifier.scorer is not None:
        return verifier.scorer_name
    return "minus the distance of the two embeddings"


def _colour(same: bool) -> str:
    return SAME if same else DIFFERENT


def _person_colour(person: int) -> NDArray[np.float64]:
    """Colours as far apart as they can be, however many people there are."""
    hue = person * GOLDEN % 1.0
    return hsv_to_rgb((hue, (0.9, 0.55)[person % 2], (0.75, 0.95)[person // 2 % 2]))


def _name(name: str) -> str:
    """A file's or a person's name on a picture: one short line."""
    line = one_line(name)
    if len(line) > NAME_LETTERS:
        line = line.rpartition("/")[2]
    return line if len(line) <= NAME_LETTERS else f"…{line[1 - NAME_LETTERS :]}"
