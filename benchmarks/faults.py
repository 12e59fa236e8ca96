"""Faults, each a scripted case with a count: what is killed, unplugged, full or wrong.

    sudo python benchmarks/faults.py                     # all of them
    sudo python benchmarks/faults.py nan hang            # some
    sudo python benchmarks/faults.py driver --kills 50 --lanes 3

Every case runs real searches of tiny trials through the command line, on a Ray cluster of its own
behind a token, breaks something at a moment that it waits for, lets the search go on (`resume`
where its driver is gone) and then reads the run folder:

    lost        trials that had ended and are not, or not the same, afterwards; the winner's model
    twice       ends or epochs that are recorded twice, and trials beyond those asked for
    zombie      trials that still run for the study or the record when all is over
    leaked      placement groups and actors that the cluster still holds then
    hung        drivers that had to be killed because nothing moved any more

Drivers are forked from this process, which has imported what they need: 50 of them would else spend
ten minutes on imports. Needs root (mounts, namespaces, a memory cgroup), Linux, and its own Ray
ports; touches no other Ray.
"""

# ruff: noqa: E402  what Ray reads from the environment must stand there before it is imported

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "cluster"), str(ROOT / "benchmarks")]
os.environ.update(
    RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16), RAY_worker_niceness="0",
    PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1",
)  # fmt: skip

from siamtune.launch.cluster import prepare_environment

prepare_environment()

import optuna
from leaks import TINY, people

import siamtune.launch.searcher  # noqa: F401  drivers find it imported
from siamtune.cli import main as command_line
from siamtune.search.records import TrialRecord, read_records

PATIENCE_S = 900.0  # without anything that moves; the machine may be busy with other things
SPACE = f"""
version: 1
study: {{trials: TRIALS, scheduler: {{SCHEDULER}}, sampler: {{random: {{}}}}, seed: 0}}
fixed:
  epochs: 12
{TINY}space:
  optim.lr: {{float: [1e-4, 3e-2], log: true}}
"""


@dataclass
class Tally:
    """One line of the table."""

    what: str
    times: int = 0
    lost: int = 0
    twice: int = 0
    zombie: int = 0
    leaked: int = 0
    hung: int = 0
    said: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name in ("times", *COUNTED):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.said += other.said


COUNTED = ("lost", "twice", "zombie", "leaked", "hung")


