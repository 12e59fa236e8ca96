"""What the benchmarks share: ways of doing one thing, timed in turns, and what came of it.

A figure is a ratio from one run: ours against theirs, in turns, five times or more. A machine that
others use as well then slows both, and the spread tells how much that still left to chance.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

SCHEMA = "siamtune.benchmarks/1"
PACKAGES = ("siamtune", "torch", "ray", "optuna", "numpy", "opencv-python-headless")
REPEATS = 5


@dataclass(frozen=True)
class Figure:
    """What one comparison measured; `ours[i]` and `theirs[i]` come from one turn."""

    name: str  # "S3 hani: images/s"
    against: str  # what `theirs` is
    unit: str
    ours: list[float]
    theirs: list[float]
    better: str = "less"  # which ratio is better: "less" or "more"
    goal: float | None = None
    goal_of: str = "ratio"  # or "ours": a goal in `unit`

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        got = median(self.ratios if self.goal_of == "ratio" else self.ours)
        return got <= self.goal if self.better == "less" else got >= self.goal


@dataclass(frozen=True)
class Options:
    """How a benchmark is run; what it needs and does not get, it leaves out and says so."""

    long: bool = False
    data_home: Path | None = None  # where scikit-learn's `lfw_home` lies
    only: tuple[str, ...] = ()
    peers: dict[str, Path] = field(default_factory=dict)  # name -> python of its own environment


Benchmark = Callable[[Options], Iterable[Figure]]


def in_torch_trainer(
    worker: Callable[[dict[str, Any]], None], workers: int
) -> Callable[[dict[str, Any]], None]:
    """A Tune function that has a TorchTrainer run `worker`, as Ray's guide has it.

    The workers of a trial share half a processor core.
    """

    def trial(config: dict[str, Any]) -> None:
        import ray.train
        from ray import tune
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        TorchTrainer(
            worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, resources_per_worker={"CPU": 0.5 / workers}
            ),
            run_config=ray.train.RunConfig(
                name=f"train-trial_id={tune.get_context().get_trial_id()}",
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    return trial


def in_turns(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int = REPEATS
) -> tuple[list[float], list[float]]:
    """What both measured, in turns; who begins takes turns as well."""
    values: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            values[which].append((ours, theirs)[which]())
    return values


def side_by_side(
    ours: Callable[[], float], peers: Mapping[str, Callable[[], float]], repeats: int = REPEATS
) -> dict[str, tuple[list[float], list[float]]]:
    """What ours and each peer measured: all of them once a turn, each the first in its turn.

    A peer that fails is left out from then on, and what was measured of it; the log says why.
    """
    own: list[float] = []
    values: dict[str, list[float]] = {peer: [] for peer in peers}
    for turn in range(repeats):
        if not values:
            break
        names = [None, *values]
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began = perf_counter()
            try:
                measured = ours() if name is None else peers[name]()
                (own if name is None else values[name]).append(measured)
                told = f"{measured:.4g} after {perf_counter() - began:.1f} s"
            except Exception as error:
                if name is None:
                    raise
                del values[name]
                told = f"failed and is left out: {why(error)}"
            print(f"turn {turn + 1} of {repeats}: {name or 'ours'}: {told}", file=sys.stderr)
    return {peer: (own, theirs) for peer, theirs in values.items()}


def why(error: Exception) -> str:
    """The last line of an error; of a program's, the last line that it wrote."""
    told = str(error)
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        told = error.stderr
    lines = [line for line in told.splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = perf_counter()
    work()
    return perf_counter() - started


def conditions() -> dict[str, Any]:
    """When and on what a result was measured."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "system": platform.platform(),
            "load": round(os.getloadavg()[0], 2),  # when the measuring ended
        },
        "versions": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def write_result(path: Path, figures: Iterable[Figure]) -> None:
    document = {"schema": SCHEMA, **conditions(), "figures": [asdict(f) for f in figures]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_result(path: Path) -> tuple[dict[str, Any], list[Figure]]:
    document = json.loads(path.read_text())
    if document.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: must be a result of benchmarks/run ({SCHEMA})")
    return document, [Figure(**figure) for figure in document["figures"]]


def number(value: float) -> str:
    """Three digits of a number, however large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


HEAD = (
    "| figure | ours | against | theirs | ratio: median [min, max] | goal | reached |",
    "| --- | --: | --- | --: | --: | --: | --- |",
)


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table, each with its spread."""
    return "\n".join([*HEAD, *map(row, figures)])


def row(figure: Figure) -> str:
    ratios, unit = figure.ratios, figure.unit
    sign = "<=" if figure.better == "less" else ">="
    of = "" if figure.goal_of == "ratio" else f" {unit}"
    goal = "" if figure.goal is None else f"{sign} {number(figure.goal)}{of}"
    reached = {None: "", True: "yes", False: "no"}[figure.reached]
    return (
        f"| {figure.name} | {number(median(figure.ours))} {unit} | {figure.against} "
        f"| {number(median(figure.theirs))} {unit} | {median(ratios):.3g} "
        f"[{min(ratios):.3g}, {max(ratios):.3g}], {len(ratios)}x | {goal} | {reached} |"
    )


def heading(document: dict[str, Any]) -> str:
    machine, versions = document["machine"], document["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"{document['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['system']}; load {machine['load']}; {packages}"
    )


def run_alone(benchmark: Benchmark, doc: str) -> None:
    """The command line of one benchmark's file."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of figures")
    parser.add_argument("--write", type=Path, help="write the figures to this JSON file, too")
    given = parser.parse_args()
    options = Options(given.long, given.data_home, tuple(given.only), peers_of(given.peer))
    figures: list[Figure] = []
    print("\n".join(HEAD), flush=True)
    for figure in benchmark(options):
        if not wanted(options, f"{figure.name} {figure.against}"):
            continue  # measured along with one that is
        figures.append(figure)
        print(row(figure), flush=True)
        if given.write:  # what there is so far outlives an interruption
            write_result(given.write, figures)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--long", action="store_true", help="more repeats, larger sizes")
    parser.add_argument("--data-home", type=Path, help="folder that holds lfw_home")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON",
        help="the interpreter of the environment that a peer is installed in",
    )  # fmt: skip


def peers_of(given: Iterable[str]) -> dict[str, Path]:
    return {name: Path(python) for name, _, python in (peer.partition("=") for peer in given)}


def wanted(options: Options, name: str) -> bool:
    """Whether a figure is among those that were asked for."""
    return not options.only or any(part in name for part in options.only)
