"""Whole searches on real Ray: small networks, small people, a few seconds each."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import ray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from siamtune.cli import search as verbs
from siamtune.cli.options import output_folder
from siamtune.config import flatten, trial_config
from siamtune.errors import ClusterError, DataError, InvalidInput, NoTrialSucceeded
from siamtune.launch import slots as room
from siamtune.launch.cluster import TrialResources, concurrent_trials, resolved
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.launch.mirror import mirrored
from siamtune.launch.preflight import versions
from siamtune.launch.replicate import _fetch_answers, plan_replication, replicate
from siamtune.launch.search import SearchOptions, SearchResult, run_search
from siamtune.launch.worker import run_trial
from siamtune.report.evidence import Evidence
from siamtune.report.live import print_final_table
from siamtune.report.page import report_page
from siamtune.report.table import result_document
from siamtune.search.config_file import read_config
from siamtune.search.history import History
from siamtune.search.records import Recorder, TrialRecord, best_epoch, read_records
from siamtune.search.replicas import Wish, read_replication, replicas_run
from siamtune.search.runs import Run, new_run
from siamtune.search.space import Space, load_space
from siamtune.search.stops import ask_to_stop
from siamtune.search.store import open_store
from siamtune.search.study import open_study
from siamtune.search.suggest import suggest
from siamtune.shipping.find import trial_checkpoint
from siamtune.training.checkpoint import read_checkpoint
from siamtune.verification.answers import fold_metrics
from siamtune.verification.kept import keep_answers, read_answers
from siamtune.verification.pairs import VerificationPairs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]

SPACE = """
version: 1
objective: {metric: val/auc, mode: max}
study: {trials: 8, scheduler: {asha: {min_epochs: 1, eta: 3}}, sampler: {tpe: {}}, seed: 0}
fixed:
  epochs: 3
  data.resolution_px: 16
  data.crop: none
  model.width: 0.5
  model.embedding_size: 16
  batch.images: 16
start: [{}]
space:
  loss.name: {choice: [contrastive, supcon]}
  loss.margin: {float: [0.5, 2.0], when: {loss.name: contrastive}}
  optim.lr: {float: [1e-5, 3e-2], log: true}
"""


class Watcher:
    """Remembers what a view is told."""

    def __init__(self) -> None:
        self.states: list[tuple[int, str, int]] = []

    def update(self, records: dict[int, TrialRecord], changed: TrialRecord) -> None:
        self.states.append((changed.number, changed.state, changed.epoch))

    def tick(self) -> None: ...

    def log(self, line: str) -> None: ...


class Killer(Watcher):
    """Kills a process of trial 0 after its second epoch, once."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        super().__init__()
        self.log_of_worker = folder / "trials" / "0000" / f"worker-{rank}.log"
        self.killed: int | None = None
        self.lines: list[str] = []

    def update(self, records: dict[int, TrialRecord], changed: TrialRecord) -> None:
        super().update(records, changed)
        if changed.number == 0 and changed.epoch == 2 and self.killed is None:
            self.killed = json.loads(self.log_of_worker.read_text())["pid"]
            os.kill(self.killed, signal.SIGKILL)

    def log(self, line: str) -> None:
        self.lines.append(line)


def space_of(folder: Path, text: str = SPACE) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(str(path))


def search(
    folder: Path,
    space: Space,
    pattern_people: Path,
    *,
    trials: int = 8,
    landmarks: str | None = None,
) -> tuple[SearchResult, Watcher]:
    watcher = Watcher()
    run = new_run(folder / "runs", "run", "test")
    result = run_search(
        run,
        space,
        DataSpec(str(pattern_people), landmarks=landmarks),
        {"data": "people", "protocol": "identity-holdout"},
        SearchOptions(trials=trials, concurrent=2),
        watcher,
    )
    return result, watcher


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, pattern_people: Path, ray_here: str
) -> tuple[SearchResult, Watcher, Space]:
    folder = tmp_path_factory.mktemp("search")
    space = space_of(folder)
    return *search(folder, space, pattern_people), space