class Driver:
    """`siamtune ...` in a forked process, its output in a file."""

    started: ClassVar[list["Driver"]] = []

    def __init__(self, words: list[str], log: Path) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid:
            self.started.append(self)
            return
        code = 1
        try:
            os.setsid()
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.argv = ["siamtune", *words]
            command_line.run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            os._exit(code)

    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if not hasattr(self, "_code"):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return None
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Search:
    """A run folder, the drivers that drive it, and what must hold at the end."""

    def __init__(
        self, tally: Tally, folder: Path, address: str | None, data: Path, *options: str,
        trials: int = 6, scheduler: str = "none: {}", space: str = SPACE,
    ) -> None:  # fmt: skip
        self.tally = tally
        self.folder = folder
        self.run = folder / "runs" / "run"
        self.data = data
        self.options = [*options, *(["--address", address] if address else [])]
        self.trials = trials
        self.driver: Driver | None = None
        self.before: dict[int, TrialRecord] = {}
        folder.mkdir(parents=True, exist_ok=True)
        text = space.replace("TRIALS", str(trials)).replace("SCHEDULER", scheduler)
        (folder / "space.yaml").write_text(text)

    @property
    def output(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def last_word(self) -> str:
        """What the last driver said of its end."""
        said = [line for line in self.output.splitlines() if line.startswith("siamtune: ")]
        return said[-1][:160] if said else "-"

    def words(self) -> list[str]:
        """The command line that begins the search, or goes on with it."""
        if (self.run / "run.json").exists():
            return ["resume", "run", "--output", str(self.run.parent), *self.options]
        return ["search", "--space", str(self.folder / "space.yaml"), "--data", str(self.data),
                "--name", "run", "--output", str(self.run.parent), *self.options]  # fmt: skip

    def start(self) -> None:
        if self.run.exists() and not (self.run / "run.json").exists():
            shutil.rmtree(self.run)  # killed before it was a run: there is nothing to resume
        self.driver = Driver(self.words(), self.folder / "log.txt")

    def records(self) -> dict[int, TrialRecord]:
        return read_records(self.run / "trials.jsonl")

    def events(self) -> int:
        path = self.run / "trials.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False if the driver ends before, or hangs and is killed."""
        assert self.driver is not None
        moved, seen = time.monotonic(), (-1, -1)
        while not condition():
            if self.driver.code() is not None:
                return condition()
            now = (self.events(), len(self.output))
            if now != seen:
                moved, seen = time.monotonic(), now
            if time.monotonic() - moved > PATIENCE_S:
                self.tally.hung += 1
                self.tally.said.append(f"hung: {self.folder}")
                self.driver.kill()
                return False
            time.sleep(0.05)
        return True

    def running(self, epoch: int = 2) -> list[TrialRecord]:
        return [r for r in self.records().values() if r.state == "running" and r.epoch >= epoch]

    def midway(self, without: frozenset[int] = frozenset()) -> TrialRecord:
        """Wait until a trial is in the midst of its epochs."""
        found: list[TrialRecord] = []

        def is_midway() -> bool:
            found[:] = [record for record in self.running() if record.number not in without]
            return bool(found)

        if not self.wait(is_midway):
            raise RuntimeError(f"no trial came so far; see {self.folder}/log.txt")
        return found[0]

    def end(self) -> int | None:
        """Wait for the driver's end; its exit code."""
        assert self.driver is not None
        driver = self.driver
        self.wait(lambda: driver.code() is not None)
        return driver.code()

    def pid(self, trial: int, rank: int = 0) -> int:
        """The process that trains a trial, once it has signed."""
        path = self.run / "trials" / f"{trial:04d}" / f"worker-{rank}.log"
        for _ in range(60):
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int(json.loads(path.read_text().splitlines()[0])["pid"])
            time.sleep(0.05)
        raise RuntimeError(f"{path}: nobody has signed")

    def compare(self) -> None:
        """Count what had ended before and is not there any more, or not the same."""
        now = self.records()
        for number, record in self.before.items():
            if record.ended_for_good and now.get(number) != record:
                self.tally.lost += 1
                self.tally.said.append(f"lost: trial {number} of {self.folder}")
        self.before = now

    def check(self) -> Counter[str]:
        """Count at the end of all; the states of the trials."""
        self.compare()
        epochs: Counter[tuple[int, float]] = Counter()
        ends: Counter[int] = Counter()
        for line in (self.run / "trials.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "epoch":
                epochs[event["trial"], event["metrics"]["epoch"]] += 1
            elif event["event"] == "ended" and event["state"] != "interrupted":
                ends[event["trial"]] += 1
        counts = [*epochs.values(), *ends.values()]
        records = self.records()
        self.tally.twice += sum(count - 1 for count in counts) + max(0, len(records) - self.trials)
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(self.run / "study.log"))
        )
        study = optuna.load_study(study_name="siamtune", storage=storage)
        names = {"complete": "COMPLETE", "stopped": "PRUNED", "collapsed": "PRUNED"}
        for trial in study.get_trials(deepcopy=False):
            record = records.get(trial.number)
            if trial.state.name == "RUNNING" or record is None or not record.ended_for_good:
                self.tally.zombie += 1
                self.tally.said.append(f"zombie: trial {trial.number} of {self.folder}")
            elif trial.state.name != names.get(record.state, "FAIL"):
                self.tally.lost += 1
                self.tally.said.append(f"study and record differ: {trial.number} {self.folder}")
        states = Counter(record.state for record in records.values())
        if states["complete"] and not (self.run / "best" / "model.safetensors").exists():
            self.tally.lost += 1
            self.tally.said.append(f"the winner's model is not there: {self.folder}")
        return states


