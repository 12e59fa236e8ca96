import re
from collections.abc import Sequence
from statistics import NormalDist
from xml.etree import ElementTree

import pytest

from siamtune.report.charts import (
    Axis,
    Cell,
    Chart,
    Mark,
    NameAxis,
    NumberAxis,
    RateAxis,
    bars,
    chart,
    dots,
    heat_map,
    lines,
    padded,
    parallel,
    svg,
)
from siamtune.report.table import shortened

NASTY = '<script>alert("1")</script> & $\\frac{1}{$ "quoted" \'too\' \x1b[31m \ud800 顔'
PLAIN = NASTY.replace("\x1b", " ").replace("\ud800", " ")


def parsed(drawn: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(svg(drawn, "a chart", "says"))


def marked(drawn: Chart, name: str) -> list[ElementTree.Element]:
    return [e for e in parsed(drawn).iter() if name in e.get("class", "").split()]


def numbers(path: ElementTree.Element) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path.get("d") or "")]


def across(axis: Axis, values: Sequence[float]) -> list[float]:
    """Where points stand on a horizontal axis of 272 units, 0 to 1."""
    drawn = chart(axis, NumberAxis("", 0, 1))
    dots(drawn, [(value, 0.5, Mark("dot")) for value in values])
    return [(float(dot.get("x") or "nan") - 54) / 272 for dot in marked(drawn, "dot")]


def ticks(axis: Axis, width: float = 340) -> list[str]:
    drawn = chart(axis, NumberAxis("", 0, 1), width)
    return [e.text or "" for e in marked(drawn, "tick") if "middle" in (e.get("class") or "")]


def test_points_and_lines_lie_where_the_paper_says() -> None:
    drawn = chart(NumberAxis("x", 1, 3), NumberAxis("y", 10, 20), 340, 232)
    lines(drawn, [([(1, 10), (2, 15), (3, 20)], Mark("line best"))])
    dots(drawn, [(1, 20, Mark("dot a")), (3, 10, Mark("dot b"))])
    (line,) = marked(drawn, "line")
    assert numbers(line) == pytest.approx([54, 182, 190, 97, 326, 12])
    assert [(d.get("x"), d.get("y"), d.get("class")) for d in marked(drawn, "dot")] == [
        ("54", "12", "dot a"), ("326", "182", "dot b"),
    ]  # fmt: skip


def test_marks_keep_their_trial_and_their_tooltip_in_order_and_later_ones_lie_on_top() -> None:
    drawn = chart(NumberAxis("x", 0, 9), NumberAxis("y", 0, 1))
    many = [(at, 0.5, Mark("dot", f"trial {at}", str(at))) for at in range(9)]
    dots(drawn, many)
    dots(drawn, many[:1], radius=5)
    lines(drawn, [([(0, 0), (n, 1)], Mark("line", f"line {n}", f"{n}")) for n in range(1, 4)])
    lines(drawn, [([(0, 0)], Mark("line", "a point is no line", "9"))])
    told = [(e.get("data-t"), e.findtext("title")) for e in parsed(drawn) if e.get("data-t")]
    assert told[:10] == [(str(n), f"trial {n}") for n in [*range(9), 0]]
    assert told[10:] == [("1", "line 1"), ("2", "line 2"), ("3", "line 3")]


def test_a_logarithmic_axis_has_its_geometric_mean_in_the_middle() -> None:
    assert across(NumberAxis("lr", 1e-4, 1e-2, log=True), [1e-3]) == pytest.approx([0.5])
    assert across(NumberAxis("lr", 1e-4, 1e-2), [1e-3]) == pytest.approx([0.0909], abs=1e-3)


