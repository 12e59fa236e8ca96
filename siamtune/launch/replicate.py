"""Replicas of a search's best configurations: trained on its slots, then compared."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from siamtune.errors import NoTrialSucceeded, SiamtuneError
from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob, trial_folder
from siamtune.launch.keep import CheckpointKeeper, forget_workers, remove_file
from siamtune.launch.mirror import Mirror, mirrored
from siamtune.launch.slots import open_slots, stream
from siamtune.search.config_file import config_yaml
from siamtune.search.history import History
from siamtune.search.lock import driving
from siamtune.search.records import Recorder, TrialRecord, best_epoch, read_records
from siamtune.search.replicas import (
    FILE,
    TRAINED,
    Best,
    Configuration,
    Estimate,
    Lead,
    Replica,
    ReplicaResult,
    Replicated,
    Replication,
    Wish,
    best_configurations,
    fresh_seeds,
    read_replication,
    replicas_of,
    replicas_run,
    to_train,
)
from siamtune.search.runs import Run, write_text
from siamtune.search.study import Proposal
from siamtune.training.checkpoint import ship_model
from siamtune.verification.bootstrap import enough_people, identity_replicates
from siamtune.verification.kept import kept_paths, read_answers
from siamtune.verification.replication import Comparison, compare

if TYPE_CHECKING:
    from siamtune.data.decode import Progress
    from siamtune.launch.search import SearchOptions, View

# What the bootstrap over people knows; of other objectives the margins are of seeds alone.
OVER_PEOPLE = ("auc", "accuracy", "f1")


@dataclass(frozen=True)
class Plan:
    """What a wish comes to in a run."""

    wish: Wish
    configurations: tuple[Configuration, ...]
    seeds: tuple[int, ...]
    missing: tuple[Replica, ...]  # to be trained yet
    numbers: frozenset[int]  # of these and of those that are trained

    @property
    def trainings(self) -> int:
        return len(self.configurations) * len(self.seeds)

    def __str__(self) -> str:
        """One line for a person."""
        trials = ", ".join(str(each.record.number) for each in self.configurations)
        there = self.trainings - len(self.missing)
        return (
            f"replicating the {len(self.configurations)} best configurations (trials {trials}) "
            f"with the fresh seeds {', '.join(map(str, self.seeds))}: {len(self.missing)} trainings"
            + (f", {there} are there already" if there else "")
        )


def plan_replication(history: History, wish: Wish) -> Plan:
    """Choose configurations and seeds, and see what is trained already.

    Raises:
        InvalidInput: the record of the replicas is damaged.
    """
    configurations = tuple(best_configurations(history, wish.configurations))
    seeds = tuple(fresh_seeds(history, wish.seeds))
    there = read_records(replicas_run(history.run).trials_path)
    missing = tuple(to_train(configurations, seeds, there))
    known = {
        record.number
        for configuration in configurations
        for seed, record in replicas_of(configuration, there.values()).items()
        if seed in seeds and record.state in TRAINED
    }
    numbers = frozenset(known | {replica.number for replica in missing})
    return Plan(wish, configurations, seeds, missing, numbers)


def replicate(
    history: History,
    plan: Plan,
    data: DataSpec,
    options: "SearchOptions",
    view: "View",
    progress: "Progress | None" = None,
) -> str | None:
    """Train what a plan lacks, compare, write replication.json and make the best the run's best.

    Returns why it ended early, if it did: then nothing is compared, and the same again goes on.

    Raises:
        NoTrialSucceeded: no replica was trained to an end.
        ClusterError, DataError, InvalidInput, SiamtuneError: as of a search.
    """
    with driving(history.run), mirrored(history.run, view.log) as mirror:
        if plan.missing and (ended := _train(history, plan, data, options, view, mirror)):
            return ended
        if mirror is not None:
            _fetch_answers(history, plan, mirror)
        found = _ship(history, _measure(history, plan, progress), mirror)
        text = json.dumps(found.document(), indent=2) + "\n"
        write_text(history.run.folder / FILE, text)
        return None


def _train(
    history: History,
    plan: Plan,
    data: DataSpec,
    options: "SearchOptions",
    view: "View",
    mirror: Mirror | None,
) -> str | None:
    run, objective = history.run, history.space.objective
    replicas = replicas_run(run)
    replicas.folder.mkdir(exist_ok=True)
    slots = open_slots(options, data, run, len(plan.missing), view.log)
    from siamtune.launch.proposers import ListProposer
    from siamtune.launch.searcher import Driver

    recorder = Recorder(replicas.trials_path)

    def plain_job(proposal: Proposal, recorded_epochs: int) -> dict[str, Any]:
        job = TrialJob(
            number=proposal.number,
            config=proposal.config,
            hparams={},
            run_folder=str(replicas.folder.resolve()),
            data=data,
            split=history.facts.get("split"),
            metric=objective.metric,
            mode=objective.mode,
            threads=slots.threads,
            recorded_epochs=recorded_epochs,
            store=f"{run.url}/{replicas.name}" if run.url else None,
        )
        return slots.plain(job)

    keeper = CheckpointKeeper(run, history.space, history.records, options.disk_limit, mirror)

    def listen(record: TrialRecord) -> None:
        view.update(recorder.records, record)
        if record.ended_for_good:
            _tidy(history, plan, recorder.records, record, mirror)
        if not driver.draining and (full := keeper.hold(slots.concurrent)):
            driver.drain(full)

    driver = Driver(
        proposer=ListProposer(
            [
                Proposal(
                    replica.number, replica.config, replica.config,
                    {**replica.of.facts, "replica_of": replica.of.number},
                )
                for replica in plan.missing
            ]
        ),
        recorder=recorder,
        plain_job=plain_job,
        listen=listen,
        log=view.log,
        go_on=f"go on with: siamtune resume {run.place} --replicate {plan.wish}",
    )  # fmt: skip
    stream(driver, slots, run, view.tick)
    if driver.hopeless is not None:
        raise SiamtuneError(
            f"the last replicas have all failed, for this reason: {driver.hopeless}\n"
            f"tracebacks: {replicas.folder}/trials/*/error.txt\nmend it, then {driver.go_on}"
        )
    return driver.draining


def _tidy(
    history: History,
    plan: Plan,
    records: Mapping[int, TrialRecord],
    ended: TrialRecord,
    mirror: Mirror | None,
) -> None:
    """Keep one model a configuration: that of its best replica so far."""
    replicas, root = replicas_run(history.run), history.run.folder
    folder = trial_folder(replicas.folder, ended.number)
    forget_workers(folder)
    remove_file(root, folder / LAST, mirror)
    for configuration in plan.configurations:
        known = list(replicas_of(configuration, records.values()).values())
        if all(record.number != ended.number for record in known):
            continue
        complete = sorted(
            (record for record in known if record.state == "complete"),
            key=lambda record: _value(history, record),
            reverse=history.space.objective.mode == "max",
        )
        for record in known:
            if record.ended_for_good and record not in complete[:1]:
                remove_file(root, trial_folder(replicas.folder, record.number) / BEST, mirror)


def _value(history: History, record: TrialRecord) -> float:
    objective = history.space.objective
    best = best_epoch(record, objective.metric, objective.mode)
    assert best is not None  # complete trials have measured
    return best[objective.metric]


def _fetch_answers(history: History, plan: Plan, mirror: Mirror) -> None:
    """Bring what workers have kept of the replicas' answers: it lies in the store alone."""
    run, replicas = history.run, replicas_run(history.run)
    for number in sorted(plan.numbers):
        paths = kept_paths(replicas.folder, number, history.facts.get("split"))
        for path in paths:
            if not path.exists():
                mirror.fetch(path.relative_to(run.folder).as_posix())


