import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest

from siamtune.report import findings
from siamtune.report.evidence import SIAMTUNE, Evidence, default_trials
from siamtune.report.page import report_page
from siamtune.report.pairs import PairPicture
from siamtune.report.standing import Standing
from siamtune.search.dimensions import ChoiceDimension, Dimension, FloatDimension, IntDimension
from siamtune.search.history import History
from siamtune.search.records import TrialRecord
from siamtune.search.runs import Run
from siamtune.search.settings import Objective, Scheduler, StudySettings
from siamtune.search.space import Space
from siamtune.verification.bootstrap import Interval

NASTY = '<script>alert("x")</script><img src=http://evil/> & \x1b[31m"quoted" \'too\''
VOID = {"meta", "br", "img", "link", "hr", "input"}
WRITTEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
DIMENSIONS: tuple[Dimension, ...] = (
    FloatDimension("optim.lr", 1e-4, 1e-2, log=True),
    FloatDimension("data.crop_factor", 0.75, 1.5, step=0.25),
    ChoiceDimension("data.normalization", ("minmax", "lcn", NASTY)),
    ChoiceDimension("data.images_per_person", (2, None)),
    IntDimension("loss.margin", 1, 1),
    FloatDimension("loss.temperature", 0.03, 0.5, log=True, when={"loss.name": ("supcon",)}),
)