# What the cluster holds, asked by a process of its own.
HOLDS = """
import json, sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
deadline = time.monotonic() + 60  # Ray tidies up behind a dead driver, but not at once
while True:
    table = ray.util.placement_group_table()
    groups = [group for group in table.values() if group["state"] != "REMOVED"]
    rays_own = ("PlacementGroupCleaner", "_AutoscalingCoordinatorActor")
    actors = [a for a in ray._private.state.actors().values()
              if a["State"] == "ALIVE" and a["ActorClassName"] not in rays_own]
    if not (groups or actors) or time.monotonic() > deadline:
        break
    time.sleep(1)
print(json.dumps([len(groups), [a["ActorClassName"] for a in actors]]))
"""


# A machine that is busy with other things lets Ray miss the times that it gives itself: half a
# minute for a node, a minute for a process, half a minute without a heartbeat.
PATIENT_RAY = """
import sys, time
from ray._private import services
ask = services.get_node

def get_node(*which):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return ask(*which)
        except RuntimeError:
            time.sleep(0.5)
    sys.exit("the node has not come up")

services.get_node = get_node
from ray.scripts.scripts import main
sys.exit(main())
"""
# What a process does on SIGUSR1, in the midst of whatever it does.
HANGING = """
import signal, threading

def wait_for_nobody(*_):
    lock = threading.Lock()
    with lock:
        lock.acquire()

signal.signal(signal.SIGUSR1, wait_for_nobody)
"""
PATIENT = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "100",
}


@dataclass
class Cluster:
    """A head of our own on this machine."""

    address: str
    work: Path
    data: Path
    environment: dict[str, str]

    def leaked(self, tally: Tally) -> None:
        done = subprocess.run(
            [sys.executable, "-c", HOLDS, self.address], capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        groups, actors = json.loads(done.stdout.splitlines()[-1])
        tally.leaked += groups + len(actors)
        if groups or actors:
            tally.said.append(f"left on the cluster: {groups} placement groups, actors {actors}")

    def search(self, tally: Tally, name: str, *options: str, **more) -> Search:
        return Search(tally, self.work / name, self.address, self.data, *options, **more)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def cluster(work: Path, processors: int, dashboard: bool) -> Iterator[Cluster]:
    """Ports and a folder of its own: another Ray on this machine is neither used nor disturbed.

    Only the groups of Ray Train need a dashboard, which is a dozen processes.
    """
    work.mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    (work / "hanging").mkdir()
    (work / "hanging" / "sitecustomize.py").write_text(HANGING)
    environment = {**os.environ, **PATIENT, "PYTHONPATH": f"{work / 'hanging'}:{ROOT}"}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [
            sys.executable, "-c", PATIENT_RAY, "start", "--head", "--block",
            f"--num-cpus={processors}", f"--port={address.rpartition(':')[2]}",
            "--node-ip-address=127.0.0.1", f"--include-dashboard={str(dashboard).lower()}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={free_port()}", "--dashboard-agent-listen-port=0",
            f"--temp-dir={folder}", "--object-store-memory=200000000",
        ]  # fmt: skip
        process = start_ray(lambda out: subprocess.Popen(
            command, env=environment, stdout=out, stderr=out), work / "ray.log")  # fmt: skip
        try:
            yield Cluster(address, work, people(work / "people"), environment)
        finally:
            process.terminate()
            process.wait()


def start_ray(start: Callable[[IO[str]], subprocess.Popen], log: Path) -> subprocess.Popen:
    """Start Ray and wait until it says that it runs; again where it was too slow for itself."""
    for _ in range(8):
        with log.open("w") as out:
            process = start(out)
        while process.poll() is None:
            if "Ray runtime started" in log.read_text():
                return process
            time.sleep(1)
    raise RuntimeError(f"Ray did not start, see {log}")


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A file system in memory that is soon full."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk but for so many bytes."""
    filler = folder / "filler"
    free = os.statvfs(folder)
    filler.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - leave)))
    return filler


# The cases -------------------------------------------------------------------------------------