@pytest.mark.parametrize(
    ("axis", "shown"),
    [
        (NumberAxis("", 1e-4, 1e-1, log=True), ["0.0001", "0.001", "0.01", "0.1"]),
        (NumberAxis("", 3e-4, 1e-2, log=True), ["0.0003", "0.001", "0.003", "0.01"]),
        (NumberAxis("", 16, 128, log=True), ["20", "50", "100"]),
        (NumberAxis("", 0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (NumberAxis("", 0.9101, 0.9109), ["0.9102", "0.9104", "0.9106", "0.9108"]),
    ],
)
def test_ticks_are_few_and_round(axis: NumberAxis, shown: list[str]) -> None:
    assert ticks(axis) == shown


def test_a_whole_axis_has_whole_ticks_only() -> None:
    assert ticks(NumberAxis("epoch", 1, 3, whole=True), 1050) == ["1", "2", "3"]
    assert len(ticks(NumberAxis("epoch", 1, 3), 1050)) > 3


@pytest.mark.parametrize("log", [False, True])
def test_an_axis_of_one_value_has_its_middle_and_one_tick(log: bool) -> None:
    axis = NumberAxis("x", 3.0, 3.0, log)
    assert across(axis, [3.0]) == pytest.approx([0.5])
    assert ticks(axis) == ["3"]


def test_names_share_the_axis_and_stand_in_the_middle_of_their_share() -> None:
    axis = NameAxis("loss", ("a", "b"))
    assert across(axis, [0, 1]) == pytest.approx([0.25, 0.75])
    assert ticks(axis) == ["a", "b"]


def test_long_names_stand_in_two_lines_and_are_shortened() -> None:
    drawn = chart(NameAxis("loss", ("multisimilarity" * 2,) * 4), NumberAxis("", 0, 1))
    names = [e for e in marked(drawn, "tick") if "middle" in (e.get("class") or "")]
    heights = [float(e.get("y") or "nan") for e in names]
    assert heights == pytest.approx([heights[0], heights[0] + 12] * 2)
    assert {e.text for e in names} == {shortened("multisimilarity" * 2, 20)}


def test_rates_lie_by_their_normal_deviates() -> None:
    axis = RateAxis("false accepts", 0.02275, 0.97725)  # two standard deviations to either side
    normal = NormalDist()
    rates = [normal.cdf(z) for z in (-2, -1, 0, 2)]
    assert across(axis, rates) == pytest.approx([0, 0.25, 0.5, 1], abs=1e-3)
    assert ticks(axis) == ["5%", "20%", "50%", "80%"]


def test_strands_go_through_their_values_on_every_axis() -> None:
    columns = [
        NumberAxis("lr", 1e-4, 1e-2, log=True), NameAxis("loss", ("a", "b")), NumberAxis("y", 2, 4)
    ]  # fmt: skip
    drawn = parallel(columns, [([1e-3, "a", 2.0], Mark("line")), ([1e-4, "b", 4.0], Mark("line"))])
    # From 34 down to 270, the axes 118 apart.
    assert [numbers(e) for e in marked(drawn, "line")] == [
        pytest.approx([62, 152, 180, 93, 298, 270]),
        pytest.approx([62, 270, 180, 211, 298, 34]),
    ]


def test_a_field_stands_in_its_row_and_column_and_without_a_cell_it_is_empty() -> None:
    drawn = heat_map(["r", "s"], ["1", "2"], {(1, 1): Cell(1.0, "0.9", "of 3", "a")}, ("", ""))
    assert len(marked(drawn, "nothing")) == 3
    (cell,) = marked(drawn, "cell")
    assert cell.get("fill-opacity") == "0.95"
    (value,) = marked(drawn, "inside")
    across, up = numbers(cell)[::2], numbers(cell)[1::2]
    assert min(across) < float(value.get("x") or "nan") < max(across)
    assert min(up) < float(value.get("y") or "nan") < max(up)
    empty = [numbers(e) for e in marked(drawn, "nothing")]
    assert all(max(e[::2]) < max(across) or max(e[1::2]) < max(up) for e in empty)


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = bars(["a", "b"], [0.75, 0.25], [Mark("bar"), Mark("bar pale")], 340)
    ends = [numbers(bar)[::2] for bar in marked(drawn, "bar")]
    lengths = [max(xs) - min(xs) for xs in ends]
    assert lengths[0] == pytest.approx(3 * lengths[1], rel=0.01)
    assert [e.text for e in marked(drawn, "tick")] == ["a", "b", "75%", "25%"]


def test_whatever_is_handed_over_stays_text() -> None:
    plain = chart(NameAxis(NASTY, (NASTY, "b")), NumberAxis(NASTY, 0, 1))
    lines(plain, [([(0, 0), (1, 1)], Mark("line best", NASTY, NASTY))])
    dots(plain, [(0, 1, Mark("dot stopped", NASTY, NASTY))])
    strands = [([NASTY, 0.9], Mark("line", NASTY, NASTY))]
    cell = {(0, 0): Cell(0.9, NASTY, NASTY, NASTY)}
    for drawn in (
        plain,
        parallel([NameAxis(NASTY, (NASTY,)), NumberAxis(NASTY, 0, 1)], strands),
        heat_map([NASTY, "b"], ["1"], cell, (NASTY, NASTY)),
        bars([NASTY, "b"], [0.5, 0.5], [Mark("bar", NASTY)] * 2, 340),
    ):
        content = svg(drawn, NASTY, NASTY)
        assert "<script" not in content
        tree = ElementTree.fromstring(content)
        assert tree.get("aria-label") == PLAIN
        assert {e.text for e in tree.iter("title")} - {"never measured"} == {PLAIN}
        assert any((e.text or "").startswith(PLAIN[:9]) for e in tree.iter("text"))


def test_equal_charts_are_equal_and_no_two_of_a_page_share_an_id() -> None:
    drawn = chart(NumberAxis("x", 0, 1), NumberAxis("y", 0, 1))
    dots(drawn, [(0.1 * at, 0.5, Mark("dot")) for at in range(9)])
    first, again, other = (svg(drawn, name, "") for name in ("one", "one", "other"))
    assert first == again
    ids = [set(re.findall(r' id="([^"]+)"', content)) for content in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r' href="#([^"]+)"', first)) == ids[0]


def test_colours_come_from_the_page() -> None:
    drawn = chart(NumberAxis("x", 0, 1), NumberAxis("y", 0, 1))
    dots(drawn, [(0.5, 0.5, Mark("dot"))])
    content = svg(drawn, "one", "")
    assert "style" not in content
    assert not re.search(r"#[0-9a-f]{6}\b", content.replace('"#', ""))
    known = {"chart", "grid", "axis", "dot", "tick middle", "tick end", "label middle"}
    assert set(re.findall(r'class="([^"]+)"', content)) == known


def test_padding_shows_all_values_even_where_they_are_one() -> None:
    for values in ([0.5, 0.9], [0.7], [0.0]):
        low, high = padded(values)
        assert low < min(values) <= max(values) < high


def test_long_words_end_in_an_ellipsis() -> None:
    assert shortened("multisimilarity", 9) == "multisim…"
    assert shortened("relu", 4) == "relu"