def test_two_objectives_end_in_a_front(
    pattern_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = SPACE.replace("{metric: val/auc, mode: max}", "[val/auc, images_per_second]")
    space = space_of(tmp_path, two.replace("epochs: 3", "epochs: 2"))
    result, _ = search(tmp_path, space, pattern_people, trials=3)
    assert {record.state for record in result.records.values()} == {"complete"}
    result.run.facts_path.write_text("{}")
    document = result_document(result.run, result.records, space)
    study = open_study(result.run.journal_path, space)
    assert set(document["front"]) == {trial.number for trial in study.best_trials}
    measured = document["winner"]["best"]
    winner = study.trials[document["winner"]["trial"]]
    assert winner.values == [measured["val/auc"], measured["images_per_second"]]
    print_final_table(result.run, result.records, space)
    told = capsys.readouterr().out
    assert f"front, AUC and images/s: trials {', '.join(map(str, document['front']))}" in told


def test_every_trial_ends_in_an_honest_state(
    finished: tuple[SearchResult, Watcher, Space],
) -> None:
    result, watcher, _ = finished
    assert sorted(result.records) == list(range(8))
    assert {record.state for record in result.records.values()} <= {"complete", "stopped"}
    for record in result.records.values():
        epochs = [epoch["epoch"] for epoch in record.epochs]
        assert epochs == list(range(1, len(epochs) + 1))
        assert (record.state == "complete") == (len(epochs) == 3)
        assert [s for n, s, _ in watcher.states if n == record.number][-1] == record.state
    assert result.ended_early is None


def test_the_defaults_run_first(finished: tuple[SearchResult, Watcher, Space]) -> None:
    result, _, _ = finished
    assert result.records[0].config == {"loss.name": "supcon", "optim.lr": 1e-3}


def test_each_trial_leaves_the_answers_of_its_best_epoch(
    finished: tuple[SearchResult, Watcher, Space],
) -> None:
    result, _, _ = finished
    for number, record in result.records.items():
        kept = read_answers(result.run.folder, number)
        best = best_epoch(record, "val/auc", "max")
        assert kept is not None
        assert best is not None
        assert kept.epoch == best["epoch"]
        told = fold_metrics(kept.answers)
        assert {name: best[f"val/{name}"] for name in told} == told
    assert len(list(result.run.folder.glob("pairs-*.npz"))) == 1


def test_the_study_tells_the_same_story_as_the_record(
    finished: tuple[SearchResult, Watcher, Space],
) -> None:
    result, _, _ = finished
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(result.run.journal_path))
    )
    study = optuna.load_study(study_name="siamtune", storage=storage)
    names = {"complete": "COMPLETE", "stopped": "PRUNED"}
    for trial in study.trials:
        record = result.records[trial.number]
        assert trial.state.name == names[record.state]
        assert trial.params == record.config
        told = {int(epoch["epoch"]): epoch["val/auc"] for epoch in record.epochs}
        assert trial.intermediate_values == told
        if record.state == "complete":
            assert trial.value == max(told.values())
    assert result.winner is not None
    assert study.best_trial.number == result.winner.number


def test_the_record_on_disk_is_the_one_in_memory(
    finished: tuple[SearchResult, Watcher, Space],
) -> None:
    result, _, _ = finished
    assert read_records(result.run.trials_path) == result.records


def test_the_winner_lies_on_disk_with_all_it_needs(
    finished: tuple[SearchResult, Watcher, Space],
) -> None:
    result, _, space = finished
    winner = result.winner
    assert winner is not None
    config = trial_config(read_config(result.run.folder / "best.yaml"))
    assert config == trial_config({**space.fixed, **winner.config})
    model = read_checkpoint(result.run.folder / "best" / "model.safetensors")
    assert set(model.parts) >= {"model"}
    best = best_epoch(winner, "val/auc", "max")
    assert best is not None
    assert model.facts["metrics"] == dict(best)
    assert json.loads((result.run.folder / "environment.json").read_text())["packages"]["torch"]


def test_tensorboard_holds_every_epoch(finished: tuple[SearchResult, Watcher, Space]) -> None:
    result, _, _ = finished
    for number, record in result.records.items():
        events = EventAccumulator(str(result.run.tensorboard / f"{number:04d}"))
        events.Reload()
        for tag in ("train/loss", "val/auc", "val/f1", "val/eer", "val/accuracy", "lr"):
            told = [(point.step, point.value) for point in events.Scalars(tag)]
            kept = [(int(epoch["epoch"]), epoch[tag]) for epoch in record.epochs]
            assert [step for step, _ in told] == [step for step, _ in kept]
            assert [value for _, value in told] == pytest.approx([value for _, value in kept])


