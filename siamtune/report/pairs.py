"""Pairs of faces with what was said of them, as drawings that need no other file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from siamtune.report.table import one_line, shortened

FACE_PX = 112
GAP, CAPTION_PX = 8, 40
LETTERS = 36  # of a caption
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c2330}.middle{text-anchor:middle}"
    ".soft{fill:#5d6675}.head{font-size:15px;font-weight:600}"
)
WIDTH = 2 * FACE_PX + GAP
HEIGHT = FACE_PX + CAPTION_PX


@dataclass(frozen=True)
class PairPicture:
    """Two faces as JPEG, and two lines below them."""

    left: bytes
    right: bytes
    people: str
    says: str


def pair_drawing(pair: PairPicture) -> str:
    """One pair as an SVG element."""
    return _drawing(WIDTH, HEIGHT, _marks(pair), f"{pair.people}: {pair.says}")


def pairs_file(groups: Sequence[tuple[str, Sequence[PairPicture]]], columns: int = 4) -> str:
    """Groups of pairs, each under its heading, as an SVG file of its own."""
    step_x, step_y, top = WIDTH + 24, HEIGHT + 16, 20.0
    marks = []
    for heading, pairs in groups:
        marks.append(_text(20, top + 16, heading, "head"))
        top += 34
        for at, pair in enumerate(pairs):
            x, y = 20 + at % columns * step_x, top + at // columns * step_y
            marks.append(f'<g transform="translate({x:g} {y:g})">{_marks(pair)}</g>')
        top += -(-len(pairs) // columns) * step_y + 12
    width = 40 + columns * step_x - 24
    says = ", ".join(heading for heading, _ in groups)
    whole = _drawing(width, top + 8, "".join(marks), says)
    start = f'<svg xmlns="http://www.w3.org/2000/svg"{whole.removeprefix("<svg")}'
    inside = f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
    at = start.index(">") + 1
    return start[:at] + inside + start[at:] + "\n"


def _marks(pair: PairPicture) -> str:
    middle = WIDTH / 2
    return "".join(
        [
            _image(pair.left, 0),
            _image(pair.right, FACE_PX + GAP),
            _text(middle, FACE_PX + 16, shortened(pair.people, LETTERS), "middle"),
            _text(middle, FACE_PX + 32, shortened(pair.says, LETTERS), "middle soft"),
        ]
    )


def _drawing(width: float, height: float, content: str, says: str) -> str:
    return (
        f'<svg class="pair" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(one_line(says))}">{content}</svg>'
    )


def _text(x: float, y: float, content: str, classes: str) -> str:
    return f'<text class="{classes}" x="{x:g}" y="{y:g}">{escape(one_line(content))}</text>'


def _image(jpeg: bytes, x: float) -> str:
    content = base64.b64encode(jpeg).decode()
    return (
        f'<image x="{x:g}" y="0" width="{FACE_PX}" height="{FACE_PX}" '
        f'href="data:image/jpeg;base64,{content}"/>'
    )
