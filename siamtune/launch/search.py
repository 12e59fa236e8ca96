"""A search on Ray Tune: slots train, the study proposes and stops, the run folder remembers."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from siamtune import __version__
from siamtune.config import DEFAULTS
from siamtune.errors import NoTrialSucceeded, SiamtuneError
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.launch.keep import CheckpointKeeper, remove_file
from siamtune.launch.mirror import Mirror, mirrored
from siamtune.launch.preflight import HostFacts, packages
from siamtune.launch.slots import Machines, open_slots, stream
from siamtune.report.tensorboard import trial_hparams, write_experiment
from siamtune.search.lock import driving
from siamtune.search.records import Recorder, TrialRecord, ranked
from siamtune.search.runs import Run, write_text
from siamtune.search.space import Space
from siamtune.search.study import Proposal, interrupted, open_study


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Machines):
    """How a search runs, as against what it tries (the space) and on what (the data)."""

    trials: int
    time_budget_s: float | None = None
    disk_limit: int | None = None  # bytes that the run folder may hold


class View(Protocol):
    """Who watches a search; called on the driver's thread."""

    def update(self, records: Mapping[int, TrialRecord], changed: TrialRecord) -> None: ...
    def tick(self) -> None: ...
    def log(self, line: str) -> None: ...


@dataclass(frozen=True)
class SearchResult:
    run: Run
    records: Mapping[int, TrialRecord]
    winner: TrialRecord | None
    ended_early: str | None  # why, when not all trials were run
    wall_s: float


def run_search(
    run: Run,
    space: Space,
    data: DataSpec,
    facts: Mapping[str, Any],
    options: SearchOptions,
    view: View,
) -> SearchResult:
    """Run, or go on with, the search in a run folder until its trials or its time are used up.

    Ctrl-C ends it in order: trials that run are recorded as interrupted and can be resumed.

    Raises:
        NoTrialSucceeded: the first trials all failed, or none was complete or stopped at the end.
        ClusterError: the cluster cannot hold one trial, or a host that has joined is unlike others.
        InvalidInput: another process drives this run, or its object store cannot be written.
        SiamtuneError: the object store does not take the rest.
    """
    with driving(run), mirrored(run, view.log) as mirror:
        return _run_search(run, space, data, facts, options, view, mirror)


def _run_search(
    run: Run,
    space: Space,
    data: DataSpec,
    facts: Mapping[str, Any],
    options: SearchOptions,
    view: View,
    mirror: Mirror | None,
) -> SearchResult:
    began = time.monotonic()
    slots = open_slots(options, data, run, options.trials, view.log)
    write_text(
        run.folder / "environment.json", json.dumps(environment(slots.hosts), indent=2) + "\n"
    )
    from siamtune.launch.proposers import StudyProposer
    from siamtune.launch.searcher import Driver

    write_experiment(
        run.tensorboard, space.dimensions, lambda path: remove_file(run.folder, path, mirror)
    )
    study = open_study(run.journal_path, space)
    recorder = Recorder(run.trials_path)

    def plain_job(proposal: Proposal, recorded_epochs: int) -> dict[str, Any]:
        job = TrialJob(
            number=proposal.number,
            config={**DEFAULTS, **proposal.config},
            hparams=trial_hparams(space.dimensions, proposal.suggested),
            run_folder=str(run.folder.resolve()),
            data=data,
            split=facts.get("split"),
            metric=space.objective.metric,
            mode=space.objective.mode,
            threads=slots.threads,
            recorded_epochs=recorded_epochs,
            store=run.url,
        )
        return slots.plain(job)

    keeper = CheckpointKeeper(run, space, recorder.records, options.disk_limit, mirror)
    keeper.catch_up()

    def listen(record: TrialRecord) -> None:
        view.update(recorder.records, record)
        if record.ended_for_good and record.state != "invalid":
            keeper.ended(record)
        if not driver.draining and (full := keeper.hold(slots.concurrent)):
            driver.drain(full)

    go_on = f"go on with: siamtune resume {run.place}"
    driver = Driver(
        proposer=StudyProposer(
            study, space, recorder, options.trials, slots.resources.workers,
            interrupted(study, space),
        ),
        recorder=recorder,
        plain_job=plain_job,
        listen=listen,
        log=view.log,
        go_on=go_on,
        facts=dict(facts),
        deadline=began + options.time_budget_s if options.time_budget_s else None,
    )  # fmt: skip
    stream(driver, slots, run, view.tick)
    if not keeper.ship_overdue():
        view.log(f"{run.url} does not give the winner's model; to have it, {go_on}")
    best = ranked(recorder.records.values(), space.objective.metric, space.objective.mode)
    if driver.hopeless is not None:
        which = "the last trials have all" if best else "every trial so far has"
        message = (
            f"{which} failed, for this reason: {driver.hopeless}\n"
            f"tracebacks: {run.place}/trials/*/error.txt"
        )
        if best:
            raise SiamtuneError(f"{message}\nmend it, then {go_on}")
        raise NoTrialSucceeded(message)
    if not best and not driver.draining:
        raise NoTrialSucceeded(f"no trial was trained to an end; see {run.trials_path}")
    return SearchResult(
        run, recorder.records, best[0] if best else None, driver.draining,
        time.monotonic() - began,
    )  # fmt: skip


def environment(hosts: Sequence[HostFacts] = ()) -> dict[str, Any]:
    """What the numbers of a run may depend on besides its configuration."""
    return {
        "siamtune": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages(),
        "hosts": [asdict(host) for host in hosts],
        "command": ["siamtune", *sys.argv[1:]],
    }