def test_only_checkpoints_of_the_best_stay(
    finished: tuple[SearchResult, Watcher, Space],
) -> None:
    result, _, _ = finished
    kept = sorted(path.name for path in (result.run.folder / "trials").rglob("*.safetensors"))
    assert Counter(kept) == {"best.safetensors": 5}


def test_two_workers_a_trial_give_the_same_search_though_one_is_killed(
    finished: tuple[SearchResult, Watcher, Space], tmp_path: Path, pattern_people: Path
) -> None:
    """The group of a slot is started anew, and its trial goes on from its last checkpoint."""
    alone, _, space = finished
    run = new_run(tmp_path / "runs", "run", "test")
    killer = Killer(run.folder, rank=1)
    together = run_search(
        run,
        space,
        DataSpec(str(pattern_people)),
        {"data": "people", "protocol": "identity-holdout"},
        SearchOptions(trials=2, concurrent=1, resources=TrialResources(2, cpus_per_worker=0.5)),
        killer,
    )
    assert killer.killed is not None
    first, twin = alone.records[0].epochs[0], together.records[0].epochs[0]
    assert twin["train/loss"] == pytest.approx(first["train/loss"], rel=1e-3)
    assert {record.state for record in together.records.values()} <= {"complete", "stopped"}
    assert [epoch["epoch"] for epoch in together.records[0].epochs] == [1, 2, 3]
    assert [len(record.retries) for record in together.records.values()] == [1, 0]
    (line,) = killer.lines
    assert line.startswith("trial 0 is run again after epoch 2: ")
    told = [epoch for number, state, epoch in killer.states if number == 0 and state == "running"]
    assert told == sorted(told)
    assert not held_groups()


def held_groups() -> list[str]:
    """Placement groups that the cluster still holds, once it has had time to free them."""
    for _ in range(100):
        table = ray.util.placement_group_table()
        held = [name for name, group in table.items() if group["state"] != "REMOVED"]
        if not held:
            break
        time.sleep(0.1)
    return held


def test_when_every_trial_fails_the_search_ends_and_says_why_once(
    tmp_path: Path, pattern_people: Path
) -> None:
    space = space_of(tmp_path, SPACE.replace("data.crop: none", "data.crop: trees"))
    with pytest.raises(NoTrialSucceeded) as raised:
        search(tmp_path, space, pattern_people, landmarks=str(tmp_path / "absent.dat"))
    assert str(raised.value).count("absent.dat") == 1
    records = read_records(tmp_path / "runs" / "run" / "trials.jsonl")
    assert 5 <= len(records) < 8
    assert {r.state for r in records.values()} <= {"failed", "interrupted"}
    error = tmp_path / "runs" / "run" / "trials" / "0000" / "error.txt"
    assert "Traceback" in error.read_text()


def test_an_end_that_only_the_study_heard_of_is_recorded_on_resuming(
    finished: tuple[SearchResult, Watcher, Space], tmp_path: Path, pattern_people: Path
) -> None:
    """The driver was killed between its two writes at a trial's end."""
    result, _, space = finished
    run = Run(tmp_path / "run")
    shutil.copytree(result.run.folder, run.folder)
    lines = run.trials_path.read_text().splitlines(keepends=True)
    ends = [line for line in lines if '"ended"' in line]
    run.trials_path.write_text("".join(line for line in lines if line != ends[0]))
    number = json.loads(ends[0])["trial"]
    assert read_records(run.trials_path)[number].state == "running"
    options = SearchOptions(trials=8)
    again = run_search(run, space, DataSpec(str(pattern_people)), {}, options, Watcher())
    assert again.records[number].state == json.loads(ends[0])["state"]
    assert again.records[number].epochs == result.records[number].epochs
    assert len(again.records) == 8


def test_an_epoch_that_only_the_study_heard_of_is_told_again(
    tmp_path: Path, pattern_people: Path
) -> None:
    """The driver was killed after the study's report: the record gets the epoch on resuming."""
    space = space_of(tmp_path)
    run = new_run(tmp_path / "runs", "run", "test")
    study = open_study(run.journal_path, space)
    trial = study.ask()
    dials = suggest(space, trial)
    config = flatten(trial_config({**space.fixed, **dials}))
    job = TrialJob(0, config, {}, str(run.folder), DataSpec(str(pattern_people)), "val/auc", "max")
    with closing(run_trial(job)) as results:  # as a slot does, until its host dies
        epochs = [next(results)["metrics"] for _ in range(2)]
    recorder = Recorder(run.trials_path)
    recorder.started(0, trial.params)
    recorder.epoch(0, epochs[0])
    recorder.close()
    for metrics in epochs:
        trial.report(metrics["val/auc"], int(metrics["epoch"]))
    again = run_search(
        run, space, DataSpec(str(pattern_people)), {}, SearchOptions(trials=1), Watcher()
    )
    assert [epoch["epoch"] for epoch in again.records[0].epochs] == [1, 2, 3]
    assert again.records[0].epochs[:2] == tuple(epochs)
    assert again.records[0].state == "complete"


