"""What TensorBoard shows of a search's finalists besides their curves.

PR curve, ROC, scores of same and different pairs, the most confident mistakes as pictures, and the
embedding of the validation people with their faces in the projector. Everything goes into the
trial's own folder, in one event file that a later life of the search replaces.
"""

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.projector.metadata import PROJECTOR_FILENAME
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import histogram, pr_curve

from siamtune.data.samples import most_photographed
from siamtune.report.figures import (
    DIFFERENT,
    RULE,
    SAME,
    SOFT,
    STYLE,
    mistakes_figure,
    score_name,
)
from siamtune.report.gallery import Gallery
from siamtune.report.table import one_line
from siamtune.report.tensorboard import (
    EMBEDDINGS,
    FINALIST,
    PEOPLE,
    SPRITE,
    remove_finalist,
    text_summary,
)
from siamtune.shipping.measure import ScoredPairs
from siamtune.verification.metrics import eer, roc_auc
from siamtune.verification.roc import cuts

MISTAKES = 8
BINS = 50
PROJECTED, PROJECTED_EACH = 1000, 20  # pictures in the projector, and of one person at most
SPRITE_PX = 8192  # what TensorBoard can show
BOARD_DPI = 120


def write_finalist(folder: Path, gallery: Gallery, step: int, about: str) -> None:
    """Show a model in its trial's folder, in place of what was shown there.

    Args:
        gallery: the model after its best epoch, and the people that the search was measured on.
        step: that epoch.
        about: Markdown of what the trial was.

    Raises:
        OSError: the disk refuses.
        DataError: the validation people give no pairs.
    """
    pairs, verifier = gallery.scored, gallery.verifier
    probabilities = verifier.calibration.probability(pairs.scores)
    bins = np.linspace(pairs.scores.min(), pairs.scores.max() + 1e-9, BINS + 1)
    summaries = [
        text_summary("finalist", about),
        pr_curve("same person", pairs.same.astype(np.int64), probabilities),
        histogram("scores/same person", pairs.scores[pairs.same], bins),
        histogram("scores/different people", pairs.scores[~pairs.same], bins),
        _image("curves/scores", scores_figure(pairs, verifier.threshold, score_name(verifier))),
        _image("curves/roc", roc_figure(pairs, verifier.threshold)),
        _image("curves/roc, rare errors", roc_figure(pairs, verifier.threshold, rare=True)),
    ]
    for called_same, words in ((True, "called the same person"), (False, "called two people")):
        places = pairs.mistakes(verifier.threshold, called_same=called_same, most=MISTAKES)
        if len(places):
            shown = [gallery.pair(int(place)) for place in places]
            summaries.append(_image(f"mistakes/{words}", mistakes_figure(shown)))
    remove_finalist(folder)
    _write_projector(folder, gallery)
    _write_events(folder, summaries, step)


def roc_figure(pairs: ScoredPairs, threshold: float, *, rare: bool = False) -> Figure:
    """True against false accept rate, and where the threshold lies.

    `rare` draws the false accept rate in powers of ten, down to one pair.
    """
    roc = cuts(pairs.scores, pairs.same)
    far, tar = roc.false_accepts / roc.negatives, roc.true_accepts / roc.positives
    accepted = pairs.scores >= threshold
    at = accepted[~pairs.same].mean(), accepted[pairs.same].mean()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 4.4), layout="constrained")
        axes = figure.subplots()
        chance = np.geomspace(1e-6, 1, 100)
        axes.plot(chance, chance, color=RULE, linewidth=1, label="chance")
        axes.plot(far, tar, color=SAME, linewidth=2, drawstyle="steps-post")
        axes.plot(*at, "o", color=DIFFERENT, label=f"threshold {threshold:.3f}")
        axes.set(xlabel="false accept rate", ylabel="true accept rate", ylim=(0, 1.01))
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_title(
            f"AUC {roc_auc(pairs.scores, pairs.same):.4f}   "
            f"equal error rate {eer(pairs.scores, pairs.same):.4f}\n"
            f"{roc.positives:,} same and {roc.negatives:,} different pairs"
        )
        if rare:
            axes.set(xscale="log", xlim=(1 / roc.negatives, 1))
            axes.xaxis.set_major_formatter("{x:g}")
        else:
            axes.set(xlim=(-0.01, 1))
        axes.legend(loc="upper left" if rare else "lower right", frameon=False)
    return figure


