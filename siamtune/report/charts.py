"""Charts as inline SVG: matplotlib draws them, the page's style sheet colours them.

matplotlib lays out scales, ticks, texts and marks. What it writes is then made part of the page:
texts stay texts in the page's font, and every shape gets a class instead of fixed colours, so that
a chart is dark where the page is dark; marks get the trial they belong to and a tooltip. Shapes are
told apart by the colour that they were drawn in.

Lengths are user units of the drawing. Whatever text is handed over stays text.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree  # nosec B405: see where it reads

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.scale import FuncScale
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, ScalarFormatter
from scipy.special import ndtr, ndtri

from siamtune.report.table import one_line, shortened

PX = 72  # units to an inch: matplotlib's SVG has one for each point
TICK_PX, FEWEST_TICKS = 70, 5
PAD = 6  # between an axis and the texts of its ticks
LETTER = 6.6  # average width of a letter of a tick
LETTERS = 32  # of a name beside an upright axis
# Ticks of a logarithmic axis in each decade, where it has at most so many decades.
DECADES = ((1.5, (1, 2, 5)), (2.5, (1, 3)), (np.inf, (1,)))
RATES = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8)

# The colour in which something is drawn, and its class on the page.
INK, SOFT, RULE, HALO = "#000001", "#000002", "#000003", "#000004"
VALUE, VALUE_STRONG, NOTE, NOTE_STRONG = "#000005", "#000006", "#000007", "#000008"
CLASSES = {
    INK: "label", SOFT: "tick", HALO: "tick halo", VALUE: "inside", VALUE_STRONG: "inside strong",
    NOTE: "note", NOTE_STRONG: "note strong",
}  # fmt: skip
LINE_CLASSES = {RULE: "grid", SOFT: "axis"}
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a name begins no formula
    "font.size": 12.0,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 12.0,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
}


@dataclass(frozen=True)
class NumberAxis:
    """Numbers from `low` to `high`; both may be equal."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False  # epochs and sizes have no ticks between two of them


@dataclass(frozen=True)
class NameAxis:
    """Names side by side, the first at 0, the next at 1; upright the first is on top."""

    label: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class RateAxis:
    """Error rates from `low` to `high` by their normal deviates, as DET curves are drawn.

    Rare errors get room, and of two normal distributions the curve is straight (Martin et al.
    1997).
    """

    label: str
    low: float
    high: float


Axis = NumberAxis | NameAxis | RateAxis


@dataclass(frozen=True)
class Mark:
    """What the page knows of a line, a point or a bar; `key` joins the marks of one trial."""

    classes: str
    says: str = ""
    key: str = ""
    opacity: float = 1.0  # of its colour


@dataclass(frozen=True, eq=False)
class Chart:
    """A drawing of matplotlib's, and what the page knows of the marks in it, group by group."""

    figure: Figure
    axes: Axes
    marks: dict[str, Sequence[Mark]] = field(default_factory=dict)


