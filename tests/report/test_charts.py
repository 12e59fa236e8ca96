import itertools
import math
from xml.etree import ElementTree

import pytest

from siamtune.report.charts import (
    Cell,
    Frame,
    NameAxis,
    NumberAxis,
    RateAxis,
    Strand,
    axes,
    dot,
    drawing,
    heat_map,
    line,
    log_ticks,
    number_text,
    padded,
    parallel,
    round_ticks,
    shortened,
    text,
)

NASTY = '<script>alert("1")</script> & "quoted" \'too\''


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.61, 117.0])
@pytest.mark.parametrize("length", [1e-4, 0.37, 3.0, 29.0, 12345.0])
def test_round_ticks_are_few_even_multiples_within_the_axis(low: float, length: float) -> None:
    ticks = round_ticks(low, low + length)
    assert 2 <= len(ticks) <= 6
    assert low - 1e-9 * length <= ticks[0] <= ticks[-1] <= low + length * (1 + 1e-9)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    leading = steps[0] / 10 ** math.floor(math.log10(steps[0] * (1 + 1e-6)))
    assert round(leading, 3) in (1, 2, 5)


def test_log_ticks_are_powers_of_ten_and_more_between_where_there_are_few() -> None:
    assert log_ticks(1e-4, 1e-1) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
    assert log_ticks(3e-4, 1e-2) == pytest.approx([3e-4, 1e-3, 3e-3, 1e-2])
    assert log_ticks(16, 128) == pytest.approx([20, 50, 100])


def test_an_axis_of_one_value_has_its_middle_and_one_tick() -> None:
    for log in (False, True):
        axis = NumberAxis("x", 3.0, 3.0, log)
        assert axis.at(3.0) == 0.5
        assert axis.ticks() == [(0.5, "3")]


def test_a_logarithmic_axis_has_its_geometric_mean_in_the_middle() -> None:
    assert NumberAxis("lr", 1e-4, 1e-2, log=True).at(1e-3) == pytest.approx(0.5)
    assert NumberAxis("lr", 1e-4, 1e-2).at(1e-3) == pytest.approx(0.0909, abs=1e-4)


def test_a_whole_axis_has_whole_ticks_only() -> None:
    assert [tick for _, tick in NumberAxis("epoch", 1, 3, whole=True).ticks(14)] == ["1", "2", "3"]
    assert len(NumberAxis("epoch", 1, 3).ticks(14)) > 3


def test_names_share_the_axis_and_stand_in_the_middle_of_their_share() -> None:
    axis = NameAxis("loss", ("a", "b"))
    assert [axis.at(name) for name in axis.names] == [0.25, 0.75]


def test_a_frame_puts_the_ends_of_its_axes_at_its_corners() -> None:
    frame = Frame(NumberAxis("x", 1, 2), NumberAxis("y", 10, 20))
    assert (frame.px(1), frame.py(10)) == (frame.left, frame.height - frame.bottom)
    assert (frame.px(2), frame.py(20)) == (frame.width - frame.right, frame.top)


def test_everything_drawn_is_well_formed_and_what_is_handed_over_stays_text() -> None:
    frame = Frame(NameAxis(NASTY, (NASTY, "b")), NumberAxis(NASTY, 0, 1))
    marks = [
        axes(frame),
        line([(1, 2), (3, 4)], "best", says=NASTY, key=NASTY),
        dot(1, 2, "stopped", says=NASTY, key=NASTY),
        text(0, 0, NASTY, "tick"),
    ]
    strands = [Strand((0.1, 0.9), "complete", NASTY, NASTY)]
    cell = {(0, 0): Cell(0.9, NASTY, NASTY, NASTY)}
    for svg in (
        drawing(100, 100, marks, NASTY),
        parallel([frame.x, frame.y], strands, NASTY),
        heat_map([NASTY, "b"], ["1"], cell, labels=(NASTY, NASTY), says=NASTY),
    ):
        assert "<script" not in svg
        tree = parsed(svg)
        assert tree.get("aria-label") == NASTY
        assert any(NASTY[:9] in (element.text or "") for element in tree.iter())


def test_a_line_goes_through_its_points_in_order() -> None:
    path = parsed(line([(1, 2), (3.25, 4), (5, 6)], "best"))
    assert path.get("d") == "M1.0 2.0L3.2 4.0L5.0 6.0"


def test_a_field_without_a_cell_is_empty() -> None:
    cells = {(0, 1): Cell(1.0, "0.9", "of 3", "a")}
    tree = parsed(heat_map(["r"], ["1", "2"], cells, labels=("", ""), says=""))
    assert [box.get("class") for box in tree.iter("rect")] == ["nothing", "cell"]


def test_padding_shows_all_values_even_where_they_are_one() -> None:
    for values in ([0.5, 0.9], [0.7], [0.0]):
        low, high = padded(values)
        assert low < min(values) <= max(values) < high


def test_numbers_are_short_and_long_words_end_in_an_ellipsis() -> None:
    assert [number_text(v) for v in (0.001, 64.0, 3e-05, 20000.0)] == [
        "0.001", "64", "3e-05", "2e+04",
    ]  # fmt: skip
    assert shortened("multisimilarity", 9) == "multisim…"
    assert shortened("relu", 4) == "relu"


def test_rates_lie_by_their_normal_deviates() -> None:
    axis = RateAxis("false accepts", 0.02275, 0.97725)  # two standard deviations to either side
    assert [axis.at(rate) for rate in (0.02275, 0.5, 0.97725)] == pytest.approx([0, 0.5, 1])
    assert axis.at(0.158655) == pytest.approx(0.25, abs=1e-4)  # one of them
    assert (axis.at(0.0), axis.at(1.0)) == (0.0, 1.0)
    assert [text for _, text in axis.ticks()] == ["5%", "20%", "50%", "80%"]