def scores_figure(pairs: ScoredPairs, threshold: float, name: str) -> Figure:
    """How often each score occurs among pairs of one person and of two, and the threshold."""
    bins = np.linspace(pairs.scores.min(), pairs.scores.max(), BINS + 1).tolist()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.subplots()
        for kind, colour, words in (
            (~pairs.same, DIFFERENT, "different people"), (pairs.same, SAME, "same person"),
        ):  # fmt: skip
            axes.hist(
                pairs.scores[kind],
                bins,
                color=colour,
                alpha=0.45,
                label=words,
                histtype="stepfilled",
            )
        axes.axvline(threshold, color=SOFT, linewidth=1.5, label=f"threshold {threshold:.3f}")
        axes.set(xlabel=f"score: {name}", ylabel="pairs")
        axes.legend(frameon=False)
    return figure


def _image(tag: str, figure: Figure) -> Summary:
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="png", dpi=BOARD_DPI)
    width, height = (round(inches * BOARD_DPI) for inches in figure.get_size_inches())
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=content.getvalue()
    )
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _write_events(folder: Path, summaries: Sequence[Summary], step: int) -> None:
    """One event file, whole or not at all; its name sorts behind those of the training.

    Without a start of a session: that would withdraw the trial's curves from this step on.
    """
    now = time.time()
    unfinished = folder / f".unfinished.{os.getpid()}"
    try:
        with unfinished.open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
            for summary in summaries:
                event = Event(wall_time=now, step=step, summary=summary)
                writer.write(event.SerializeToString())
        unfinished.replace(folder / f"events.out.tfevents.{time.time_ns()}{FINALIST}{step}")
    finally:
        unfinished.unlink(missing_ok=True)


def _write_projector(folder: Path, gallery: Gallery) -> None:
    """Embeddings, who they are and their faces, as TensorBoard's projector reads them."""
    faces = gallery.faces
    chosen = most_photographed(
        faces.indices("validation"), faces.identities, people=PROJECTED, each=PROJECTED_EACH
    )[:PROJECTED]
    images = np.asarray(faces.images[chosen])
    config = ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name="validation people",
        tensor_path=EMBEDDINGS,
        metadata_path=PEOPLE,
    )
    side = _sprite(folder / SPRITE, images)
    embedding.sprite.image_path = SPRITE
    embedding.sprite.single_image_dim.extend([side, side])
    np.savetxt(
        folder / EMBEDDINGS, gallery.verifier.embed_faces(images), fmt="%.6g", delimiter="\t"
    )
    rows = [
        f"{one_line(faces.names[faces.identities[i]])}\t{one_line(gallery.name(i))}" for i in chosen
    ]
    lines = ["person\tpicture", *rows]
    (folder / PEOPLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / PROJECTOR_FILENAME).write_text(str(config), encoding="utf-8")


def _sprite(path: Path, images: NDArray[np.uint8]) -> int:
    """All faces `(N, C, R, R)` in one square picture, row by row; returns the side of one."""
    columns = int(np.ceil(np.sqrt(len(images))))
    side = min(images.shape[-1], SPRITE_PX // columns)
    sheet = np.full((columns * side, columns * side, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * side, place % columns * side
        face = np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))
        sheet[top : top + side, left : left + side] = cv2.resize(
            face[..., ::-1], (side, side), interpolation=cv2.INTER_AREA
        )
    written, content = cv2.imencode(".png", sheet)
    assert written  # any picture of bytes can be
    path.write_bytes(content.tobytes())
    return side
