"""The frame of the benchmarks: a result file, its table, and a regression that shows."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest

if TYPE_CHECKING:
    from table import Played

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([2.0, 2.1, 2.2], [2.6, 2.7, 2.8], "worse"),
        ([2.0, 2.1, 2.2], [1.0, 1.1, 1.2], "better"),
        ([2.0, 2.1, 2.9], [2.6, 2.7, 2.8], ""),  # within the spread
    ],
)
@pytest.mark.parametrize("better", ["less", "more"])
def test_a_regression_beyond_the_spread_is_marked(
    before: list[float],
    after: list[float],
    said: str,
    better: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from measuring import Figure, read_result, table, write_result

    if better == "more":
        said = {"worse": "better", "better": "worse", "": ""}[said]
    files = tmp_path / "before.json", tmp_path / "after.json"
    for path, ratios in zip(files, (before, after), strict=True):
        ours = [ratio * 4 for ratio in ratios]
        write_result(path, [Figure("S0 what", "theirs", "s", ours, [4.0] * 3, better, goal=2.15)])
    conditions, figures = read_result(files[0])
    assert conditions["versions"]["python"] == sys.version.split()[0]
    reached = "yes" if better == "less" else "no"  # 2.1 is less than 2.15
    assert table(figures).splitlines()[-1].endswith(f"[{before[0]:g}, {before[-1]:g}], 3x "
                                                    f"| {'<=' if better == 'less' else '>='} 2.15 "
                                                    f"| {reached} |")  # fmt: skip
    told = subprocess.run(
        [sys.executable, BENCHMARKS / "compare", *files], capture_output=True, text=True
    )
    assert told.returncode == (said == "worse"), told.stderr
    (line,) = [line for line in told.stdout.splitlines() if "S0 what" in line]
    assert line.endswith(f"| {said} |")


SPACE = """
version: 1
study: {trials: 60, scheduler: {SCHEDULER}, sampler: {random: {}}, seed: 0}
fixed: {epochs: 9}
space:
  optim.lr: {float: [1e-4, 1e-2], log: true}
  loss.name: {choice: [supcon, contrastive]}
  loss.margin: {float: [0.2, 2.0], when: {loss.name: contrastive}}
