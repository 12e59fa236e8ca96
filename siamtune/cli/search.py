"""`siamtune search` and `siamtune resume`."""

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete, options
from siamtune.errors import InvalidInput, NoTrialSucceeded, SiamtuneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siamtune.data.decode import Progress
    from siamtune.data.split import Split
    from siamtune.launch.job import DataSpec
    from siamtune.launch.search import SearchOptions, SearchResult
    from siamtune.search.replicas import Wish
    from siamtune.search.runs import Run
    from siamtune.search.space import Space
    from siamtune.search.study import Past

UNREADABLE_SHOWN = 3

Concurrent = Annotated[
    int | None, typer.Option(help="Trials at once. Default: as many as fit.", min=1)
]
TimeBudget = Annotated[
    str | None, typer.Option(help="End after so long, e.g. 10m or 2h.", metavar="DURATION")
]
Workers = Annotated[
    int | None, typer.Option(help="Ray Train workers that share one trial. Default: 1.", min=1)
]
CpusPerWorker = Annotated[
    float | None, typer.Option(help="Processors of each worker. Default: 1.", min=0.01)
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        help="GPUs of each worker; fractions too. Default: 1 where the cluster has GPUs, else 0.",
        min=0,
        show_default=False,
    ),
]
Watchdog = Annotated[
    float | None,
    typer.Option(
        help="End and retry a trial that has not reported for so many of its usual epochs; the "
        "first may take an hour. 0: never. Default: 10.",
        min=0,
        show_default=False,
    ),
]
DiskLimit = Annotated[
    str | None,
    typer.Option(
        help="Keep the run folder under e.g. 5G: the checkpoints of the best trials go, all but "
        "the winner's; then the search ends. 0: no limit.",
        metavar="SIZE",
    ),
]
Replicate = Annotated[
    str | None,
    typer.Option(
        help="At the end train so many of the best configurations again, with so many fresh seeds "
        "each, e.g. 5x3: which are tied, and how much was luck. --time-budget does not count it.",
        metavar="NxSEEDS",
    ),
]
Test = Annotated[
    bool,
    typer.Option(
        "--test",
        help="When all is decided, open the test people once for the best model, and write it down "
        "in test.jsonl.",
    ),
]
# Of the people whom a protocol names for training; as many as identity-holdout lets validate: by
# them trials are chosen, not epochs alone.
VALIDATION_SHARE = 0.1
SHARED_OUT = ("identity-holdout", "all-pairs")  # that name nobody
SEARCHED = (*SHARED_OUT, "lfw-view1", "olivetti-8fold")
Address = Annotated[
    str | None, typer.Option(help="Ray cluster to join. Default: $RAY_ADDRESS, else this machine.")
]


