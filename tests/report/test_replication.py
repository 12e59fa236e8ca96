"""What replicas came to, as a terminal and a page show it."""

from rich.console import Console

from siamtune.report.page_replicas import replication_section
from siamtune.report.replication import replication_lines, replication_table
from siamtune.search.replicas import Estimate, Lead, ReplicaResult, Replicated, Replication


def estimate(value: float, margin: float | None) -> Estimate:
    return Estimate(value=value, margin=margin)


def result(number: int, state: str = "complete") -> ReplicaResult:
    return ReplicaResult.model_validate(
        {"replica": number, "seed": 1, "state": state, "reason": None, "epoch": 1, "value": 0.9}
    )


FOUND = Replication(
    time="2026-01-02T03:04:05+00:00", asked="3x2", metric="val/auc", mode="max", data="demo",
    protocol="identity-holdout", split="x", pairs=10, trials=40, seeds=(1, 2), seed_spread=0.01,
    over="seeds and people", winner=17,
    lead=Lead(trial=17, over=9, search=0.0041, replicated=estimate(-0.0007, 0.0031)),
    configurations=(
        Replicated(trial=9, place=2, search=0.9671, replicas=(result(1), result(4)), tied=True,
                   mean=estimate(0.9668, 0.0041), luck=estimate(0.0003, 0.0028)),
        Replicated(trial=17, place=1, search=0.9712, replicas=(result(0), result(3)), tied=True,
                   mean=estimate(0.9661, 0.0042), behind=estimate(0.0007, 0.0031),
                   luck=estimate(0.0051, 0.0028)),
        Replicated(trial=3, place=3, search=0.96, replicas=(result(2, "collapsed"),)),
    ),
)  # fmt: skip


def test_a_row_a_configuration_fits_a_terminal_of_eighty_columns() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(replication_table(FOUND, "*"))
    rows = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert rows == [
        "AUC, replicated 3x2 with seeds 1, 2 (± 95 % over seeds and people)",
        "trial search fresh seeds behind luck trained",
        "* 9 0.9671 0.9668 ± 0.0041 0.0003 ± 0.0028 2",
        "17 0.9712 0.9661 ± 0.0042 0.0007 ± 0.0031 0.0051 ± 0.0028 2",
        "3 0.9600 0, 1 collapsed",
    ]


def test_the_lines_say_who_is_tied_and_what_was_luck() -> None:
    tied, luck = replication_lines(FOUND)
    assert tied == "tied with trial 9: 17"
    assert luck == (
        "luck: trial 17 led the search with AUC 0.9712; with fresh seeds it has 0.9661 ± 0.0042: "
        "0.0051 ± 0.0028 of it was luck. Of its lead of 0.0041 over trial 9 fresh seeds leave "
        "-0.0007 ± 0.0031"
    )
    alone = FOUND.model_copy(update={"configurations": FOUND.configurations[:1], "winner": 9})
    assert replication_lines(alone)[0] == (
        "of no other configuration a replica was trained to an end: trial 9 is alone"
    )
    first, second, third = FOUND.configurations
    apart = FOUND.model_copy(
        update={"configurations": (first, second.model_copy(update={"tied": False}), third)}
    )
    assert replication_lines(apart)[0] == (
        "no other of the 2 that were trained is tied with trial 9"
    )


def test_the_page_has_a_row_a_configuration_or_no_section() -> None:
    page = replication_section(FOUND)
    assert page.count("<tr data-t=") == 3
    assert "<p>Tied with trial 9: 17.</p>" in page
    assert replication_section(None) == ""