def _measure(history: History, plan: Plan, progress: "Progress | None") -> Replication:
    """What the replicas came to.

    Raises:
        NoTrialSucceeded: none was trained to an end.
    """
    objective = history.space.objective
    records = read_records(replicas_run(history.run).trials_path)
    of_each = [
        (
            configuration,
            {
                seed: record
                for seed, record in replicas_of(configuration, records.values()).items()
                if seed in plan.seeds  # an earlier wish may have had more, or others
            },
        )
        for configuration in plan.configurations
    ]
    complete = [
        [record for record in of_one.values() if record.state == "complete"]
        for _, of_one in of_each
    ]
    measured = [at for at, of_one in enumerate(complete) if of_one]
    if not measured:
        raise NoTrialSucceeded(
            f"no replica was trained to an end; see {replicas_run(history.run).trials_path}"
        )
    values = [[_value(history, record) for record in complete[at]] for at in measured]
    drawn, pairs = _drawn(history, [complete[at] for at in measured], progress)
    found = compare(values, drawn, mode=objective.mode)
    compared = dict(zip(measured, found.each, strict=True))
    sign = 1 if objective.mode == "max" else -1
    rows = []
    for at, (configuration, of_one) in enumerate(of_each):
        row = Replicated(
            trial=configuration.record.number,
            place=configuration.place,
            search=_value(history, configuration.record),
            replicas=tuple(_result(history, record) for _, record in sorted(of_one.items())),
        )
        if at in compared:
            one = compared[at]
            luck = None
            if configuration.record.state == "complete":  # a stopped one had fewer epochs
                luck = Estimate(
                    value=sign * (row.search - one.mean.value),
                    margin=found.seed_margin(len(complete[at])),
                )
            row = row.model_copy(update={**vars(one), "luck": luck})
        rows.append(row)
    return Replication(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        asked=str(plan.wish),
        metric=objective.metric,
        mode=objective.mode,
        data=history.facts.get("data"),
        protocol=history.facts.get("protocol"),
        split=history.facts.get("split"),
        pairs=pairs,
        trials=len(history.records),
        seeds=plan.seeds,
        seed_spread=found.seed_spread,
        over="seeds and people" if drawn is not None else "seeds",
        winner=plan.configurations[0].record.number,
        lead=_lead(rows, found, sign),
        configurations=tuple(
            sorted(rows, key=lambda row: -sign * row.mean.value if row.mean else math.inf)
        ),
    )