class Page(HTMLParser):
    """A page taken apart; its tags must close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.sections: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.marks: dict[str, int] = {}
        self._section = "header"
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [
            v or "" for n, v in attrs if n in ("src", "href", "xlink:href", "action")
        ]
        if "id" in known:
            self.ids.append(known["id"] or "")
        if tag == "h2":
            self._section = known["id"] or ""
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"] or ""
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if "data-t" in known:
            self.marks[known["data-t"] or ""] = self.marks.get(known["data-t"] or "", 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes nothing"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
            return
        if self.open[-1:] == ["style"]:
            assert "url(" not in data
            assert "@import" not in data
            return
        self.sections[self._section] = self.sections.get(self._section, "") + data
        if "td" in self.open:
            self.rows[-1][-1] += data


def trial(number: int, state: Any, *values: float, **changes: Any) -> TrialRecord:
    config = {
        "optim.lr": 10 ** -(2 + number % 3), "data.crop_factor": 0.75 + 0.25 * (number % 4),
        "data.normalization": ("minmax", "lcn", NASTY)[number % 3],
        "data.images_per_person": (2, None)[number % 2], "loss.margin": 1,
    }  # fmt: skip
    epochs = tuple(
        {"epoch": at, "val/auc": v, "val/f1": v - 0.1, "val/eer": 1 - v, "seconds": 60.0}
        for at, v in enumerate(values, start=1)
    )
    return TrialRecord(number, state, config, epochs, changes.get("reason"))


def history(*trials: TrialRecord, name: str = "faces", mode: str = "max", **facts: Any) -> History:
    space = Space(Objective("val/auc", mode), StudySettings(), {"epochs": 3}, (), DIMENSIONS)
    known = {"data": "demo", "protocol": "identity-holdout", "split": "5b1e", "trials": 9}
    return History(Run(Path("runs") / name), known | facts, space, {t.number: t for t in trials})


def page(*trials: TrialRecord, evidence: Evidence | None = None, **facts: Any) -> Page:
    return Page(
        report_page(history(*trials, **facts), evidence or Evidence(), {"python": NASTY}, WRITTEN)
    )


def many(count: int) -> list[TrialRecord]:
    random = Random(0)
    return [
        trial(n, "complete", *(random.uniform(0.5, 1) for _ in range(3)))
        if n % 3
        else trial(n, "stopped", random.uniform(0.5, 0.7))
        for n in range(count)
    ]


MIXED = (
    trial(0, "complete", 0.7, 0.81234, 0.8),
    trial(1, "complete", 0.7, 0.9, 0.91567),
    trial(2, "stopped", 0.95),
    trial(3, "running", 0.6),
    trial(4, "running"),
    trial(5, "failed", reason="no such file"),
    trial(6, "collapsed", 0.5, reason=NASTY),
    trial(7, "interrupted", 0.5, 0.6),
)


def test_the_leaderboard_holds_the_numbers_of_the_record_best_first() -> None:
    shown = page(*MIXED)
    board = [row for row in shown.rows if len(row) > 2 and row[0] in ("1", "2", "3")][:3]
    assert [row[1:6] for row in board] == [
        ["1", "complete", "3/3", "0.9157", "0.8157"],
        ["0", "complete", "3/3", "0.8123", "0.7123"],
        ["2", "stopped", "1/3", "0.9500", "0.8500"],
    ]


def test_the_header_tells_what_the_numbers_are_of_and_what_still_runs() -> None:
    header = page(*MIXED).sections["header"]
    assert "validation people of demo, identity-holdout, split 5b1e" in header
    assert "As it stood on 2026-01-02 03:04 UTC. 2 trials still ran" in header
    assert "0.9157AUC of the best: trial 1, epoch 3" in header
    assert "8 of 9trials: 2 running, 2 complete, 1 stopped, 1 interrupted" in header
    assert "10 min 00 s" not in header
    assert "11 min 00 s" in header  # each epoch a minute


def test_the_header_names_the_front_of_two_objectives() -> None:
    one = history(trial(0, "complete", 0.9), trial(1, "complete", 0.8))
    flipped = trial(2, "complete", 0.7)
    worst = replace(flipped, epochs=({**flipped.epochs[0], "val/eer": 0.5},))
    objective = Objective("val/auc", "max", Objective("val/eer", "max"))
    two = replace(
        one,
        space=replace(one.space, objective=objective),
        records={**one.records, 2: replace(worst, number=2)},
    )
    header = Page(report_page(two, Evidence(), {}, WRITTEN)).sections["header"]
    # Trial 2 has a higher EER than trial 1, the larger the better here, and 1 a higher one than 0.
    assert "not beaten in both: trials 0, 1, 2" in header
    assert "val/auc, the larger the better; val/eer, the larger the better" in header
    beaten = replace(two, records={0: one.records[0], 1: replace(one.records[0], number=1,
                     epochs=({**one.records[0].epochs[0], "val/auc": 0.8},))})  # fmt: skip
    header = Page(report_page(beaten, Evidence(), {}, WRITTEN)).sections["header"]
    assert "not beaten in both: trials 0" in header
    assert "trials 0, 1" not in header


def test_every_trial_is_a_row_with_its_state_and_its_reason() -> None:
    rows = [row for row in page(*MIXED).rows if len(row) == 7 + len(DIMENSIONS)]
    assert [row[0] for row in rows] == [str(n) for n in range(8)]
    assert rows[5][1] == "failed"
    assert rows[5][-1] == "no such file"
    assert rows[4][3:6] == ["", "", "0"]


def test_costs_are_the_sums_of_the_epochs() -> None:
    shown = page(*MIXED)
    cost = {row[0]: row[1:4] for row in shown.rows if len(row) == 5}
    assert cost["complete"] == ["2", "6", "6 min 00 s"]
    assert cost["stopped"] == ["1", "1", "1 min 00 s"]
    assert "would have been 24 epochs; 11 were trained" in shown.sections["cost"]


@pytest.mark.parametrize(
    "trials",
    [
        (),
        MIXED,
        MIXED[:1],
        MIXED[2:3],
        MIXED[3:4],
        MIXED[4:5],
        MIXED[5:6],
        (trial(0, "invalid", reason=NASTY), trial(1, "out_of_memory", reason=None)),
        tuple(many(30)),
        tuple(trial(n, "complete", 1.0, 1.0, 1.0) for n in range(24)),
        tuple(replace(trial(n, "complete", 0.5 + n / 99), config={}) for n in range(24)),
    ],
    ids=["empty", "mixed", "one", "stopped", "running", "begun", "failed", "broken", "many",
         "equal", "left behind"],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["max", "min"])
def test_any_run_gives_a_whole_page_that_asks_for_nothing(
    trials: tuple[TrialRecord, ...], mode: str
) -> None:
    html = report_page(history(*trials, name=NASTY, mode=mode, data=NASTY), Evidence(), {}, WRITTEN)
    shown = Page(html)
    assert all(a.startswith("#") and a[1:] in shown.ids for a in shown.addresses)
    assert len(shown.ids) == len(set(shown.ids))
    assert not shown.handlers
    assert "\x1b" not in html
    (script,) = shown.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert shown.policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in shown.policy
    assert "nan" not in re.findall(r"[a-z]+", " ".join(re.findall(r' d="([^"]*)"', html)).lower())


def standing(auc: float, *, curve: tuple[tuple[float, float], ...] = ()) -> Standing:
    metrics = {"auc": auc, "accuracy": auc - 0.1, "f1": auc - 0.2, "eer": 1 - auc}
    intervals = {"auc": Interval(auc - 0.02, auc + 0.01)}
    return Standing(600, metrics, intervals, curve or ((0.0, 0.0), (0.1, auc), (1.0, 1.0)))


PICTURE = PairPicture(b"jpeg", b"jpeg", f"{NASTY} · p1", "score 0.9, threshold 0.5")
KNOWN = Evidence(
    {1: standing(0.91567), 0: standing(0.81234)},
    {SIAMTUNE: (0, standing(0.81234))},
    {
        "chance": standing(0.5), "hog/cosine": standing(0.6), "hog/logistic": standing(0.7),
        "untrained/cosine": standing(0.55),
    },
    (PICTURE,), (PICTURE, PICTURE), (NASTY,),
)  # fmt: skip


def test_finalists_stand_beside_the_baselines_with_intervals_and_protocol() -> None:
    shown = page(*MIXED, evidence=KNOWN)
    rows = {row[0]: row[1:] for row in shown.rows if row}
    assert rows["trial 1"] == ["0.9157 [0.896, 0.926]", "0.8157", "0.7157", "0.0843"]
    assert rows[f"{SIAMTUNE}, trial 0"][0] == "0.8123 [0.792, 0.822]"
    baselines = [
        row[0] for row in shown.rows if row and row[0].startswith(("HOG", "unt", "chance"))
    ]
    assert baselines == [
        "HOG, logistic regression", "HOG, cosine", "untrained network, cosine", "chance",
    ]  # fmt: skip
    text = shown.sections["comparison"]
    assert "the same 600 pairs of validation people of demo, identity-holdout, split 5b1e" in text
    assert "Not among the complete trials: the 2016 seed's default" in text
    assert "Missing: <script>" in text
    html = report_page(history(*MIXED), KNOWN, {}, WRITTEN)
    # Of HOG the better way to score is drawn; chance is the diagonal.
    drawn = set(re.findall(r'<path class="line baseline[^>]*><title>([^:]*):', html))
    assert drawn == {"HOG, logistic regression", "untrained network, cosine"}


def test_the_leaderboard_and_the_header_have_the_intervals_that_are_known() -> None:
    shown = page(*MIXED, evidence=KNOWN)
    board = [row for row in shown.rows if len(row) > 2 and row[0] in ("1", "2", "3")][:3]
    assert [row[4] for row in board] == ["0.9157 [0.896, 0.926]", "0.8123 [0.792, 0.822]", "0.9500"]
    assert (
        "AUC of the best: trial 1, epoch 3; [0.896, 0.926] over people" in shown.sections["header"]
    )


def test_mistakes_are_shown_as_faces_with_what_was_said_of_them() -> None:
    shown = page(*MIXED, evidence=KNOWN)
    text = shown.sections["mistakes"]
    assert "Two people taken for one" in text
    assert text.count("score 0.9, threshold 0.5") == 3
    assert "img-src data:;" in shown.policy
    pictures = [a for a in shown.addresses if a.startswith("data:")]
    assert pictures == ["data:image/jpeg;base64,anBlZw=="] * 6
    assert "mistakes" not in page(*MIXED).sections


def test_what_others_wrote_stays_text() -> None:
    shown = page(*MIXED, name=NASTY, data=NASTY, command=["search", NASTY], people={NASTY: NASTY})
    assert len(shown.scripts) == 1
    plain = NASTY.replace("\x1b", " ")
    for section in ("header", "failures", "trials", "setting"):
        assert plain in shown.sections[section]


def test_every_mark_belongs_to_a_trial_whose_row_tells_it() -> None:
    shown = page(*MIXED)
    assert set(shown.marks) == {str(t.number) for t in MIXED}
    html = report_page(history(*MIXED), Evidence(), {}, WRITTEN)
    told = re.findall(r'<tr data-t="(\d+)" data-says="([^"]*)"', html)
    assert len(told) == len(MIXED)
    assert told[1][1].startswith("trial 1 · complete at epoch 3/3 · AUC 0.9157 · F1 0.8157 · lr")


def test_a_search_of_one_trial_gives_no_advice_it_cannot_give() -> None:
    shown = page(MIXED[0])
    assert "4 complete trials or more are needed, and there are 1" in shown.sections["next"]
    assert "and there are 1" in shown.sections["importance"]
    assert "parallel" not in shown.sections


def test_failures_alone_are_told_and_nothing_is_drawn() -> None:
    shown = page(MIXED[5])
    assert "No trial got as far as a measurement" in shown.sections["leaderboard"]
    assert "no such file" in shown.sections["failures"]
    assert not {"curves", "slices", "fields", "parallel"} & set(shown.sections)


def test_with_enough_trials_every_part_is_there() -> None:
    shown = page(*many(30))
    assert set(shown.sections) >= {
        "next", "leaderboard", "curves", "importance", "slices", "fields", "parallel", "cost",
        "trials", "setting",
    }  # fmt: skip
    assert "15 more stand below" in shown.sections["leaderboard"]
    assert "never tried to the end" not in shown.sections["importance"]


def test_a_default_that_was_stopped_early_is_no_default() -> None:
    space = Space(Objective(), StudySettings(), {"epochs": 3}, (), ())
    stopped, whole = (
        History(
            Run(Path("runs/r")),
            {},
            space,
            {0: TrialRecord(0, state, {}, trial(0, state, 0.7).epochs)},
        )
        for state in ("stopped", "complete")
    )
    assert default_trials(stopped) == {}
    assert default_trials(whole) == {SIAMTUNE: 0}


def test_a_finalist_that_was_stopped_early_says_so_beside_its_numbers() -> None:
    shown = page(*MIXED, evidence=replace(KNOWN, trials={1: standing(0.9), 2: standing(0.8)}))
    names = [row[0] for row in shown.rows if row]
    assert "trial 1" in names
    assert "trial 2, stopped at 1/3" in names


def test_commands_can_be_copied() -> None:
    shown = page(*MIXED, evidence=KNOWN, command=["search", "--data", "my people"], name="my run")
    assert "siamtune search --data 'my people'" in shown.sections["header"]
    assert "siamtune report 'runs/my run' --train-defaults" in shown.sections["comparison"]
    assert "siamtune show 'runs/my run' 5" in shown.sections["failures"]


def test_a_page_of_very_many_trials_says_whom_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(findings, "MOST_DRAWN", 30)
    shown = page(*many(60))
    assert (
        "The best epoch of 30 of 60 trials (the best, and of the others some)"
        in (shown.sections["slices"])
    )
    assert "The other 30 stand in runs/faces/trials.jsonl" in shown.sections["trials"]
    # Every mark still belongs to a row.
    assert len(set(shown.marks)) == 30


def test_a_search_without_early_stops_says_so() -> None:
    space = Space(Objective(), StudySettings(scheduler=Scheduler("none")), {}, (), DIMENSIONS)
    whole = History(Run(Path("runs/r")), {}, space, {0: MIXED[0]})
    header = Page(report_page(whole, Evidence(), {}, WRITTEN)).sections["header"]
    assert "tpe, none stopped early" in header


def test_a_training_alone_has_a_page_too() -> None:
    space = Space(Objective(), StudySettings(trials=1), {"epochs": 3, "optim.lr": 0.1}, (), ())
    alone = History(Run(Path("runs/alone")), {}, space, {0: MIXED[0]})
    shown = Page(report_page(alone, Evidence(), {}, WRITTEN))
    assert "0.8123" in shown.sections["leaderboard"]
    # Nobody has searched, so there is nothing to say of a search.
    assert "next" not in shown.sections
    for word in ("proposed by", "many trials"):
        assert word not in shown.sections["header"]