@dataclass(frozen=True)
class Asked:
    """What the command line says of the machines, kept in run.json; None where it is silent."""

    concurrent: int | None = None
    workers_per_trial: int | None = None
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    watchdog: float | None = None
    disk_limit: int | None = None  # bytes

    def over(self, before: "Asked") -> "Asked":
        """What was asked for before where nothing is said now."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        return replace(before, **said)


@dataclass(frozen=True)
class AtTheEnd:
    """What is done when a search has run its trials or its time."""

    replicate: "Wish | None" = None
    test: bool = False


def search(
    space: options.SpaceOption,
    data: options.DataOfProtocol = None,
    data_home: options.DataHome = None,
    landmarks: options.Landmarks = None,
    trials: Annotated[int | None, typer.Option(help="Trials to run.", min=1)] = None,
    time_budget: TimeBudget = None,
    epochs: options.Epochs = None,
    set_: options.Set = None,
    concurrent: Concurrent = None,
    workers_per_trial: Workers = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    watchdog: Watchdog = None,
    disk_limit: DiskLimit = None,
    address: Address = None,
    seed: Annotated[int | None, typer.Option(help="Of the sampler.", min=0)] = None,
    split_seed: options.SplitSeed = 0,
    warm_from: Annotated[
        str | None,
        typer.Option(
            help="A search of the same data and split whose trials the sampler learns from.",
            autocompletion=complete.runs,
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="Whose people train and validate, and who is kept for the test: identity-holdout, "
            "all-pairs, lfw-view1 or olivetti-8fold (its first fold).",
        ),
    ] = "identity-holdout",
    replicate: Replicate = None,
    test: Test = False,
    name: Annotated[str | None, typer.Option(help="Of the run folder.")] = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Search a space: siamtune search --space full --data lfw --trials 50

        siamtune search --space quickstart
        siamtune search --space mine.yaml --data path/to/people --time-budget 2h
        siamtune search --space full --set loss.name=supcon --epochs 10
        siamtune search --space full --warm-from latest
        siamtune search --space full --replicate 5x3
        siamtune search --space lfw --protocol lfw-view1 --replicate 5x3 --test

    Optuna proposes, Ray Tune runs trials side by side, weak ones are stopped early, and the best
    configuration and model lie in the run folder at the end.
    """
    from siamtune.search.replicas import parse_wish
    from siamtune.search.runs import Run, find_run, forget, new_run, write_text
    from siamtune.search.space import load_space, to_yaml

    wish = parse_wish(replicate) if replicate else None
    overrides = options.parse_overrides(set_, epochs)
    budget_s = options.parse_duration(time_budget) if time_budget else None
    asked = Asked(
        concurrent, workers_per_trial, cpus_per_worker, gpus_per_worker, watchdog,
        options.parse_size(disk_limit) if disk_limit else None,
    )  # fmt: skip
    loaded = load_space(space, overrides=overrides, trials=trials, seed=seed)
    spec = replace(
        data_spec(data, data_home, landmarks, split_seed, _searched(protocol)),
        validation_share=None if protocol in SHARED_OUT else VALIDATION_SHARE,
    )
    tell_data(spec.source)
    tell(f"space: {loaded.path}")
    facts = _prepare(loaded, spec)
    known = _warm_trials(find_run(warm_from, output), loaded, facts) if warm_from else []

    run: Run = new_run(output, name, Path(loaded.path or "space").stem)
    write_text(run.space_path, to_yaml(loaded))
    if known:
        from siamtune.search.study import add_past, open_study

        # Behind the start points, which have the first numbers and run first.
        add_past(open_study(run.journal_path, loaded), loaded, known)
    write_text(
        run.facts_path,
        json.dumps(
            {
                "name": run.name,
                "kind": "search",
                "created": now(),
                "objective": {"metric": loaded.objective.metric, "mode": loaded.objective.mode},
                "trials": loaded.study.trials,
                **facts,
                "data_spec": vars(spec),
                "asked": vars(asked),
                **({"replicate": str(wish)} if wish else {}),
                **({"test": True} if test else {}),
                **({"warm_from": known[0].warm_from, "warm_trials": len(known)} if known else {}),
                "command": sys.argv[1:],
            },
            indent=2,
        )
        + "\n",
    )
    try:
        _search(
            run, loaded, spec, facts,
            _options(loaded.study.trials, budget_s, asked, address, verbose),
            AtTheEnd(wish, test), as_json,
        )  # fmt: skip
    except SiamtuneError:
        if not run.trials_path.exists():  # refused before the first trial: nothing to go on with
            forget(run)
        raise