def driver_killed(here: Cluster, kills: int, seed: int) -> Tally:
    """Killed at random moments: while it starts, trains, writes, ends; each life is resumed."""
    tally = Tally("driver killed (SIGKILL) at random moments")
    random_ = random.Random(seed)
    round_, whole, moments = 0, 0, Counter()
    while tally.times < kills:
        round_ += 1
        search = here.search(
            tally, f"driver-{seed}-{round_}", "--concurrent", "1",
            trials=12, scheduler="asha: {min_epochs: 3, eta: 3}",
        )  # fmt: skip
        while tally.times < kills:
            search.start()
            more = random_.choice((0, 1, 3, 10, 25))
            wanted = search.events() + more
            began = time.monotonic()
            delay_s = random_.uniform(0, 10.0 if more == 0 else 0.5)
            reached = search.wait(lambda wanted=wanted, s=search: s.events() >= wanted)
            time.sleep(delay_s if reached else 0)
            if search.driver.code() is not None:
                break  # this one came to its end
            search.driver.kill()
            search.end()
            tally.times += 1
            moments["while it started" if more == 0 else "while it ran"] += 1
            search.compare()
            states = dict(Counter(record.state for record in search.before.values()))
            lived_s = time.monotonic() - began
            print(f"  lane {seed}: kill {tally.times} after {lived_s:.0f} s, {states}", flush=True)
        for _ in range(3):  # a search that does not come to its end leaves zombies to count
            if search.driver.code() == 0:
                break
            search.start()
            search.end()
        states = search.check()
        whole += search.driver.code() == 0 and sum(states.values()) == 12
    tally.said.append(f"{whole} of {round_} searches brought to their end; {dict(moments)}")
    return tally


def slot_killed(here: Cluster) -> Tally:
    """The process of a trial with one worker; another trial runs beside it."""
    tally = Tally("slot killed (one worker a trial)")
    search = here.search(tally, "slot", "--concurrent", "2")
    search.start()
    hit = set()
    for _ in range(2):
        trial = search.midway(without=frozenset(hit)).number
        os.kill(search.pid(trial), signal.SIGKILL)
        hit.add(trial)
        tally.times += 1
        search.wait(lambda trial=trial: bool(search.records()[trial].retries))
    code = search.end()
    states = search.check()
    retried = {r.number: len(r.retries) for r in search.records().values() if r.retries}
    untouched = set(retried) == hit
    tally.said.append(
        f"exit {code}, {dict(states)}, retries {retried}, others noticed: {not untouched}"
    )
    return tally


def worker_killed(here: Cluster) -> Tally:
    """One of two workers of a Ray Train group."""
    return _group(here, "worker killed (two workers a trial)", "worker", lambda s, t: s.pid(t, 1))


def group_slot_killed(here: Cluster) -> Tally:
    """The slot that owns a Ray Train group; the group and its placement group must go with it."""
    return _group(
        here, "whole slot killed (two workers a trial)", "group", lambda s, t: slot_pid(here)
    )


def slot_pid(here: Cluster) -> int:
    token, title = here.environment["RAY_AUTH_TOKEN"].encode(), b"ray::ResourceTrainable"
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_slot = entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(title)
            if is_slot and token in (entry / "environ").read_bytes():
                return int(entry.name)
    raise RuntimeError("no slot runs")


def _group(here: Cluster, what: str, name: str, victim: Callable[[Search, int], int]) -> Tally:
    tally = Tally(what, times=1)
    search = here.search(
        tally, name, "--workers-per-trial", "2", "--cpus-per-worker", "0.5", "--concurrent", "1",
        trials=3,
    )  # fmt: skip
    search.start()
    trial = search.midway().number
    os.kill(victim(search, trial), signal.SIGKILL)
    code = search.end()
    states = search.check()
    reasons = [reason[:60] for record in search.records().values() for reason in record.retries]
    tally.said.append(f"exit {code}, {dict(states)}, retried: {reasons}")
    return tally