def test_a_training_on_two_workers_follows_one_on_one(tmp_path: Path, pattern_people: Path) -> None:
    from siamtune.launch.alone import train_alone

    space = space_of(tmp_path)
    config = flatten(trial_config({**space.fixed, "epochs": 1}))
    facts = {"data": "people", "protocol": "identity-holdout", "split": None}
    losses = []
    for workers in (1, 2):
        record = train_alone(
            new_run(tmp_path / "runs", f"workers-{workers}", "test"),
            config,
            DataSpec(str(pattern_people)),
            facts,
            1,
            lambda line: None,
            resources=TrialResources(workers, cpus_per_worker=0.5),
        )
        assert record.state == "complete"
        losses.append(record.epochs[0]["train/loss"])
        model = tmp_path / "runs" / f"workers-{workers}" / "best" / "model.safetensors"
        assert read_checkpoint(model).facts["config"] == config
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, pattern_people: Path, ray_here: str) -> Path:
    """The runs folder of two trials that the command line has searched, called first."""
    folder = tmp_path_factory.mktemp("first")
    space_of(folder)
    verbs.search(
        space=str(folder / "space.yaml"), data=str(pattern_people), trials=2, concurrent=1,
        name="first", output=folder / "runs",
    )  # fmt: skip
    return folder / "runs"


def test_a_search_whose_trial_lands_on_an_unfit_host_ends_in_order_and_loses_no_trial(
    tmp_path: Path, pattern_people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "versions", lambda: {**versions(), "torch": "1.0"})
    monkeypatch.setattr(room, "socket", SimpleNamespace(gethostname=lambda: "head"))
    with pytest.raises(ClusterError) as raised:
        search(tmp_path, space_of(tmp_path), pattern_people, trials=2)
    assert str(raised.value).count("torch: 1.0 on head, ") == 1
    assert "go on with: siamtune resume " in str(raised.value)
    records = read_records(tmp_path / "runs" / "run" / "trials.jsonl")
    assert {record.state for record in records.values()} == {"interrupted"}
    study = open_study(tmp_path / "runs" / "run" / "study.log", space_of(tmp_path))
    assert {trial.state.name for trial in study.trials} == {"RUNNING"}


def test_a_search_goes_on_in_another_space_with_what_counts_there(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    shutil.copytree(first / "first", output / "run")
    before = read_records(output / "run" / "trials.jsonl")
    text = SPACE.replace("[contrastive, supcon]", "[contrastive, supcon, triplet]")
    (tmp_path / "new.yaml").write_text(text)
    capsys.readouterr()
    verbs.resume(
        "run", space=str(tmp_path / "new.yaml"), trials="+1", concurrent=1, output=output,
        as_json=True,
    )  # fmt: skip
    told = capsys.readouterr()
    assert "loss.name: widened from contrastive, supcon to contrastive, supcon, triplet" in told.err
    assert "history: 2 of 2 trials count" in told.err
    assert len(json.loads(told.out)["trials"]) == 3
    after = read_records(output / "run" / "trials.jsonl")
    assert sorted(after) == [0, 1, 2]
    assert {number: after[number] for number in before} == before
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(output / "run" / "study.log"))
    )
    study = optuna.load_study(study_name="siamtune", storage=storage)
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert (output / "run" / "study-1.log").exists()