def _lead(rows: Sequence[Replicated], found: Comparison, sign: int) -> Lead | None:
    """How far the search's winner led, and what is left of it with fresh seeds."""
    # Both as long: what a stopped trial measured is no lead over it.
    first, second = (*rows, None, None)[:2]
    if first is None or second is None or first.luck is None or second.luck is None:
        return None
    assert first.mean is not None
    assert second.mean is not None
    many = [sum(r.state == "complete" for r in row.replicas) for row in (first, second)]
    left = sign * (first.mean.value - second.mean.value)
    return Lead(
        trial=first.trial,
        over=second.trial,
        search=sign * (first.search - second.search),
        replicated=Estimate(value=left, margin=found.seed_margin(*many)),
    )


def _drawn(
    history: History, complete: Sequence[Sequence[TrialRecord]], progress: "Progress | None"
) -> tuple[list[np.ndarray] | None, int | None]:
    """(R,) bootstrap replicates over people of each configuration's mean, and of how many pairs."""
    metric = history.space.objective.metric.removeprefix("val/")
    folder = replicas_run(history.run).folder
    kept = [[read_answers(folder, record.number) for record in of_one] for of_one in complete]
    everyone = [answers for of_one in kept for answers in of_one]
    if any(
        answers is None or not enough_people(answers.answers.same, answers.answers.left)
        for answers in everyone
    ):
        return None, None
    pairs = len(everyone[0].pairs) if everyone[0] else None
    if metric not in OVER_PEOPLE:
        return None, pairs
    means, done = [], 0
    for of_one in kept:
        each = []
        for of_a_seed in of_one:
            assert of_a_seed is not None
            answers = of_a_seed.answers
            each.append(
                identity_replicates(
                    answers.scores, answers.same, answers.left, answers.right, answers.threshold
                )[metric]
            )
            done += 1
            if progress:
                progress("drawing people", done, len(everyone))
        means.append(np.mean(each, axis=0))
    return means, pairs


def _result(history: History, record: TrialRecord) -> ReplicaResult:
    objective = history.space.objective
    best = best_epoch(record, objective.metric, objective.mode) or {}
    return ReplicaResult(
        replica=record.number,
        seed=record.config["seed"],
        state=record.state,
        reason=record.reason,
        epoch=int(best["epoch"]) if best else None,
        value=best.get(objective.metric),
    )


def _ship(history: History, found: Replication, mirror: Mirror | None) -> Replication:
    """Make the configuration with the best mean the run's best, by the better of its models.

    That of the search is one of them: all were trained alike and are asked the same pairs.
    """
    run, objective = history.run, history.space.objective
    record = history.trial(found.first.trial)
    own = Best(
        trial=record.number,
        replica=None,
        seed=history.config(record)["seed"],
        value=found.first.search,
    )
    models = {own: trial_folder(run.folder, record.number) / BEST}
    for replica in found.first.replicas:
        if replica.state == "complete" and replica.value is not None:
            model = Best(
                trial=record.number,
                replica=replica.replica,
                seed=replica.seed,
                value=replica.value,
            )
            models[model] = trial_folder(replicas_run(run).folder, replica.replica) / BEST
    if mirror is not None:
        for path in models.values():
            mirror.fetch(path.relative_to(run.folder).as_posix())
    there = [model for model, path in models.items() if path.exists()]
    if not there:
        return found
    best = (max if objective.mode == "max" else min)(there, key=lambda model: model.value)
    found = found.model_copy(update={"best": best})
    before = read_replication(run)
    if before is not None and before.best == best and run.best_model.exists():
        return found  # it has been shipped, and perhaps rescored since
    config = {**history.space.fixed, **record.config, "seed": best.seed}
    write_text(run.folder / "best.yaml", config_yaml(config, _about(run, found)))
    ship_model(models[best], run.best_model)
    return found


def _about(run: Run, found: Replication) -> str:
    best, mean = found.best, found.first.mean
    assert best is not None
    assert mean is not None
    margin = "" if mean.margin is None else f" +/- {mean.margin:.4f}"
    return (
        f"trial {best.trial} of {run.name}: the best mean of {found.asked} replicas\n"
        f"{found.metric} {mean.value:.4f}{margin} with fresh seeds, {best.value:.4f} with this "
        f"one, on {found.data}, {found.protocol}, split {found.split}"
    )