def hang(here: Cluster) -> Tally:
    """A trial waits for a lock that nobody gives back, and another one's process is stopped.

    The first ends itself; the second cannot, so the driver ends it.
    """
    tally = Tally("trial hangs: waits for a lock; its process is frozen (SIGSTOP)", times=2)
    search = here.search(tally, "hang", "--concurrent", "2", trials=3)
    search.start()
    locked = search.midway().number
    os.kill(search.pid(locked), signal.SIGUSR1)
    began = {locked: time.monotonic()}
    frozen = search.midway(without=frozenset({locked})).number
    pid = search.pid(frozen)
    os.kill(pid, signal.SIGSTOP)
    began[frozen] = time.monotonic()
    waited_s: dict[int, float] = {}

    def both_are_retried() -> bool:
        records = search.records()
        for number in began.keys() - waited_s.keys():
            if records[number].retries:
                waited_s[number] = time.monotonic() - began[number]
        return len(waited_s) == 2

    search.wait(both_are_retried)
    code = search.end()
    states = search.check()
    stacks = search.run / "trials" / f"{locked:04d}" / "hang.txt"
    told = stacks.exists() and "in wait_for_nobody" in stacks.read_text()
    ended = ", ".join(f"{waited_s[n]:.0f} s" if n in waited_s else "-" for n in (locked, frozen))
    tally.said.append(
        f"exit {code}, {dict(states)}; ended after {ended}; where the first hung is told: {told}, "
        f"the frozen process is gone: {not Path(f'/proc/{pid}').exists()}"
    )
    return tally


def nan(here: Cluster) -> Tally:
    """A learning rate at which the loss is no number any more."""
    tally = Tally("loss not a number", times=2)
    fixed = (
        "  optim.name: sgd\n  loss.name: hadsell\n  loss.distance: l2\n  model.unit_length: false\n"
    )
    start = "start: [{optim.lr: 10.0}, {optim.lr: 1e-4}, {optim.lr: 10.0}]\n"
    text = SPACE.replace("space:", f"{fixed}{start}space:")
    text = text.replace("{float: [1e-4, 3e-2], log: true}", "{choice: [1e-4, 10.0]}")
    search = here.search(tally, "nan", "--concurrent", "1", trials=3, space=text)
    search.start()
    code = search.end()
    states = search.check()
    reasons = {str(r.reason) for r in search.records().values() if r.state == "collapsed"}
    tally.said.append(f"exit {code}, {dict(states)}, {reasons}")
    return tally


def truncated(here: Cluster) -> Tally:
    """Driver and slot die, and what they leave of a checkpoint is half of it."""
    tally = Tally("checkpoint truncated", times=1)
    search = here.search(tally, "truncated", "--concurrent", "1", trials=3)
    search.start()
    trial = search.midway().number
    search.driver.kill()
    search.end()
    search.compare()
    time.sleep(5)  # until the slot has gone, too
    path = search.run / "trials" / f"{trial:04d}" / "last.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    reached = search.before[trial].epoch
    search.start()
    code = search.end()
    states = search.check()
    tally.said.append(f"exit {code}, {dict(states)}; trial {trial} anew, known to epoch {reached}")
    return tally


def disk_full_checkpoint(here: Cluster) -> Tally:
    tally = Tally("disk full: checkpoint", times=1)
    with small_disk(here.work / "disk-checkpoint", "12m") as disk:
        search = Search(tally, disk, here.address, here.data, "--concurrent", "1", trials=3)
        search.start()
        search.midway()
        filler = fill(disk, leave=40_000)
        code = search.end()
        search.compare()
        halves = [path.name for path in (search.run / "trials").rglob(".*")]
        filler.unlink()
        first = f"exit {code}, {search.last_word()}; half-written files: {halves}"
        search.start()
        tally.said.append(f"{first}; with room again: exit {search.end()}, {dict(search.check())}")
    return tally


def _moved_to_small_disk(tally: Tally, here: Cluster, name: str, what: str, size: str):
    """A search that was interrupted and whose study or curves then lie on a small disk."""
    search = here.search(tally, name, "--concurrent", "1", trials=4)
    search.start()
    search.midway()
    search.driver.kill(signal.SIGINT)
    search.end()
    search.compare()
    return search, small_disk(here.work / f"disk-{name}", size)