def test_a_search_begins_with_what_another_one_knows(
    first: Path, tmp_path: Path, pattern_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    shutil.copytree(first, output)
    space_of(tmp_path)
    space, data = str(tmp_path / "space.yaml"), str(pattern_people)
    verbs.search(
        space=space, data=data, trials=2, concurrent=1, name="second", output=output,
        warm_from="first",
    )  # fmt: skip
    assert (
        "warm from first: the sampler learns from its trials, 2 in all" in capsys.readouterr().err
    )
    records = read_records(output / "second" / "trials.jsonl")
    assert sorted(records) == [0, 3]  # the first's trials have the numbers 1 and 2 in the study
    assert records[0].config == {"loss.name": "supcon", "optim.lr": 1e-3}
    with pytest.raises(DataError, match="same data and split, but its split is"):
        verbs.search(space=space, data=data, split_seed=1, warm_from="first", output=output)
    assert sorted(path.name for path in output.iterdir()) == ["first", "second"]


def test_one_at_a_time_means_one_at_a_time_and_a_time_budget_ends_the_search(
    tmp_path: Path, pattern_people: Path
) -> None:
    space = space_of(tmp_path, SPACE.replace("epochs: 3", "epochs: 200"))
    watcher = Watcher()
    result = run_search(
        new_run(tmp_path / "runs", "run", "test"),
        space,
        DataSpec(str(pattern_people)),
        {"data": "people", "protocol": "identity-holdout"},
        SearchOptions(trials=8, concurrent=1, time_budget_s=7.0),
        watcher,
    )
    assert result.ended_early == "the end of the time budget"
    running: set[int] = set()
    for number, state, _ in watcher.states:
        running = running | {number} if state == "running" else running - {number}
        assert len(running) <= 1
    assert [r.state for r in result.records.values()].count("interrupted") == 1
    assert result.wall_s < 60


def test_a_trial_that_fits_no_machine_is_refused_before_any_starts(ray_here: str) -> None:
    with pytest.raises(ClusterError, match=r"one trial needs 1 x 1 CPU and 1 GPU, but the cluster"):
        concurrent_trials(TrialResources(gpus_per_worker=1.0))
    with pytest.raises(ClusterError, match=r"one trial needs 99 x 1 CPU"):
        concurrent_trials(TrialResources(workers=99))


@pytest.mark.parametrize(
    ("workers", "asked", "got"), [(1, None, 1.0), (2, None, 1.0), (3, None, 0.0), (1, 0.5, 0.5)]
)
def test_gpus_are_used_where_there_are_enough_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, workers: int, asked: float | None, got: float
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    assert resolved(TrialResources(workers, 1.0, asked)).gpus_per_worker == got
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    assert resolved(TrialResources(workers, 1.0, asked)).gpus_per_worker == (asked or 0.0)


@pytest.mark.parametrize(
    ("workers", "gpus", "told"),
    [
        (2, 0.5, "each of the 2 workers of a trial must have a GPU of its own"),
        (1, 1.5, "must have a part of one GPU or whole GPUs, got --gpus-per-worker 1.5"),
    ],
)
def test_gpus_that_cannot_be_shared_out_are_refused(workers: int, gpus: float, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        TrialResources(workers, 1.0, gpus)
    for fine in (TrialResources(1, 1.0, 0.5), TrialResources(2, 1.0, 2.0), TrialResources(2)):
        assert replace(fine) == fine


def test_more_processors_a_trial_leave_room_for_fewer_trials(ray_here: str) -> None:
    all_of_them = concurrent_trials(TrialResources(cpus_per_worker=1.0))
    assert concurrent_trials(TrialResources(cpus_per_worker=0.5)) == 2 * all_of_them
    assert concurrent_trials(TrialResources(workers=2, cpus_per_worker=0.5)) == all_of_them


@pytest.mark.parametrize(
    ("resources", "trials"),
    [
        (TrialResources(1, 1.0, 1.0), 3),
        (TrialResources(1, 1.0, 0.5), 6),  # two trials on a GPU
        (TrialResources(1, 1.0, 0.4), 6),  # a part of a GPU is of one, never of two
        (TrialResources(1, 1.0, 0.6), 3),
        (TrialResources(1, 4.0, 0.5), 5),  # processors run out on the second host
        (TrialResources(2, 1.0, 1.0), 1),  # of three GPUs
        (TrialResources(2, 2.0, 1.0), 1),
        (TrialResources(1, 1.0, 0.0), 20),
    ],
)
def test_fractions_of_gpus_and_processors_of_each_host_decide_how_many_trials_fit(
    monkeypatch: pytest.MonkeyPatch, resources: TrialResources, trials: int
) -> None:
    hosts = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 64.0, "GPU": 8.0}]
    alive = [{"Alive": number < 2, "Resources": host} for number, host in enumerate(hosts)]
    monkeypatch.setattr("ray.nodes", lambda: alive)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 20.0, "GPU": 3.0})
    assert concurrent_trials(resources) == trials


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(
    tmp_path: Path, pattern_people: Path
) -> None:
    text = SPACE.replace("  data.crop: none\n", "").replace(
        "space:\n", "space:\n  data.crop: {choice: [none, trees]}\n"
    )
    text = text.replace("start: [{}]", "start: [{data.crop: none}, {data.crop: trees}]")
    space = space_of(tmp_path, text)
    result, _ = search(
        tmp_path, space, pattern_people, trials=4, landmarks=str(tmp_path / "absent.dat")
    )
    assert result.winner is not None
    for record in result.records.values():
        if record.config["data.crop"] == "trees":
            assert record.state == "failed"
            assert record.reason is not None
            assert "absent.dat" in record.reason
            error = result.run.folder / "trials" / f"{record.number:04d}" / "error.txt"
            assert "Traceback" in error.read_text()
        else:
            assert record.state in ("complete", "stopped")
    assert result.records[0].state == "complete"
    assert result.records[1].state == "failed"