def resume(
    run: options.RunName,
    trials: Annotated[
        str | None, typer.Option(help="In all, or +N for N more than were asked for before.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Go on in this space; past trials that lie in it are passed to the sampler.",
            autocompletion=complete.spaces,
        ),
    ] = None,
    time_budget: TimeBudget = None,
    concurrent: Concurrent = None,
    workers_per_trial: Workers = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    watchdog: Watchdog = None,
    disk_limit: DiskLimit = None,
    address: Address = None,
    replicate: Replicate = None,
    test: Test = False,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Go on with a search: siamtune resume latest --trials +50

        siamtune resume latest --space wider.yaml
        siamtune resume latest --replicate 5x3 --test

    Finished trials stay, interrupted ones continue from their last epoch. With another space,
    past trials that lie in it count there as if it had proposed them. A search that has run all its
    trials is only replicated. Options that are not given stay as they were.
    """
    from siamtune.launch.job import DataSpec
    from siamtune.launch.mirror import mirrored
    from siamtune.search.carry import carry, finish_carry, plan_carry
    from siamtune.search.lock import driving
    from siamtune.search.openings import read_openings
    from siamtune.search.replicas import parse_wish
    from siamtune.search.runs import find_run, write_text
    from siamtune.search.space import load_space

    wish = parse_wish(replicate) if replicate else None
    found = find_run(run, output)
    _check_search(found)
    # A run that is driven is refused now, not after its data are prepared, and left as it was.
    with driving(found), mirrored(found, tell):
        finish_carry(found)
    facts = found.facts()
    if wish is None and "replicate" in facts:
        wish = parse_wish(str(facts["replicate"]))
    # What was asked for once is done once; who wants to look again says so.
    test = test or (facts.get("test") is True and not read_openings(found))
    before = loaded = load_space(str(found.space_path))
    if space is not None:
        loaded = load_space(space)
    wanted = _wanted_trials(trials, int(facts["trials"]))
    if space and trials is None:  # what was asked for last, or more if the new file says so
        wanted = max(wanted, loaded.study.trials)
    loaded = replace(loaded, study=replace(loaded.study, trials=wanted))
    budget_s = options.parse_duration(time_budget) if time_budget else None
    asked_now = Asked(
        concurrent, workers_per_trial, cpus_per_worker, gpus_per_worker, watchdog,
        options.parse_size(disk_limit) if disk_limit else None,
    )  # fmt: skip
    asked = asked_now.over(Asked(**facts.get("asked", {})))
    spec = DataSpec(**facts["data_spec"])
    tell(f"resuming {found.place}")
    if space is not None:
        for line in plan_carry(found, before, loaded).lines():
            tell(line)
    tell_data(spec.source)
    prepared = _prepare(loaded, spec)
    if prepared["split"] != facts["split"]:
        from siamtune.errors import DataError

        raise DataError(
            f"{spec.source} must hold the same pictures of the same people as when the search "
            f"began (split {facts['split']}), but got split {prepared['split']}; numbers would not "
            "compare"
        )
    with driving(found), mirrored(found, tell):
        if space is not None:
            carry(found, before, loaded)
        facts = {**facts, "trials": wanted, "asked": vars(asked)}
        facts |= ({"replicate": str(wish)} if wish else {}) | ({"test": True} if test else {})
        write_text(found.facts_path, json.dumps(facts, indent=2) + "\n")
    _search(
        found, loaded, spec, prepared,
        _options(wanted, budget_s, asked, address, verbose), AtTheEnd(wish, test), as_json,
    )  # fmt: skip


def _check_search(run: "Run") -> None:
    """Make sure that a run is a search and its files tell what `resume` must know.

    Raises:
        InvalidInput: it was trained alone, or its run.json is damaged.
    """
    from siamtune.launch.job import DataSpec

    facts = run.facts()
    run.objective()
    if not run.space_path.exists():
        raise InvalidInput(f"{run.folder} must be a search to go on, but it has no space.yaml")
    try:
        DataSpec(**facts["data_spec"])
        asked = Asked(**facts.get("asked", {}))
        if not all(isinstance(value, int | float | None) for value in vars(asked).values()):
            raise TypeError(f"asked must hold numbers, but got {facts['asked']}")
        int(facts["trials"]), str(facts["split"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else error
        raise InvalidInput(f"{run.facts_path}: must tell trials and data, but {what}") from None


def _warm_trials(other: "Run", space: "Space", facts: dict[str, Any]) -> "list[Past]":
    from siamtune.errors import DataError
    from siamtune.search.carry import known_from

    theirs = other.facts()
    for fact in ("data", "protocol", "split"):
        if theirs.get(fact) != facts[fact]:
            raise DataError(
                f"--warm-from must name a search of the same data and split, but its {fact} is "
                f"{theirs.get(fact)!r} and here it is {facts[fact]!r}; leave it out"
            )
    known = known_from(other, space)
    tell(f"warm from {other.name}: the sampler learns from its trials, {len(known)} in all")
    return known


def _wanted_trials(text: str | None, before: int) -> int:
    from siamtune.errors import UsageError

    if text is None:
        return before
    more = text.startswith("+")
    if not text.removeprefix("+").isdecimal() or int(text) < 1:
        raise UsageError(f"--trials must be a number like 100, or +50, but got {text!r}")
    return before + int(text) if more else int(text)


def _options(
    trials: int,
    time_budget_s: float | None,
    asked: Asked,
    address: str | None,
    verbose: bool,
) -> "SearchOptions":
    from siamtune.launch.cluster import TrialResources
    from siamtune.launch.search import SearchOptions
    from siamtune.launch.slots import WATCHDOG

    resources = TrialResources(
        asked.workers_per_trial or 1, asked.cpus_per_worker or 1.0, asked.gpus_per_worker
    )
    return SearchOptions(
        trials=trials,
        time_budget_s=time_budget_s,
        concurrent=asked.concurrent,
        resources=resources,
        address=address,
        verbose=verbose,
        watchdog=WATCHDOG if asked.watchdog is None else asked.watchdog,
        disk_limit=asked.disk_limit or None,
    )


def _search(
    run: "Run",
    space: "Space",
    data: "DataSpec",
    facts: dict[str, Any],
    search_options: "SearchOptions",
    at_the_end: AtTheEnd,
    as_json: bool,
) -> None:
    """Run the search under a live view, do what is wanted at its end, and print what it gave."""
    from siamtune.launch.mirror import mirrored
    from siamtune.launch.search import run_search
    from siamtune.report.live import LiveView
    from siamtune.search.runs import find_run
    from siamtune.search.stops import BUDGET, CTRL_C, TERMINATED, VERB

    with LiveView(run, space, data=str(facts["data"]), trials=search_options.trials) as view:
        result = run_search(run, space, data, facts, search_options, view)
    ended = result.ended_early
    wish = at_the_end.replicate
    try:
        if wish and result.winner and ended in (None, BUDGET):
            ended = _replicate(result, space, data, wish, search_options) or ended
        if at_the_end.test and result.winner and ended in (None, BUDGET):
            _open_test(result, space)
    finally:  # what the search has found is told whatever becomes of that
        _print_result(result, space, as_json)
    if ended not in (CTRL_C, TERMINATED):  # who wants out waits for no pictures; `board` draws them
        if run.url is not None:  # what workers have sent comes first: it need not be sent back
            find_run(run.place, run.folder.parent)
        with mirrored(run, tell):
            show_finalists(run)
    if ended:
        tell(f"ended by {ended}; go on with: siamtune resume {run.place}")
    if ended in (CTRL_C, TERMINATED, VERB):
        raise typer.Exit(130)
    if result.winner is None:
        raise NoTrialSucceeded(f"no trial was trained to an end; see {run.trials_path}")


def _replicate(
    result: "SearchResult",
    space: "Space",
    data: "DataSpec",
    wish: "Wish",
    search_options: "SearchOptions",
) -> str | None:
    """Train the best again with fresh seeds; why that ended early, if it did."""
    from siamtune.launch.replicate import plan_replication, replicate
    from siamtune.report.live import LiveView
    from siamtune.search.history import History
    from siamtune.search.replicas import replicas_run

    run = result.run
    history = History(run, run.facts(), space, result.records)
    plan = plan_replication(history, wish)
    tell(str(plan))
    on = str(history.facts["data"])
    with LiveView(
        replicas_run(run), space, data=on, trials=plan.trainings, noun="replica", of=plan.numbers
    ) as view:
        return replicate(history, plan, data, search_options, view, view.advance)


def _open_test(result: "SearchResult", space: "Space") -> None:
    """Open the test people for the best model and say what became of it."""
    from siamtune.launch.mirror import mirrored
    from siamtune.launch.opening import open_test
    from siamtune.report.progress import progress_bar
    from siamtune.search.history import History

    history = History(result.run, result.run.facts(), space, result.records)
    with mirrored(result.run, tell), progress_bar() as progress:
        tell(open_test(history, progress))


def show_finalists(run: "Run") -> None:
    """Write the finalists' pages of TensorBoard; what goes wrong is told and changes nothing."""
    from siamtune.report.progress import progress_bar
    from siamtune.search.history import read_history

    try:
        history = read_history(run.place, run.folder.parent)  # with what workers have sent
        from siamtune.launch.finalists import show_finalists

        with progress_bar() as progress:
            problems = show_finalists(history, progress)
    except Exception as error:
        problems = [str(error)]
    for problem in problems:
        tell(f"TensorBoard lacks the page of a finalist: {problem}")


def _print_result(result: "SearchResult", space: "Space", as_json: bool) -> None:
    from siamtune.report.live import print_final_table
    from siamtune.report.table import result_document

    if as_json:
        print(json.dumps(result_document(result.run, result.records, space), indent=2))
        return
    print_final_table(result.run, result.records, space)


def _prepare(space: "Space", spec: "DataSpec") -> dict[str, Any]:
    """Open the data and prepare what the first trial needs, with progress."""
    from siamtune.config import trial_config
    from siamtune.launch.worker import prepare_faces
    from siamtune.report.progress import progress_bar
    from siamtune.search.space import complete
    from siamtune.training.evaluation import require_measurable
    from siamtune.verification.resolution import validation_resolution

    require_landmarks(space, spec)
    first = space.start[0] if space.start else {}
    with progress_bar() as progress:
        faces = prepare_faces(spec, trial_config(complete(space, first)).data, progress)
        tell_leaks(spec, [faces.split], progress)
    require_measurable([objective.metric for objective in space.objective.each], faces)
    if space.objective.beside:
        tell(
            f"{' and '.join(o.metric for o in space.objective.each)}: tables rank by the first, "
            "the front shows both, and no trial is stopped early"
        )
    if faces.undetected:
        tell(faces.undetected)
    if spec.protocol != "identity-holdout":
        people = {part: len(getattr(faces.split, part)) for part in ("train", "validation", "test")}
        shares = ", ".join(f"{count:,} {part}" for part, count in people.items())
        tell(f"protocol: {spec.protocol}, people: {shares}")
    tell(f"validation: {validation_resolution(faces)}")
    return {
        "data": faces.source,
        "protocol": faces.split.protocol,
        "split": faces.split.digest,
        "pictures": len(faces.identities),
        "people": {
            part: len(getattr(faces.split, part)) for part in ("train", "validation", "test")
        },
    }


def data_spec(
    data: str | None,
    data_home: Path | None,
    landmarks: Path | None,
    split_seed: int,
    protocol: str = "identity-holdout",
) -> "DataSpec":
    """The pictures that the command line chose, by paths that hold in any process; without a word
    those that the protocol is made for.
    """
    from siamtune.launch.job import DataSpec

    made_for = next((source for source in ("lfw", "olivetti") if protocol.startswith(source)), None)
    source = options.chosen_data(data or made_for)
    return DataSpec(
        source if source in ("demo", "lfw", "olivetti") else os.path.abspath(source),
        str(data_home.absolute()) if data_home else None,
        str(landmarks.absolute()) if landmarks else None,
        split_seed,
        protocol,
    )


def _searched(protocol: str) -> str:
    """The protocol, if it leaves people to choose a configuration by.

    Raises:
        UsageError: it does not, or there is none of that name.
    """
    from siamtune.errors import UsageError

    if protocol == "lfw-view2":
        raise UsageError(
            "--protocol lfw-view2 is for reporting: all its people are tested in turn, nobody is "
            "left to choose by; search with --protocol lfw-view1, then: siamtune evaluate --config "
            "best.yaml --protocol lfw-view2"
        )
    if protocol not in SEARCHED:
        raise UsageError(f"--protocol must be one of {', '.join(SEARCHED)}, but got {protocol!r}")
    return protocol


def tell_data(source: str) -> None:
    if source == "demo":
        tell("data: demo, faces drawn by siamtune; for Labeled Faces in the Wild add: --data lfw")
    else:
        tell(f"data: {source}")


def require_landmarks(space: "Space", spec: "DataSpec") -> None:
    """Raises DataError if a crop that the space may choose needs a file of landmarks and has none.

    Otherwise its trials would fail one by one, an hour from now.
    """
    from siamtune.config import DEFAULTS
    from siamtune.data.boxes import landmarks_digest
    from siamtune.search.dimensions import ChoiceDimension

    crops = {space.fixed.get("data.crop", DEFAULTS["data.crop"])}
    for dimension in space.dimensions:
        if dimension.name == "data.crop" and isinstance(dimension, ChoiceDimension):
            crops = set(dimension.choices)
    for crop in sorted(crops):
        landmarks_digest(crop, Path(spec.landmarks) if spec.landmarks else None)


def tell_leaks(spec: "DataSpec", splits: "Sequence[Split]", progress: "Progress") -> None:
    """One line on each thing that would make the numbers of these splits mean less.

    Raises:
        DataError: somebody is in two parts.
    """
    from siamtune.data.check import duplicates_of, require_disjoint
    from siamtune.data.decode import decode
    from siamtune.launch.worker import data_source

    for split in splits:
        require_disjoint(split)
    source = data_source(spec)
    pictures = decode(source, progress=progress)
    leaks = [pair for pair in duplicates_of(source, pictures, splits, progress) if pair.leak]
    if leaks:
        many = f"{len(leaks)} photographs are" if len(leaks) > 1 else "a photograph is"
        tell(
            f"caution: {many} filed under two people who are in different parts, e.g. "
            f"{leaks[0].first} = {leaks[0].second}; all of them: siamtune data check {spec.source}"
        )
    if pictures.unreadable:
        named = ", ".join(pictures.unreadable[:UNREADABLE_SHOWN])
        more = len(pictures.unreadable) - UNREADABLE_SHOWN
        tell(
            f"caution: {len(pictures.unreadable)} pictures cannot be read and are left out: {named}"
            + (f" and {more} more" if more > 0 else "")
        )


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")