def disk_full_journal(here: Cluster) -> Tally:
    tally = Tally("disk full: the study's journal", times=1)
    search, disk = _moved_to_small_disk(tally, here, "journal", "study.log", "1m")
    with disk as small:
        shutil.move(search.run / "study.log", small / "study.log")
        (search.run / "study.log").symlink_to(small / "study.log")
        filler = fill(small, leave=4096)
        search.start()
        code = search.end()
        search.compare()
        filler.unlink()
        first = f"exit {code}, {search.last_word()}"
        search.start()
        tally.said.append(f"{first}; with room again: exit {search.end()}, {dict(search.check())}")
    return tally


def disk_full_tensorboard(here: Cluster) -> Tally:
    tally = Tally("disk full: TensorBoard", times=1)
    search, disk = _moved_to_small_disk(tally, here, "tensorboard", "tensorboard", "1m")
    with disk as small:
        shutil.copytree(search.run / "tensorboard", small / "tensorboard")
        shutil.rmtree(search.run / "tensorboard")
        (search.run / "tensorboard").symlink_to(small / "tensorboard")
        fill(small, leave=0)
        search.start()
        tally.said.append(f"exit {search.end()}, {dict(search.check())}: trains on without curves")
    return tally


def unmounted(here: Cluster) -> Tally:
    """The pictures go away under a search, and then the only slot that had read them."""
    tally = Tally("data folder unmounted, then a slot killed", times=2)
    with small_disk(here.work / "disk-data", "8m") as disk:
        data = people(disk / "people")
        search = Search(tally, here.work / "unmounted", here.address, data,
                        "--concurrent", "1", trials=9)  # fmt: skip
        search.start()
        search.wait(lambda: any(r.state == "complete" for r in search.records().values()))
        subprocess.run(["umount", "-l", str(disk)], check=True)
        search.wait(lambda: len(search.records()) >= 3 and bool(search.running()))
        trained = sum(r.state == "complete" for r in search.records().values())
        os.kill(search.pid(search.running()[0].number), signal.SIGKILL)
        code = search.end()
        search.compare()
        first = f"{trained} complete without it; new process: exit {code}, {search.last_word()}"
        subprocess.run(["mount", "-t", "tmpfs", "small", str(disk)], check=True)
        people(disk / "people")
        search.start()
        tally.said.append(f"{first}; mounted again: exit {search.end()}, {dict(search.check())}")
    return tally


def memory(here: Cluster) -> Tally:
    """The kernel takes a slot that wants more memory than its group may have."""
    tally = Tally("out of memory (kernel kills the slot)", times=1)
    group = Path("/sys/fs/cgroup/memory/siamtune-faults")
    search = here.search(tally, "memory", "--concurrent", "1", trials=3)
    search.start()
    pid = search.pid(search.midway().number)
    group.mkdir(exist_ok=True)
    try:
        (group / "memory.limit_in_bytes").write_text("1M")  # of what it takes from now on
        (group / "cgroup.procs").write_text(str(pid))
        code = search.end()
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
    states = search.check()
    taken = [r for r in search.records().values() if r.state == "out_of_memory"]
    told = [f"trial {record.number}: {record.reason}" for record in taken]
    tally.said.append(f"exit {code}, {dict(states)}; {told}")
    return tally


# Hosts -----------------------------------------------------------------------------------------


def _ray_on(host, head, log: Path, processors: int):
    join = [f"--address={head.address}:6379"]
    if host is head:
        join = ["--head", "--port=6379", "--include-dashboard=false"]
    command = [
        sys.executable, "-c", PATIENT_RAY, "start", "--block", f"--num-cpus={processors}",
        f"--node-ip-address={host.address}", "--object-store-memory=200000000", *join,
    ]  # fmt: skip
    return start_ray(
        lambda out: host.start(command, ray_environment(), stdout=out, stderr=out),
        log / f"ray-{host.name}.log",
    )