def test_a_trial_whose_process_is_killed_goes_on_in_another_and_no_other_trial_notices(
    tmp_path: Path, pattern_people: Path
) -> None:
    text = SPACE.replace("asha: {min_epochs: 1, eta: 3}", "none: {}").replace(
        "epochs: 3", "epochs: 8"
    )
    run = new_run(tmp_path / "runs", "run", "test")
    killer = Killer(run.folder)
    result = run_search(
        run,
        space_of(tmp_path, text),
        DataSpec(str(pattern_people)),
        {"data": "people", "protocol": "identity-holdout"},
        SearchOptions(trials=3, concurrent=2),
        killer,
    )
    assert killer.killed is not None
    for record in result.records.values():
        assert record.state == "complete"
        assert [epoch["epoch"] for epoch in record.epochs] == list(range(1, 9))
    assert [len(record.retries) for record in result.records.values()] == [1, 0, 0]
    assert "vanished" in result.records[0].retries[0]
    assert len(killer.lines) == 1
    assert killer.lines[0].startswith("trial 0 is run again after epoch ")
    # From its checkpoint, not from the start: an epoch was told once.
    told = [epoch for number, state, epoch in killer.states if number == 0 and state == "running"]
    assert told == sorted(told)
    events = EventAccumulator(str(run.tensorboard / "0000"))
    events.Reload()
    assert [point.step for point in events.Scalars("val/auc")] == list(range(1, 9))
    assert not list((run.folder / "trials").rglob("worker-*.log"))


def test_faces_that_a_detector_misses_are_counted(tmp_path: Path, pattern_people: Path) -> None:
    text = SPACE.replace("data.crop: none", "data.crop: haar")
    result, _ = search(tmp_path, space_of(tmp_path, text), pattern_people, trials=1)
    assert result.records[0].epochs[0]["faces_not_found"] == 40 * 5  # patterns are no faces


