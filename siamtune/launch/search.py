"""A search on Ray Tune: slots train, the study proposes and stops, the run folder remembers."""

import json
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from siamtune import __version__
from siamtune.config import DEFAULTS
from siamtune.errors import ClusterError, NoTrialSucceeded, SiamtuneError, Unwritable
from siamtune.launch.cluster import (
    TrialResources,
    connect,
    prepare_environment,
    resolved,
)
from siamtune.launch.job import DataSpec, TrialJob, to_plain
from siamtune.launch.keep import CheckpointKeeper
from siamtune.launch.mirror import Mirror, mirrored
from siamtune.launch.preflight import HostFacts, packages, preflight, versions
from siamtune.report.tensorboard import trial_hparams, write_experiment
from siamtune.search.lock import driving
from siamtune.search.records import Recorder, TrialRecord, ranked
from siamtune.search.runs import Run, write_text
from siamtune.search.space import Space
from siamtune.search.stops import VERB, forget_stops, take_stops
from siamtune.search.study import Proposal, interrupted, open_study

# Retries of a trial whose process vanished; a trial that fails by itself is not run again.
MAX_RETRIES = 2
# How often the run folder is looked through for requests; it may lie on a slow shared disk.
LISTEN_S = 1.0
WATCHDOG = 10.0


@dataclass(frozen=True)
class SearchOptions:
    """How a search runs, as against what it tries (the space) and on what (the data)."""

    trials: int
    time_budget_s: float | None = None
    concurrent: int | None = None
    resources: TrialResources = field(default_factory=TrialResources)
    address: str | None = None
    verbose: bool = False
    # A trial that has not reported for so many of its usual epochs is ended and retried; 0: never.
    watchdog: float = WATCHDOG
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
    prepare_environment(options.address)
    from ray import tune

    from siamtune.launch.searcher import (
        Driver,
        SearchStopper,
        StudyScheduler,
        StudySearcher,
        Ticker,
    )
    from siamtune.launch.slot import Slot

    connect(options.address, options.resources, verbose=options.verbose)
    resources = resolved(options.resources)
    found = preflight(
        data, resources, output=run.url or run.folder, may_grow=options.concurrent is not None
    )
    write_text(
        run.folder / "environment.json", json.dumps(environment(found.hosts), indent=2) + "\n"
    )
    if not found.concurrent:
        view.log("no host holds such a trial yet: waiting for the cluster to grow")
    concurrent = min(options.concurrent or found.concurrent, options.trials)
    # Suggestions come one at a time; without this only one trial would wait for a slot.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(concurrent))

    write_experiment(run.tensorboard, space.dimensions)
    study = open_study(run.journal_path, space)
    recorder = Recorder(run.trials_path)

    def plain_job(proposal: Proposal, recorded_epochs: int) -> dict[str, Any]:
        job = TrialJob(
            number=proposal.number,
            config={**DEFAULTS, **proposal.config},
            hparams=trial_hparams(space.dimensions, proposal.suggested),
            run_folder=str(run.folder.resolve()),
            data=data,
            metric=space.objective.metric,
            mode=space.objective.mode,
            threads=max(1, int(resources.cpus_per_worker)),
            recorded_epochs=recorded_epochs,
            watchdog=options.watchdog,
            store=run.url,
            driver_host=socket.gethostname(),
            versions=versions(),
        )
        return {"job": to_plain(job), "size": asdict(resources)}

    keeper = CheckpointKeeper(run, space, recorder.records, options.disk_limit, mirror)

    def listen(record: TrialRecord) -> None:
        view.update(recorder.records, record)
        if record.ended_for_good and record.state != "invalid":
            keeper.ended(record)
        if not driver.draining and (full := keeper.hold(concurrent)):
            driver.drain(full)

    driver = Driver(
        study=study,
        space=space,
        recorder=recorder,
        trials=options.trials,
        workers=resources.workers,
        plain_job=plain_job,
        listen=listen,
        log=view.log,
        facts=dict(facts),
        deadline=began + options.time_budget_s if options.time_budget_s else None,
        interrupted=interrupted(study, space),
    )
    driver.catch_up()
    forget_stops(run)  # what was asked of an earlier driver
    heard = time.monotonic()

    def tick() -> None:
        nonlocal heard
        view.tick()
        if time.monotonic() - heard < LISTEN_S:
            return
        heard = time.monotonic()
        for number in take_stops(run):
            if number is None:
                driver.drain(VERB)
            elif driver.stop_by_hand(number):
                view.log(f"trial {number} is stopped by hand: it ends after its present epoch")

    scratch = tempfile.mkdtemp(prefix="siamtune-tune-")
    alone = resources.workers == 1
    slot_resources = (
        {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker or 0.0}
        if alone
        else {"memory": 300e6}  # it only passes messages; its workers hold the processors
    )
    try:
        with _drain_on_signals(driver.drain):
            tune.Tuner(
                tune.with_resources(Slot, slot_resources),
                tune_config=tune.TuneConfig(
                    search_alg=StudySearcher(driver),
                    scheduler=StudyScheduler(driver),
                    num_samples=-1,
                    max_concurrent_trials=concurrent,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=scratch,
                    verbose=0,
                    stop=SearchStopper(driver),
                    callbacks=[Ticker(driver, tick, options.watchdog)],
                    failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        driver.interrupt_running()
    finally:
        recorder.close()
        forget_stops(run)
        shutil.rmtree(scratch, ignore_errors=True)
    go_on = f"go on with: siamtune resume {run.place}"
    if isinstance(driver.error, OSError | Unwritable):
        told = str(driver.error)
        if isinstance(driver.error, OSError):
            told = f"{run.folder} must be writable, but {told}"
        raise Unwritable(
            f"{told}; what was recorded before is safe: make room, then {go_on}"
        ) from driver.error
    if isinstance(driver.error, ClusterError):
        raise ClusterError(
            f"{driver.error}\nwhat was recorded before is safe; {go_on}"
        ) from driver.error
    if driver.error is not None:
        raise driver.error
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


@contextmanager
def _drain_on_signals(drain: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM drains; after that they act as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: Any) -> None:
        for each, handler in before.items():
            signal.signal(each, handler)
        drain("Ctrl-C" if number == signal.SIGINT else "a termination signal")

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
