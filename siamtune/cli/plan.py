"""`siamtune plan`: what a search will try, take and leave, before it spends anything."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import options
from siamtune.cli.search import (
    Address,
    Concurrent,
    CpusPerWorker,
    GpusPerWorker,
    Workers,
    data_spec,
    require_landmarks,
    tell,
    tell_data,
)
from siamtune.errors import ClusterError, NoTrialSucceeded, SiamtuneError, SpaceError, UsageError

if TYPE_CHECKING:
    from siamtune.launch.plan import SearchTime, Stage, Times, Trio
    from siamtune.search.space import Buildable, Space
    from siamtune.verification.resolution import Resolution

# Combinations that are all tried; of more, a random share.
EVERY_UP_TO = 5_000
DRAWS = 1_000
REASONS_SHOWN = 5
FAILURES_SHOWN = 5


def plan(
    space: options.SpaceOption,
    data: options.Data = None,
    data_home: options.DataHome = None,
    landmarks: options.Landmarks = None,
    trials: Annotated[int | None, typer.Option(help="Trials to run.", min=1)] = None,
    epochs: options.Epochs = None,
    set_: options.Set = None,
    concurrent: Concurrent = None,
    workers_per_trial: Workers = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    split_seed: options.SplitSeed = 0,
    gpus: Annotated[
        int | None, typer.Option(help="Also estimate the time on this many GPUs.", min=1)
    ] = None,
    gpu_speed: Annotated[
        float,
        typer.Option(
            help="How many slots of this cluster one GPU stands for, where there is none to "
            "measure.",
            min=0.01,
        ),
    ] = 20.0,
    probe_time: Annotated[
        str, typer.Option(help="How long to measure trials; 0 for not at all.", metavar="DURATION")
    ] = "1m",
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="Train one step of every architecture x loss x normalization; exit code 3 if "
            "some fail, 4 if all do.",
        ),
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """See what a search will try and take: siamtune plan --space full --data lfw --gpus 4

        siamtune plan --space quickstart --trials 40 --probe-time 20s
        siamtune plan --space mine.yaml --probe-time 0 --smoke

    Leaves nothing behind but prepared pictures in the cache, which the search will use.
    """
    from siamtune.config import trial_config
    from siamtune.launch.cluster import TrialResources, connect, prepare_environment, resolved
    from siamtune.launch.worker import prepare_faces
    from siamtune.report.progress import progress_bar
    from siamtune.search.space import buildable, complete, load_space
    from siamtune.verification.resolution import validation_resolution

    probe_s = 0.0 if probe_time.strip() == "0" else options.parse_duration(probe_time)
    workers = workers_per_trial or 1
    resources = TrialResources(workers, cpus_per_worker or 1.0, gpus_per_worker)
    if gpus is not None and gpus < resources.gpus_where_there_are:
        raise UsageError(
            "--gpus must hold one trial or more, and one takes "
            f"{resources.gpus_where_there_are:g} GPUs, but got {gpus}"
        )
    overrides = options.parse_overrides(set_, epochs)
    loaded = load_space(space, overrides=overrides, trials=trials)
    spec = data_spec(data, data_home, landmarks, split_seed)
    tell_data(spec.source)
    count = loaded.study.trials
    can_build = buildable(loaded, DRAWS, every_up_to=EVERY_UP_TO, workers=workers)
    if not can_build.built:
        reason = next(iter(can_build.reasons))
        raise SpaceError(
            f"{loaded.path}: of {can_build.tried:,} combinations none can be built, most of them "
            f"because {reason}"
        )
    require_landmarks(loaded, spec)
    first = loaded.start[0] if loaded.start else {}
    with progress_bar() as progress:
        faces = prepare_faces(spec, trial_config(complete(loaded, first)).data, progress)
    resolution = validation_resolution(faces)

    prepare_environment(address)
    from siamtune.launch.plan import forecast, stages, trios
    from siamtune.launch.plan import smoke as smoke_trios
    from siamtune.launch.preflight import preflight
    from siamtune.launch.probe import Probers, open_data

    stage_list = stages(loaded, count)
    slots, times, refusal = 0, None, None
    smoked: list[Trio] = []
    failed: dict[str, str] = {}
    try:
        tell("asking Ray what it has")
        began = time.monotonic()
        import siamtune.launch.searcher  # noqa: F401  # the search's own process loads it, too

        connect(address, resources, verbose=verbose)
        ready_s = time.monotonic() - began
        resources = resolved(resources)
        fits = preflight(spec, resources).concurrent
        slots = min(concurrent or fits, fits, count)
    except ClusterError as error:
        refusal = error
    else:
        if probe_s or smoke:
            with progress_bar() as progress:
                opened = open_data(spec, progress)
                probers = Probers(spec, resources, slots)
                if probe_s:
                    times = forecast(
                        loaded, spec, opened, resources, probers, slots=slots, probe_s=probe_s,
                        ready_s=ready_s, gpus=gpus, gpu_speed=gpu_speed, progress=progress,
                    )  # fmt: skip
                if smoke:
                    smoked = trios(loaded, workers)
                    failed = smoke_trios(probers, smoked, progress)
                probers.close()
    if as_json:
        document = {
            **_document(loaded, can_build, stage_list, resolution),
            "slots": slots,
            "refused": None if refusal is None else str(refusal),
            "times": None if times is None else asdict(times),
            "smoke": [
                {
                    "name": trio.name,
                    "built": trio.config is not None,
                    "fault": failed.get(trio.name) or trio.why_not,
                }
                for trio in smoked
            ],
        }
        print(json.dumps(document, indent=2))
    else:
        _print_space(loaded, can_build)
        _print_search(loaded, stage_list)
        _row("validation", [str(resolution)])
        if times is not None:
            _print_times(times, loaded, gpus, gpu_speed, workers)
        _row("cluster", [_slots_line(slots, resources)] if refusal is None else ["see below"])
        if smoke and refusal is None:
            _print_smoke(smoked, failed)
    _raise_faults(refusal, failed, probe_s, times)


def _document(
    space: "Space", found: "Buildable", stages: "list[Stage]", resolution: "Resolution"
) -> dict[str, Any]:
    """What needs no cluster to be known."""
    return {
        "schema": "siamtune.plan/1",
        "space": str(space.path),
        "dials": len(space.dimensions),
        "combinations": space.combinations,
        "buildable": {**asdict(found), "reasons": dict(found.reasons)},
        "trials": space.study.trials,
        "stages": [asdict(stage) for stage in stages],
        "validation": {
            **asdict(resolution),
            "auc_difference": {
                auc: resolution.auc_difference(auc) for auc in (0.7, 0.8, 0.9, 0.95)
            },
        },
    }


def _raise_faults(
    refusal: SiamtuneError | None, failed: dict[str, str], probe_s: float, times: "Times | None"
) -> None:
    """What the plan found wrong, with its exit code."""
    if refusal is not None:
        raise refusal
    faults = [f"{name}: {why}" for name, why in failed.items() if why]
    if faults:
        kind = NoTrialSucceeded if len(faults) == len(failed) else SpaceError
        raise kind(
            f"{len(faults)} of {len(failed)} combinations fail in their first step:\n"
            + "\n".join(faults)
        )
    if probe_s and times is None:
        raise NoTrialSucceeded("every configuration that was measured failed; see: --smoke")


def _print_space(space: "Space", found: "Buildable") -> None:
    combinations = space.combinations
    counted = "countless" if combinations is None else f"{combinations:,}"
    lines = [f"{space.path}: {len(space.dimensions)} dials, {counted} combinations"]
    share = f"{found.built:,} of {found.tried:,}"
    tried = "all tried" if found.every else "drawn at random"
    lines.append(f"{share} ({found.built / found.tried:.1%}; {tried}) can be built")
    reasons = list(found.reasons.items())
    lines += [f"{times / found.tried:6.1%} not: {why}" for why, times in reasons[:REASONS_SHOWN]]
    if reasons[REASONS_SHOWN:]:
        rest = sum(times for _, times in reasons[REASONS_SHOWN:])
        more = len(reasons) - REASONS_SHOWN
        lines.append(f"{rest / found.tried:6.1%} not, for {more} more reasons: --json")
    _row("space", lines)


def _print_search(space: "Space", stages: "list[Stage]") -> None:
    study, scheduler = space.study, space.study.scheduler
    epochs = stages[-1].epoch
    whole = study.trials * epochs
    spent = sum((stage.arrive - stage.go_on) * stage.epoch for stage in stages[:-1])
    spent += stages[-1].arrive * epochs
    lines = [f"{study.trials:,} trials of up to {epochs} epochs, scheduler {scheduler.name}"]
    for stage in stages[:-1]:
        lines.append(
            f"epoch {stage.epoch:4}: {stage.arrive:7.1f} trials arrive, {stage.go_on:.1f} go on"
        )
    lines.append(f"epoch {epochs:4}: {stages[-1].arrive:7.1f} are complete")
    lines.append(
        f"{spent:,.0f} epochs in all, {spent / whole:.0%} of what whole trials would take; on "
        "average, if trials come in no order of worth"
    )
    _row("search", lines)


def _print_times(
    times: "Times", space: "Space", gpus: int | None, gpu_speed: float, workers: int
) -> None:
    from siamtune.report.table import duration

    where = "one processor slot" if times.device == "cpu" else times.device
    lines = [
        f"{times.configurations} configurations measured on {where}, "
        f"{times.here.slots} side by side",
        "architecture  measured   s/epoch (80 % between)  images/s   whole trial",
    ]
    for each in times.architectures:
        span = each.epoch_s
        between = f"{span.middle:.3g} ({span.low:.3g} to {span.high:.3g})"
        lines.append(
            f"{each.architecture:12}  {each.measured:8}  {between:>23}  {each.images_per_s:8,.0f}  "
            f"{duration(each.trial_s):>12}"
        )
    if workers > 1:
        lines.append(f"as if {workers} workers were {workers} times as fast as one")
    lines += [f"failed: {reason}" for reason in times.failures[:FAILURES_SHOWN]]
    _row("trial", lines)
    _row("time here", [_time_line(times.here)])
    if times.on_gpus is not None:
        assumed = (
            f"; no GPU here to measure: if one does the work of {gpu_speed:g} slots (--gpu-speed)"
            if times.device == "cpu"
            else f", as measured on {times.device}"
        )
        _row(f"on {gpus} GPU{'s' if gpus != 1 else ''}", [_time_line(times.on_gpus) + assumed])
    found = times.variants
    possible = "countless" if found.possible is None else f"{found.possible:,}"
    lines = [
        f"{possible} ways to cut them out; about {found.expected:.0f} to prepare in this search: "
        f"{_bytes(found.bytes)}, {duration(found.seconds)} of work",
        f"in {found.folder}, which keeps {_bytes(found.limit_bytes)}; "
        f"{_bytes(found.free_bytes)} are free there",
    ]
    _row("pictures", lines)
    kept = times.checkpoints
    _row(
        "checkpoints",
        [
            f"{_bytes(kept.middle_bytes)} each, {_bytes(kept.largest_bytes)} at most; "
            f"no more than {_bytes(kept.most_bytes)} at once"
        ],
    )


def _print_smoke(smoked: "list[Trio]", failed: dict[str, str]) -> None:
    fine = sum(not why for why in failed.values())
    lines = [f"{fine} of {len(failed)} combinations train a step"]
    lines += [f"failed: {name}: {why}" for name, why in failed.items() if why]
    lines += [f"cannot be built: {t.name}: {t.why_not}" for t in smoked if t.config is None]
    _row("smoke", lines)


def _time_line(time: "SearchTime") -> str:
    from siamtune.report.table import duration

    span = time.wall_s
    return (
        f"about {duration(span.middle)}, four times of five {duration(span.low)} to "
        f"{duration(span.high)}; {time.slots} trials at once"
    )


def _slots_line(slots: int, resources: Any) -> str:
    each = f"{resources.workers} x {resources.cpus_per_worker:g} CPU"
    if resources.gpus_per_worker:
        each += f" and {resources.gpus_per_worker:g} GPU"
    return f"holds {slots} such trials at once, each {each}"


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _row(heading: str, lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        print(f"{heading if number == 0 else '':12}  {line}")