class Stopper(Watcher):
    """Asks the search to end once a replica is complete."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def update(self, records: dict[int, TrialRecord], changed: TrialRecord) -> None:
        super().update(records, changed)
        if changed.state == "complete":
            ask_to_stop(self.run, None)


def test_the_best_are_trained_again_with_fresh_seeds_and_the_search_stays_as_it_was(
    finished: tuple[SearchResult, Watcher, Space],
    pattern_people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result, _, space = finished
    run = Run(tmp_path / "run")
    shutil.copytree(result.run.folder, run.folder)
    run.facts_path.write_text(json.dumps({"data": "people"}))
    history = History(run, run.facts(), space, result.records)
    before = {path: path.read_bytes() for path in (run.trials_path, run.journal_path)}
    data, options = DataSpec(str(pattern_people)), SearchOptions(trials=8, concurrent=1)
    plan = plan_replication(history, Wish(2, 2))
    assert plan.seeds == (1, 2)
    assert [each.record for each in plan.configurations] == history.ranked[:2]

    ended = replicate(history, plan, data, options, Stopper(run))
    assert ended == "siamtune stop"
    assert read_replication(run) is None
    first = read_records(replicas_run(run).trials_path)
    done = [record for record in first.values() if record.state == "complete"]
    assert done
    rest = plan_replication(history, Wish(2, 2))
    assert len(rest.missing) == 4 - len(done)
    assert replicate(history, rest, data, options, Watcher()) is None

    replicas = read_records(replicas_run(run).trials_path)
    assert {number: replicas[number] for number in (r.number for r in done)} == {
        record.number: record for record in done
    }
    assert {record.state for record in replicas.values()} == {"complete"}
    assert {record.epoch for record in replicas.values()} == {3}  # never stopped early
    found = read_replication(run)
    assert found is not None
    for row in found.configurations:
        dials = history.config(history.trial(row.trial))
        measured = []
        for replica in row.replicas:
            record = replicas[replica.replica]
            assert record.facts["replica_of"] == row.trial
            assert record.config == {**dials, "seed": replica.seed}
            measured.append(max(epoch["val/auc"] for epoch in record.epochs))
        assert [replica.value for replica in row.replicas] == measured
        assert row.mean is not None
        assert row.mean.value == pytest.approx(sum(measured) / 2)
        if history.trial(row.trial).state == "complete":
            assert row.luck is not None
            assert row.luck.value == pytest.approx(row.search - row.mean.value)
        else:
            assert row.luck is None
        kept = [
            replica
            for replica in row.replicas
            if (
                replicas_run(run).folder / f"trials/{replica.replica:04d}/best.safetensors"
            ).exists()
        ]
        assert [replica.value for replica in kept] == [max(measured)]
    assert found.over == "seeds and people"
    # What the search left is as it was, and what is best now says so.
    assert {path: path.read_bytes() for path in before} == before
    best = found.best
    assert best is not None
    assert best.trial == found.first.trial
    assert best.value == max(found.first.search, *(r.value or 0 for r in found.first.replicas))
    assert read_config(run.folder / "best.yaml")["seed"] == best.seed
    number, path = trial_checkpoint(history, None)
    assert (number, path) == (best.trial, run.folder / "best" / "model.safetensors")
    assert read_checkpoint(path).facts["metrics"]["val/auc"] == best.value
    document = result_document(run, result.records, space)
    assert document["replication"]["tied"] == found.tied
    assert document["winner"]["trial"] == history.ranked[0].number
    print_final_table(run, result.records, space)
    told = " ".join(capsys.readouterr().out.split())
    assert "replicated 2x2 with seeds 1, 2 (± 95 % over seeds and people)" in told
    assert f"luck: trial {history.ranked[0].number} led the search with AUC" in told
    page = report_page(history, Evidence(), {}, datetime.now(UTC))
    assert '<h2 id="replicas">Replicated</h2>' in page

    # Nothing is to be trained for the same again: what has been made of the model since stays.
    run.best_model.write_bytes(b"rescored since")
    again = plan_replication(history, Wish(2, 2))
    assert again.numbers == {
        replica.replica for row in found.configurations for replica in row.replicas
    }
    assert replicate(history, again, data, options, Watcher()) is None
    assert run.best_model.read_bytes() == b"rescored since"
    # A smaller wish is of fewer seeds, though more are there.
    assert (
        replicate(history, plan_replication(history, Wish(2, 1)), data, options, Watcher()) is None
    )
    smaller = read_replication(run)
    assert smaller is not None
    assert smaller.seeds == (1,)
    assert [[r.seed for r in row.replicas] for row in smaller.configurations] == [[1], [1]]


def test_answers_of_replicas_that_lie_in_a_store_are_brought_for_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their workers have sent them; without them the margins would be of seeds alone."""
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    run = new_run(output_folder(f"file://{tmp_path}/bucket"), "run", "x")
    space = load_space("quickstart")
    records = {0: TrialRecord(0, "complete", {}, ({"epoch": 1, "val/auc": 0.9},))}
    history = History(run, {"split": "5b1e"}, space, records)
    plan = plan_replication(history, Wish(1, 2))
    assert plan.numbers == {0, 1}
    pairs = VerificationPairs(np.array([0, 2]), np.array([1, 3]), np.array([True, False]))
    worker = tmp_path / "worker"
    for number in plan.numbers:
        people = np.arange(4)
        keep_answers(worker, number, pairs, people, "5b1e", np.array([0.5, 0.25]), 0.4, 1)
    store = open_store(f"{run.url}/{replicas_run(run).name}")
    for path in worker.rglob("*.npz"):
        store.write(path.relative_to(worker).as_posix(), path.read_bytes())
    with mirrored(run, print) as mirror:
        assert mirror is not None
        _fetch_answers(history, plan, mirror)
    for number in plan.numbers:
        kept = read_answers(replicas_run(run).folder, number)
        assert kept is not None
        assert kept.answers.scores.tolist() == [0.5, 0.25]