def ray_environment() -> dict[str, str]:
    """What the commands on a host need; a lost host is noticed after a minute or so."""
    names = ("RAY_", "TUNE_", "OMP_", "PYTHONPATH", "SIAMTUNE_CACHE")
    ours = {name: value for name, value in os.environ.items() if name.startswith(names)}
    return ours | PATIENT | {"RAY_health_check_failure_threshold": "15"}


class HostSearch(Search):
    """A search whose driver runs on a host of its own."""

    host = None

    def start(self) -> None:
        log = (self.folder / "log.txt").open("a")
        process = self.host.start([sys.executable, "-m", "siamtune", *self.words()],
                                  ray_environment(), stdout=log, stderr=log)  # fmt: skip

        class Remote:
            def code(self) -> int | None:
                return process.poll()

            def kill(self, number: int = signal.SIGKILL) -> None:
                process.send_signal(number)

        self.driver = Remote()  # type: ignore[assignment]


def _host_of(search: Search, trial: int) -> str:
    path = search.run / "trials" / f"{trial:04d}" / "worker-0.log"
    return str(json.loads(path.read_text().splitlines()[0])["host"])


def hosts_lost(work: Path) -> Iterator[Tally]:
    """A worker host killed, then one cut off, then the head killed and the search resumed."""
    from hosts import hosts

    data = people(work / "people-of-hosts")
    with hosts(4, work / "hosts") as four:
        head = four[0]
        for host in four[:3]:
            _ray_on(host, head, work, 0 if host is head else 1)
        yield _worker_host_lost(work, data, four, "host killed", "kill")
        _ray_on(four[3], head, work, 1)  # in place of the one that was killed
        yield _worker_host_lost(work, data, four, "host cut off from the network", "cut_off")
        headless = Tally("head host lost, shared storage", times=1)
        search = HostSearch(headless, work / "head-lost", f"{head.address}:6379", data,
                            "--concurrent", "1", trials=3)  # fmt: skip
        search.host = head
        search.start()
        search.midway()
        head.kill()
        search.end()
        search.compare()
    with hosts(1, work / "hosts") as (other,):
        _ray_on(other, other, work, 1)
        search.host = other
        search.options[-1] = f"{other.address}:6379"
        search.start()
        code = search.end()
        headless.said.append(f"resumed on another head: exit {code}, {dict(search.check())}")
        headless.leaked += _left_on(other, other, headless)
    yield headless


def _worker_host_lost(work: Path, data: Path, all_hosts, what: str, deed: str) -> Tally:
    """One of two hosts of a search is lost in the midst of a trial."""
    tally, head = Tally(what, times=1), all_hosts[0]
    by_name = {host.name: host for host in all_hosts}
    search = HostSearch(tally, work / f"host-{deed}", f"{head.address}:6379", data,
                        "--concurrent", "2", trials=6)  # fmt: skip
    search.host = head
    search.start()
    trial = search.midway().number
    victim = by_name[_host_of(search, trial)]
    began = time.monotonic()
    getattr(victim, deed)()
    search.wait(lambda: bool(search.records()[trial].retries))
    noticed_s = time.monotonic() - began
    code = search.end()
    states = search.check()
    tally.leaked += _left_on(head, head, tally)
    tally.said.append(f"exit {code}, {dict(states)}, run elsewhere after {noticed_s:.0f} s")
    return tally


def _left_on(host, head, tally: Tally) -> int:
    """What the cluster of a head still holds, asked from a host."""
    done = host.run([sys.executable, "-c", HOLDS, f"{head.address}:6379"],
                    ray_environment(), timeout_s=600)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    groups, actors = json.loads(done.stdout.splitlines()[-1])
    if groups or actors:
        tally.said.append(f"left on the cluster: {groups} placement groups, actors {actors}")
    return groups + len(actors)