def chart(
    x: Axis, y: Axis, width: float = 340, height: float = 232, left: float = 54,
    right: float = 14, top: float = 12, bottom: float = 50,
) -> Chart:  # fmt: skip
    """An empty chart with two axes and so much room beside them."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(width, height)
        axes = _axes(figure, left, bottom, width - left - right, height - top - bottom)
        for which, axis in (("x", x), ("y", y)):
            _lay(axes, which, axis)
            if not isinstance(axis, NameAxis):
                axes.grid(axis=which, clip_on=False)  # type: ignore[arg-type]
        # Turned about its middle: it stays there in a font of another width.
        axes.set_ylabel(one_line(y.label), rotation_mode="anchor", va="bottom")
        axes.yaxis.set_label_coords((14 - left) / (width - left - right), 0.5)
        axes.xaxis.set_label_coords(0.5, (6 - bottom) / (height - top - bottom))
        axes.xaxis.label.set_verticalalignment("baseline")
    return Chart(figure, axes)


def lines(to: Chart, curves: Sequence[tuple[Sequence[tuple[float, float]], Mark]]) -> None:
    """Draw a line through the points of each curve, later ones on top."""
    drawn = [(points, mark) for points, mark in curves if len(points) > 1]
    paths = LineCollection([np.asarray(points, float) for points, _ in drawn], clip_on=False)
    _enter(to, paths, [mark for _, mark in drawn])
    to.axes.add_collection(paths, autolim=False)


def dots(
    to: Chart, points: Sequence[tuple[float, float, Mark]], *, radius: float = 3.5
) -> None:  # fmt: skip
    """Draw points, later ones on top."""
    across, up = [x for x, _, _ in points], [y for _, y, _ in points]
    size = (2 * radius) ** 2
    group = to.axes.scatter(across, up, s=size, color=INK, clip_on=False, zorder=2)
    _enter(to, group, [mark for _, _, mark in points])


def boxes(to: Chart, of: Sequence[tuple[float, float, float, float, Mark]]) -> None:
    """Draw rectangles: left, lower end, width and height, in the units of the axes."""
    group = PatchCollection([Rectangle((x, y), w, h) for x, y, w, h, _ in of], clip_on=False)
    _enter(to, group, [mark for *_, mark in of])
    to.axes.add_collection(group, autolim=False)


def bars(
    names: Sequence[str], shares: Sequence[float], marks: Sequence[Mark], width: float
) -> Chart:  # fmt: skip
    """A bar for each share of a whole, the name before it and the share behind it."""
    most = max(shares)
    left = min(LETTERS, max(map(len, names))) * LETTER * 1.1 + 12
    drawn = chart(
        NumberAxis("", 0, most), NameAxis("", tuple(names)), width, 24 * len(names) + 8,
        left=left, right=48, top=4, bottom=4,
    )  # fmt: skip
    drawn.axes.spines[:].set_visible(False)
    drawn.axes.grid(visible=False)
    drawn.axes.tick_params(axis="x", labelbottom=False)
    boxes(drawn, [(0, at - 0.3, share, 0.6, mark)
                  for at, (share, mark) in enumerate(zip(shares, marks, strict=True))])  # fmt: skip
    for at, share in enumerate(shares):
        write(drawn, most, at, f"{100 * share:.0f}%", SOFT, down=4, right=24)
    return drawn


def write(
    to: Chart, x: float, y: float, content: str, colour: str, *, down: float, right: float = 0
) -> None:
    """Text about a place of the axes, its middle so far below and to the right."""
    with matplotlib.rc_context(STYLE):
        to.axes.annotate(
            one_line(content), (x, y), xytext=(right, -down), textcoords="offset points",
            ha="center", va="baseline", color=colour, annotation_clip=False,
        )  # fmt: skip


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
    labels: tuple[str, str],
) -> Chart:
    """A grid of cells by (row, column); where there is none, nothing was measured."""
    high, wide = 44.0, max(62.0, max(map(len, columns)) * LETTER + 10)
    left = 26 + max(40.0, min(LETTERS, max(map(len, rows))) * LETTER + 8)
    drawn = chart(
        NameAxis(labels[1], tuple(columns)), NameAxis(labels[0], tuple(rows)),
        left + len(columns) * wide + 4, len(rows) * high + 48, left=left, right=4, top=4, bottom=44,
    )  # fmt: skip
    drawn.axes.spines[:].set_visible(False)
    gap_x, gap_y = 1 / wide, 1 / high
    fields = []
    for row in range(len(rows)):
        for column in range(len(columns)):
            cell = cells.get((row, column))
            mark = (
                Mark("nothing", "never measured")
                if cell is None
                else Mark("cell", cell.says, opacity=0.08 + 0.87 * cell.strength)
            )
            corner = column - 0.5 + gap_x, row - 0.5 + gap_y
            fields.append((*corner, 1 - 2 * gap_x, 1 - 2 * gap_y, mark))
            if cell:
                strong = cell.strength > 0.55
                write(drawn, column, row, cell.value, VALUE_STRONG if strong else VALUE, down=-2)
                write(drawn, column, row, cell.note, NOTE_STRONG if strong else NOTE, down=12)
    boxes(drawn, fields)
    return drawn


def parallel(
    columns: Sequence[Axis], strands: Sequence[tuple[Sequence[float | str], Mark]]
) -> Chart:  # fmt: skip
    """Parallel coordinates: an upright axis a column, a line a strand, later ones on top.

    A strand has one value for each axis: a number, or one of its names.
    """
    step, left, top, height = 118.0, 62.0, 34.0, 284.0
    width = left * 2 + step * (len(columns) - 1)
    with matplotlib.rc_context(STYLE):
        figure = _figure(width, height)
        whole = _axes(figure, 0, 0, width, height)
        whole.set(xlim=(0, width), ylim=(0, height))
        whole.set_axis_off()
        heights = []
        for at, axis in enumerate(columns):
            axes = _axes(figure, left + at * step, 14, 1, height - 14 - top)
            _lay(axes, "y", axis, letters=15)
            axes.set(ylabel="", xticks=[])
            axes.set_title(one_line(shortened(axis.label, 18)), pad=10)
            axes.spines.left.set_visible(True)
            axes.spines.bottom.set_visible(False)
            axes.tick_params(axis="y", labelleft=False, labelright=True, pad=4, labelcolor=HALO)
            values = [_number(axis, strand[at]) for strand, _ in strands]
            heights.append(axes.transData.transform([(0.0, value) for value in values])[:, 1])
    drawn = Chart(figure, whole)
    across = left + step * np.arange(len(columns))
    ways = np.stack(heights, 1)
    lines(
        drawn,
        [(list(zip(across, way, strict=True)), mark)
         for way, (_, mark) in zip(ways, strands, strict=True)],
    )  # fmt: skip
    return drawn


def svg(of: Chart, name: str, says: str, classes: str = "chart") -> str:
    """A chart as an SVG element, the same for the same chart.

    `name` must differ between the charts of one page, as their ids do by it; `says` is what a
    screen reader reads out.
    """
    content = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": ascii(name)}), warnings.catch_warnings():
        # The reader's fonts draw the text, not matplotlib's.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        of.figure.savefig(content, format="svg", dpi=PX, metadata={"Date": None})
    width, height = (of.figure.get_size_inches() * PX).round(1)
    page = ElementTree.Element(
        "svg",
        {"class": classes, "viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}",
         "height": f"{height:g}", "role": "img", "aria-label": one_line(says)},
    )  # fmt: skip
    # What matplotlib has written a moment ago, with names escaped: no XML comes from outside.
    drawn = ElementTree.fromstring(content.getvalue())  # nosec B314
    page.extend(_plain(drawn, of.marks, iter(())))
    return ElementTree.tostring(page, encoding="unicode")


def padded(values: Sequence[float], share: float = 0.04) -> tuple[float, float]:
    """The ends of an axis that shows all values with a little room."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(low) * share or share
    return low - room, high + room


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width / PX, height / PX), dpi=PX)
    figure.patch.set_visible(False)
    return figure


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at this place of a figure, that scale nothing by themselves."""
    across, up = figure.get_size_inches() * PX
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.patch.set_visible(False)
    axes.autoscale(False)
    axes.tick_params(bottom=False, left=False, which="both", length=0, pad=PAD)
    return axes


def _lay(axes: Axes, which: str, axis: Axis, letters: int = LETTERS) -> None:
    """Give the x or the y axis its scale, its ends, its ticks and its label."""
    place = axes.xaxis if which == "x" else axes.yaxis
    box = axes.get_window_extent()
    length = box.width if which == "x" else box.height
    ends: tuple[float, float]
    match axis:
        case NameAxis():
            many = len(axis.names)
            ends = (-0.5, many - 0.5) if which == "x" else (many - 0.5, -0.5)
            # Long names side by side would overlap: every second one moves a line down.
            room = length / many / LETTER
            crowded = which == "x" and any(len(name) > room for name in axis.names)
            most = max(3, int(room * (2 if crowded else 1))) if which == "x" else letters
            names = [shortened(one_line(name), most) for name in axis.names]
            place.set_ticks(range(many), names)
            if crowded:
                for tick in place.get_major_ticks()[1::2]:
                    tick.set_pad(PAD + 12)
        case RateAxis():
            ends = axis.low, axis.high
            axes.set(**{f"{which}scale": FuncScale(place, (ndtri, ndtr))})
            place.set_major_locator(FixedLocator(RATES))
            place.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
        case NumberAxis(low=low, high=high) if low == high:
            ends = padded([low], 0.1)
            place.set_major_locator(FixedLocator([low]))
            place.set_major_formatter("{x:g}")
        case NumberAxis(log=True):
            ends = axis.low, axis.high
            axes.set(**{f"{which}scale": "log"})
            decades = np.log10(axis.high / axis.low)
            subs = next(subs for most, subs in DECADES if decades <= most)
            place.set_major_locator(LogLocator(subs=subs))
            place.set_major_formatter("{x:g}")
            place.set_minor_locator(FixedLocator([]))
        case NumberAxis():
            ends = axis.low, axis.high
            most = max(FEWEST_TICKS, int(length / TICK_PX))
            place.set_major_locator(MaxNLocator(most, steps=(1, 2, 5, 10), integer=axis.whole))
            place.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.set(**{f"{which}lim": ends, f"{which}label": one_line(axis.label)})


def _number(axis: Axis, value: float | str) -> float:
    return axis.names.index(str(value)) if isinstance(axis, NameAxis) else float(value)


def _enter(to: Chart, group: Collection, marks: Sequence[Mark]) -> None:
    name = f"marks-{len(to.marks)}"
    group.set_gid(name)
    to.marks[name] = marks


def _plain(
    drawn: ElementTree.Element, groups: dict[str, Sequence[Mark]], marks: Iterator[Mark]
) -> Iterator[ElementTree.Element]:
    """Shapes and texts of matplotlib's SVG without their groups, their colours as classes.

    A shape in a group of marks is the next of them.
    """
    for element in drawn:
        tag = element.tag.rpartition("}")[2]
        known = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if tag == "g":
            inside = groups.get(known.get("id", ""))
            yield from _plain(element, groups, marks if inside is None else iter(inside))
        elif tag == "defs":
            shapes = [
                ElementTree.Element(
                    "path", {"id": shape.attrib["id"], "d": _short(shape.attrib["d"])}
                )
                for shape in element
                if shape.tag.endswith("}path")
            ]
            if shapes:
                definitions = ElementTree.Element("defs")
                definitions.extend(shapes)
                yield definitions
        elif tag == "text":
            yield _text(element.text or "", known)
        elif tag in ("path", "use"):
            place: dict[str, str] = {
                n: known[n] if n == "href" else _short(known[n])
                for n in ("href", "d", "x", "y")
                if n in known
            }
            mark = next(marks, None)
            if mark is None:
                colour = re.search(r"stroke: (#\w+)", known["style"])
                assert colour
                yield ElementTree.Element(tag, {"class": LINE_CLASSES[colour[1]], **place})
                continue
            attributes = {"class": mark.classes}
            if mark.key:
                attributes["data-t"] = one_line(mark.key)
            if mark.opacity < 1:
                attributes["fill-opacity"] = f"{mark.opacity:.2f}"
            shape = ElementTree.Element(tag, attributes | place)
            if mark.says:
                ElementTree.SubElement(shape, "title").text = one_line(mark.says)
            yield shape


def _text(content: str, known: dict[str, str]) -> ElementTree.Element:
    style = known["style"]
    colour = re.search(r"fill: (#\w+)", style)
    anchor = re.search(r"text-anchor: (\w+)", style)
    assert colour
    classes = CLASSES[colour[1]]
    if anchor and anchor[1] != "start":
        classes += f" {anchor[1]}"
    place = {n: _short(known[n]) for n in ("x", "y")}
    if not known["transform"].startswith("rotate(-0 "):
        place["transform"] = _short(known["transform"])
    text = ElementTree.Element("text", {"class": classes, **place})
    text.text = content
    return text


def _short(numbers: str) -> str:
    """Numbers of a path to a tenth of a unit."""
    return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}", " ".join(numbers.split()))
