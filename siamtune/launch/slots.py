"""Trials streaming through the cluster's slots, whoever proposes them."""

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from siamtune.errors import ClusterError, Unwritable
from siamtune.launch.cluster import TrialResources, connect, prepare_environment, resolved
from siamtune.launch.job import DataSpec, TrialJob, to_plain
from siamtune.launch.preflight import HostFacts, preflight, versions
from siamtune.search.runs import Run
from siamtune.search.stops import CTRL_C, TERMINATED, VERB, forget_stops, take_stops

if TYPE_CHECKING:
    from siamtune.launch.searcher import Driver

# Retries of a trial whose process vanished; a trial that fails by itself is not run again.
MAX_RETRIES = 2
# How often the run folder is looked through for requests; it may lie on a slow shared disk.
LISTEN_S = 1.0
WATCHDOG = 10.0


@dataclass(frozen=True)
class Machines:
    """On what trials run."""

    concurrent: int | None = None  # None: as many as fit
    resources: TrialResources = field(default_factory=TrialResources)
    address: str | None = None
    verbose: bool = False
    # A trial that has not reported for so many of its usual epochs is ended and retried; 0: never.
    watchdog: float = WATCHDOG

    @property
    def named(self) -> bool:
        """Whether somebody said which: then even a single training runs on them."""
        return self.address is not None or self.resources.gpus_per_worker is not None


@dataclass(frozen=True)
class Slots:
    """What was found on the cluster for trials to run in."""

    resources: TrialResources  # of a trial
    concurrent: int
    hosts: tuple[HostFacts, ...]
    watchdog: float

    @property
    def threads(self) -> int:
        """Of each worker."""
        return self.resources.threads

    def plain(self, job: TrialJob) -> dict[str, Any]:
        """A trial as a slot takes it, with what a host must be like to run it."""
        job = replace(
            job, watchdog=self.watchdog, driver_host=socket.gethostname(), versions=versions(),
            gpus_per_worker=self.resources.gpus_per_worker or 0.0,
        )  # fmt: skip
        return {"job": to_plain(job), "size": asdict(self.resources)}


def open_slots(
    machines: Machines, data: DataSpec, run: Run, trials: int, log: Callable[[str], None]
) -> Slots:
    """Join or start the cluster and see how many of so many trials it holds at once.

    Raises:
        ClusterError: it cannot hold one trial.
        DataError: a host does not have the pictures.
    """
    prepare_environment(machines.address)
    connect(machines.address, machines.resources, verbose=machines.verbose)
    resources = resolved(machines.resources)
    found = preflight(
        data, resources, output=run.url or run.folder, may_grow=machines.concurrent is not None
    )
    if not found.concurrent:
        log("no host holds such a trial yet: waiting for the cluster to grow")
    most = machines.concurrent or found.concurrent
    # Suggestions come one at a time; without this only one trial would wait for a slot.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(most))
    return Slots(resources, min(most, trials), found.hosts, machines.watchdog)


def stream(driver: "Driver", slots: Slots, run: Run, tick: Callable[[], None]) -> None:
    """Run what the driver proposes until it has no more or wants to end; what runs then is
    recorded as interrupted.

    The first Ctrl-C, or `siamtune stop` of `run`, ends it in order; `tick` is called often.

    Raises:
        Unwritable: the run folder takes no more.
        SiamtuneError: whatever went wrong in driving.
    """
    from ray import tune

    from siamtune.launch.searcher import DriverScheduler, DriverSearcher, DriverStopper, Ticker
    from siamtune.launch.slot import Slot

    driver.catch_up()
    forget_stops(run)  # what was asked of an earlier driver
    heard = time.monotonic()

    def tick_and_listen() -> None:
        nonlocal heard
        tick()
        if time.monotonic() - heard < LISTEN_S:
            return
        heard = time.monotonic()
        for number in take_stops(run):
            if number is None:
                driver.drain(VERB)
            elif driver.stop_by_hand(number):
                driver.log(f"trial {number} is stopped by hand: it ends after its present epoch")

    resources = slots.resources
    slot_resources = (
        {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker or 0.0}
        if resources.workers == 1
        else {"memory": 300e6}  # it only passes messages; its workers hold the processors
    )
    scratch = tempfile.mkdtemp(prefix="siamtune-tune-")
    try:
        with _drain_on_signals(driver.drain):
            tune.Tuner(
                tune.with_resources(Slot, slot_resources),
                tune_config=tune.TuneConfig(
                    search_alg=DriverSearcher(driver),
                    scheduler=DriverScheduler(driver),
                    num_samples=-1,
                    max_concurrent_trials=slots.concurrent,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=scratch,
                    verbose=0,
                    stop=DriverStopper(driver),
                    callbacks=[Ticker(driver, tick_and_listen, slots.watchdog)],
                    failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        driver.interrupt_running()
    finally:
        driver.recorder.close()
        forget_stops(run)
        shutil.rmtree(scratch, ignore_errors=True)
    if isinstance(driver.error, OSError | Unwritable):
        told = str(driver.error)
        if isinstance(driver.error, OSError):
            told = f"{run.folder} must be writable, but {told}"
        raise Unwritable(
            f"{told}; what was recorded before is safe: mend that, then {driver.go_on}"
        ) from driver.error
    if isinstance(driver.error, ClusterError):
        raise ClusterError(
            f"{driver.error}\nwhat was recorded before is safe; {driver.go_on}"
        ) from driver.error
    if driver.error is not None:
        raise driver.error


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
        drain(CTRL_C if number == signal.SIGINT else TERMINATED)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