CASES: dict[str, Callable[[Cluster], Tally]] = {
    "slot": slot_killed,
    "worker": worker_killed,
    "group": group_slot_killed,
    "hang": hang,
    "nan": nan,
    "truncated": truncated,
    "checkpoint": disk_full_checkpoint,
    "journal": disk_full_journal,
    "tensorboard": disk_full_tensorboard,
    "unmounted": unmounted,
    "memory": memory,
}


GROUPS = ("worker", "group")


def driver_lanes(here: Cluster, given: argparse.Namespace) -> Tally:
    """The kills shared out to searches that run side by side."""
    total = Tally("")
    kills, lanes = given.kills, given.lanes
    shares = [kills // lanes + (lane < kills % lanes) for lane in range(lanes)]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def lane(number: int) -> None:
        answers.put(driver_killed(here, shares[number], seed=given.seed + number))

    processes = [context.Process(target=lane, args=(number,)) for number in range(lanes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError("a lane has failed")
        part = answers.get()
        total.what = part.what
        total.add(part)
    return total


HEADER = f"| case | times | {' | '.join(COUNTED)} | what came of it |\n| --- | {'--: | ' * 6}--- |"


def row(tally: Tally) -> str:
    """A line of the table, in Markdown."""
    numbers = " | ".join(str(getattr(tally, name)) for name in ("times", *COUNTED))
    said = "; ".join(tally.said).replace("|", "/").replace("\n", " ")
    return f"| {tally.what} | {numbers} | {said} |"


def carried_out(name: str, tallies: Iterable[Tally], to: Path) -> Iterator[Tally]:
    """Each row of a case, printed and written when it comes; what prevents it stands in a row."""
    began = time.monotonic()
    rows = iter(tallies)
    while True:
        try:
            tally = next(rows, None)
        except Exception as error:
            tally = Tally(f"{name}: NOT CARRIED OUT", said=[f"{type(error).__name__}: {error}"])
            rows = iter(())
            for driver in Driver.started:  # or it would be in the way of the next case
                if driver.code() is None:
                    driver.kill()
        if tally is None:
            return
        print(f"{name}: {time.monotonic() - began:.0f} s\n{row(tally)}", flush=True)
        with to.open("a") as file:
            file.write(row(tally) + "\n")
        yield tally


def on_cluster(names: list[str], work: Path, given: argparse.Namespace) -> Iterator[Tally]:
    """The cases that share one cluster."""
    with cluster(work / names[0], 2, dashboard=names[0] in GROUPS) as here:

        def case(name: str) -> Iterator[Tally]:
            tally = driver_lanes(here, given) if name == "driver" else CASES[name](here)
            here.leaked(tally)
            yield tally

        for name in names:
            yield from carried_out(name, case(name), given.to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"driver, {', '.join(CASES)}, hosts; all if none")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    parser.add_argument("--work", type=Path, help="Kept, if given; else a temporary folder.")
    parser.add_argument("--to", type=Path, default=Path("faults.md"), help="The table.")
    given = parser.parse_args()
    known = ["driver", *CASES, "hosts"]
    chosen = given.cases or known
    if unknown := set(chosen) - set(known):
        parser.error(f"cases are {', '.join(known)}, but got {', '.join(sorted(unknown))}")
    given.to = given.to.resolve()
    given.to.write_text(f"{HEADER}\n")
    work = (given.work or Path(tempfile.mkdtemp(prefix="siamtune-faults-"))).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.environ["SIAMTUNE_CACHE"] = str(work / "cache")
    one_worker = [name for name in CASES if name not in GROUPS]
    tallies: list[Tally] = []
    for part in (["driver"], one_worker, [*GROUPS]):
        if names := [name for name in part if name in chosen]:
            tallies += on_cluster(names, work, given)
    if "hosts" in chosen:
        tallies += carried_out("hosts", hosts_lost(work), given.to)
    print(HEADER, *map(row, tallies), sep="\n")
    if given.work is None:
        shutil.rmtree(work, ignore_errors=True)
    failed = any(getattr(tally, name) for tally in tallies for name in COUNTED)
    sys.exit(failed or any(not tally.times for tally in tallies))


if __name__ == "__main__":
    main()
