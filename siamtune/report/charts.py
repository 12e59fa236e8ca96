"""Charts as SVG text, drawn by small pure functions.

Why not plotly or matplotlib: plotly.js adds megabytes to every report and draws nothing where
scripts are switched off, as in mail and many artifact viewers; matplotlib's pictures carry no text
to select, follow no dark mode, and blur or shrink on a phone. What a report needs are axes, lines,
points and a grid of cells: some hundred lines, a page of a few hundred kilobytes, no further
dependency.

Positions are user units of the drawing, from its upper left corner. Colours come from the page's
style sheet by class; whatever text is handed over is escaped and freed of control characters here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import NormalDist

from siamtune.report.table import one_line

TICKS = 5  # on an axis of common length
TICK_PX = 70  # and at least so far apart on a longer one
LETTER = 6.6  # average width of a letter of a tick, for room beside an axis
FACTORS = (1, 2, 5, 10)
RATES = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8)


@dataclass(frozen=True)
class NumberAxis:
    """Numbers from `low` to `high`; both may be equal."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False  # epochs and sizes have no ticks between two of them

    def at(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1."""
        low, high, value = ((math.log(v) if self.log else v) for v in (self.low, self.high, value))
        return 0.5 if high == low else (value - low) / (high - low)

    def ticks(self, most: int = TICKS) -> list[tuple[float, str]]:
        """Round numbers within the axis, each with its position (0 to 1) and its text."""
        values = (
            log_ticks(self.low, self.high) if self.log else round_ticks(self.low, self.high, most)
        )
        return [
            (self.at(value), number_text(value))
            for value in values
            if not self.whole or value == round(value)
        ]


@dataclass(frozen=True)
class NameAxis:
    """Names side by side, each in the middle of its share."""

    label: str
    names: tuple[str, ...]

    def at(self, value: str) -> float:
        return (self.names.index(value) + 0.5) / len(self.names)

    def ticks(self, most: int = TICKS) -> list[tuple[float, str]]:
        """Every name, however many."""
        return [(self.at(name), name) for name in self.names]


@dataclass(frozen=True)
class RateAxis:
    """Error rates from `low` to `high` by their normal deviates, as DET curves are drawn.

    Rare errors get room, and of two normal distributions the curve is straight (Martin et al.
    1997).
    """

    label: str
    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a rate lies between the ends, 0 to 1; rates beyond lie on the ends."""
        low, high, place = (
            NormalDist().inv_cdf(rate)
            for rate in (self.low, self.high, min(max(value, self.low), self.high))
        )
        return (place - low) / (high - low)

    def ticks(self, most: int = TICKS) -> list[tuple[float, str]]:
        """Common rates within the axis, as percentages."""
        within = [rate for rate in RATES if self.low <= rate <= self.high]
        return [(self.at(rate), f"{100 * rate:g}%") for rate in within]


Axis = NumberAxis | NameAxis | RateAxis


@dataclass(frozen=True)
class Frame:
    """A drawing with two axes and room for their texts."""

    x: Axis
    y: NumberAxis | RateAxis
    width: float = 340
    height: float = 232
    left: float = 54
    right: float = 14
    top: float = 12
    bottom: float = 50

    def px(self, value: float | str) -> float:
        share = self.x.at(value)  # type: ignore[arg-type]  # an axis is given its own values
        return self.left + share * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        return self.height - self.bottom - self.y.at(value) * (self.height - self.top - self.bottom)


def round_ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """At most about so many multiples of 1, 2 or 5 times a power of ten within both ends."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in FACTORS if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within both ends; with 2 and 5 between where there are few."""
    if high <= low:
        return [low]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        within = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(within) >= 3:
            return within
    return within or [low, high]


def number_text(value: float) -> str:
    """A tick's number: 0.001, 0.25, 64, 3e-05."""
    return f"{value:.3g}" if abs(value) < 1e4 else f"{value:.0e}"


def padded(values: Sequence[float], share: float = 0.04) -> tuple[float, float]:
    """The ends of an axis that shows all values with a little room."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(low) * share or share
    return low - room, high + room


def drawing(
    width: float, height: float, marks: Sequence[str], says: str, classes: str = "chart"
) -> str:
    """A whole SVG element; `says` is what a screen reader reads out."""
    return (
        f'<svg class="{classes}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{_clean(says)}">{"".join(marks)}</svg>'
    )


def axes(frame: Frame) -> str:
    """Grid, tick texts and labels of both axes."""
    left, right = frame.left, frame.width - frame.right
    bottom = frame.height - frame.bottom
    parts = []
    for share, tick in frame.y.ticks():
        y = bottom - share * (bottom - frame.top)
        parts.append(f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(left - 7, y + 4, tick, "tick end"))
    ticks = frame.x.ticks(max(TICKS, int((right - left) / TICK_PX)))
    room = (right - left) / max(1, len(ticks))
    # Long names side by side would overlap: every second one moves a line down.
    crowded = any(len(tick) * LETTER > room for _, tick in ticks)
    for at, (share, tick) in enumerate(ticks):
        x = left + share * (right - left)
        if not isinstance(frame.x, NameAxis):
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top:g}" y2="{bottom:g}"/>'
            )
        down = 12 if crowded and at % 2 else 0
        most = int(room * (2 if crowded else 1) / LETTER)
        parts.append(text(x, bottom + 17 + down, shortened(tick, max(3, most)), "tick middle"))
    parts.append(
        f'<line class="axis" x1="{left:g}" x2="{right:g}" y1="{bottom:g}" y2="{bottom:g}"/>'
    )
    under = bottom + (44 if crowded else 34)
    parts.append(text((left + right) / 2, under, frame.x.label, "label middle"))
    parts.append(
        f'<g transform="translate(12 {(frame.top + bottom) / 2:g}) rotate(-90)">'
        f"{text(0, 0, frame.y.label, 'label middle')}</g>"
    )
    return "".join(parts)


def line(
    points: Sequence[tuple[float, float]], classes: str, *, says: str = "", key: str = ""
) -> str:
    """A line through positions; `key` joins it with the other marks of one trial."""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="line {classes}"{_key(key)} d="{path}">{_title(says)}</path>'


def dot(
    x: float, y: float, classes: str, *, radius: float = 3.5, says: str = "", key: str = ""
) -> str:
    """A point at a position."""
    return (
        f'<circle class="dot {classes}"{_key(key)} cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">'
        f"{_title(says)}</circle>"
    )


def text(x: float, y: float, content: str, classes: str) -> str:
    """Text at a position; its class says which end lies there."""
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{_clean(content)}</text>'


@dataclass(frozen=True)
class Cell:
    """One field of a heat map: how strong its colour is (0 to 1) and what stands in it."""

    strength: float
    value: str
    note: str
    says: str


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: dict[tuple[int, int], Cell],
    *,
    labels: tuple[str, str],
    says: str,
) -> str:
    """A grid of cells by (row, column); where there is none, nothing was measured."""
    high, top = 44.0, 4.0
    size = max(62.0, max(len(name) for name in columns) * LETTER + 10)
    left = 26 + max(40.0, max(len(name) for name in rows) * LETTER + 8)
    bottom = top + len(rows) * high
    width = left + len(columns) * size + 4
    marks = []
    for row, name in enumerate(rows):
        marks.append(text(left - 8, top + row * high + high / 2 + 4, name, "tick end"))
        for column in range(len(columns)):
            x, y = left + column * size, top + row * high
            box = f'x="{x + 1:g}" y="{y + 1:g}" width="{size - 2:g}" height="{high - 2:g}" rx="3"'
            cell = cells.get((row, column))
            if cell is None:
                marks.append(f'<rect class="nothing" {box}>{_title("never measured")}</rect>')
                continue
            strong = " strong" if cell.strength > 0.55 else ""
            marks.append(
                f'<rect class="cell" {box} fill-opacity="{0.08 + 0.87 * cell.strength:.2f}">'
                f"{_title(cell.says)}</rect>"
            )
            middle = x + size / 2
            marks.append(text(middle, y + 20, cell.value, f"inside middle{strong}"))
            marks.append(text(middle, y + 34, cell.note, f"note middle{strong}"))
    for column, name in enumerate(columns):
        marks.append(text(left + (column + 0.5) * size, bottom + 16, name, "tick middle"))
    marks.append(text((left + width) / 2, bottom + 36, labels[1], "label middle"))
    marks.append(
        f'<g transform="translate(12 {(top + bottom) / 2:g}) rotate(-90)">'
        f"{text(0, 0, labels[0], 'label middle')}</g>"
    )
    return drawing(width, bottom + 44, marks, says, "chart fixed")


@dataclass(frozen=True)
class Strand:
    """One line through all axes of parallel coordinates: positions 0 to 1, one an axis."""

    shares: tuple[float, ...]
    classes: str
    says: str
    key: str


def parallel(columns: Sequence[Axis], strands: Sequence[Strand], says: str) -> str:
    """Parallel coordinates: an upright axis a column, a line a strand, later ones on top."""
    step, left, top, bottom = 118.0, 62.0, 34.0, 270.0
    width = left * 2 + step * (len(columns) - 1)

    def at(column: int, share: float) -> tuple[float, float]:
        return left + column * step, bottom - share * (bottom - top)

    marks = [
        line(
            [at(column, share) for column, share in enumerate(strand.shares)],
            strand.classes, says=strand.says, key=strand.key,
        )
        for strand in strands
    ]  # fmt: skip
    for column, axis in enumerate(columns):
        x = left + column * step
        marks.append(f'<line class="axis" x1="{x:g}" x2="{x:g}" y1="{top:g}" y2="{bottom:g}"/>')
        marks.append(text(x, 16, shortened(axis.label, 18), "label middle"))
        for share, tick in axis.ticks():
            marks.append(text(x + 5, at(column, share)[1] + 4, shortened(tick, 15), "tick halo"))
    return drawing(width, bottom + 14, marks, says, "chart fixed")


def shortened(content: str, most: int) -> str:
    """At most so many letters, with an ellipsis where some are missing."""
    return content if len(content) <= most else content[: most - 1] + "…"


def _clean(content: str) -> str:
    return escape(one_line(content))


def _key(key: str) -> str:
    return f' data-t="{_clean(key)}"' if key else ""


def _title(says: str) -> str:
    return f"<title>{_clean(says)}</title>" if says else ""