"""


def test_a_search_is_played_on_a_table_that_a_run_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot's time is the sum of its epochs; ASHA ends trials at its rungs, and is sooner."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import numpy as np
    from table import Siamtune, load, play, record

    from siamtune.search.records import Recorder
    from siamtune.search.runs import new_run
    from siamtune.search.space import load_space

    rng = np.random.default_rng(0)
    spaces = {}
    for name, scheduler in {"none": "none: {}", "asha": "asha: {min_epochs: 1, eta: 3}"}.items():
        (tmp_path / f"{name}.yaml").write_text(SPACE.replace("SCHEDULER", scheduler))
        spaces[name] = load_space(str(tmp_path / f"{name}.yaml"))
    run = new_run(tmp_path, "table", "none")
    run.facts_path.write_text('{"data": "patterns"}')
    run.space_path.write_text((tmp_path / "none.yaml").read_text())
    (run.folder / "environment.json").write_text('{"siamtune": "0"}')
    recorder = Recorder(run.trials_path)
    for number, lr in enumerate(10 ** rng.uniform(-4, -2, 40)):
        recorder.started(number, {"optim.lr": lr, "loss.name": "supcon"})
        for epoch in range(1, 10):
            auc = (0.9 - abs(np.log10(lr) + 3) / 4) * (1 - 0.7**epoch)
            metrics = {"epoch": epoch, "val/auc": auc, "val/f1": auc / 2, "seconds": 2.0}
            recorder.epoch(number, metrics)
            if number == 7 and epoch == 5:
                break  # not trained to its end: not in the table
        recorder.ended(number, "stopped" if number == 7 else "complete")
    recorder.close()
    assert record(str(run.folder), tmp_path / "table.json") == 39
    table = load(tmp_path / "table.json")
    assert table.auc.shape == table.f1.shape == (39, 9)
    assert table.provenance["data"] == "patterns"

    def played(name: str, trials: int, slots: int, until: float = 1.0) -> "Played":
        searcher = Siamtune(spaces[name])
        return play(table, spaces[name], searcher, trials=trials, slots=slots, until=until)

    whole = played("none", trials=20, slots=1)
    assert whole.epochs == (9,) * 20
    assert whole.seconds[-1] == 20 * 9 * 2.0
    assert played("none", trials=20, slots=4).seconds[-1] == 5 * 9 * 2.0
    cut = played("asha", trials=60, slots=4)
    assert len(cut.epochs) == 39  # each configuration once
    assert set(cut.epochs) <= {1, 3, 9}
    # Beside the first arrivals, one of three goes on at each rung.
    assert sum(length == 9 for length in cut.epochs) < 39 / 2
    goal = 0.99 * float(table.auc.max())
    full = played("none", trials=60, slots=4)
    assert cut.seconds[-1] < full.seconds[-1]
    # Played until the goal only, it ends there.
    assert played("none", trials=60, slots=4, until=goal).seconds[-1] == full.seconds_until(goal)

    from search_quality import OptunaTPE, RayOptunaASHA

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)
    for peer in (OptunaTPE(spaces["asha"], 0, pruner), RayOptunaASHA(spaces["asha"], 0, 9)):
        theirs = play(table, spaces["asha"], peer, trials=30, slots=2)
        assert set(theirs.epochs) <= {2, 6, 9}
        assert 0.85 * goal < theirs.best[-1] <= table.auc.max()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_driver_is_played_as_a_search_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from driver import LONG_CONTENDERS, TRIALS_A_TURN, Played, Siamtune, history

    from siamtune.search.records import read_records
    from siamtune.search.space import load_space

    (tmp_path / "space.yaml").write_text(SPACE.replace("SCHEDULER", "asha: {min_epochs: 4}"))
    space = load_space(str(tmp_path / "space.yaml"))
    past = history(space, 30)
    ours = Siamtune(tmp_path, space, past)
    for contender in (ours, LONG_CONTENDERS["Optuna alone"](tmp_path, space, past)):
        assert Played(contender).results_per_s() > 0
    records = read_records(ours.run.trials_path)
    assert sum(record.ended_for_good for record in records.values()) >= 30 + TRIALS_A_TURN


def test_each_peer_is_measured_beside_ours_and_one_that_fails_loses_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from measuring import side_by_side

    asked: list[str] = []

    def measure(name: str, most: int = 9) -> float:
        asked.append(name)
        if asked.count(name) > most:
            subprocess.run([sys.executable, "-c", "1 / 0"], check=True, stderr=-1, text=True)
        return float(asked.count(name))

    values = side_by_side(
        lambda: measure("ours"),
        {"good": lambda: measure("good"), "bad": lambda: measure("bad", 1)},
        repeats=3,
    )
    assert values == {"good": ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])}
    assert asked == ["ours", "good", "bad", "good", "bad", "ours", "ours", "good"]
    assert "bad: failed and is left out: ZeroDivisionError: division by zero" in (
        capsys.readouterr().err
    )
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda: 1 / 0, {"good": lambda: 1.0})


def test_contenders_for_equal_time_are_spaces_and_differ_in_what_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import yaml
    from equal_time import LONG, contenders

    from siamtune.config import DEFAULTS
    from siamtune.report.evidence import SEED, SIAMTUNE
    from siamtune.search.space import complete, load_space

    spaces = {}
    for name, content in contenders(trial_epochs=7, long_epochs=70).items():
        path = tmp_path / f"{len(spaces)}.yaml"
        path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
        spaces[name] = load_space(str(path))
    ours, random = spaces["siamtune"], spaces["random"]
    assert (ours.dimensions, ours.fixed, ours.start) == (random.dimensions, random.fixed, ())
    assert (ours.study.sampler, ours.study.scheduler.name) == ("tpe", "asha")
    assert (random.study.sampler, random.study.scheduler.name) == ("random", "none")
    for name, epochs in {SIAMTUNE: 7, LONG: 70}.items():
        (dimension,) = spaces[name].dimensions
        assert dimension.choices == (DEFAULTS["optim.lr"],)
        config = complete(spaces[name], {"optim.lr": DEFAULTS["optim.lr"]})
        assert {**DEFAULTS, **config} == {**DEFAULTS, "epochs": epochs}
    assert spaces[SEED].fixed["model.architecture"] == "hani"
    assert spaces[SEED].fixed["epochs"] == 7


def test_the_ablation_takes_back_all_that_sets_the_best_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from ablation import STEPS

    from siamtune.config import DEFAULTS, flatten, trial_config
    from siamtune.search.config_file import read_config
    from siamtune.search.shipped import find_config

    best = flatten(trial_config(read_config(find_config(Path("lfw")))))
    assert {dial for dial in DEFAULTS if best[dial] != DEFAULTS[dial]} == {*STEPS, "epochs"}
