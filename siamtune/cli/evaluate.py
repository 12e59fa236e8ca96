"""`siamtune evaluate`: configurations under a named protocol, each fold trained afresh."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from siamtune.cli import options
from siamtune.cli.search import Address, GpusPerWorker
from siamtune.errors import ConfigError, InvalidInput, UsageError

if TYPE_CHECKING:
    from siamtune.config import TrialConfig
    from siamtune.launch.evaluate import Method, ThresholdPeople
    from siamtune.search.runs import Run

METRICS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "f1": "F1",
    "eer": "EER",
    "tar@far=0.01": "TAR@1%",
    "tar@far=0.001": "TAR@0.1%",
}


def evaluate(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="A configuration: best.yaml, or a shipped one like `lfw`, or a run of evaluate, "
            "whose trained folds are taken over. Repeated: an ensemble, the mean of their scores "
            "answers. Default: the defaults.",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[
        int | None,
        typer.Option(
            help="Instead of one configuration so many best trials of a search, each trained "
            "afresh; the mean of their scores answers.",
            min=2,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The search whose best trials make the ensemble. Default: the latest one.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="identity-holdout, all-pairs, lfw-view1, lfw-view2 or olivetti-8fold.",
        ),
    ] = "identity-holdout",
    data: options.DataOfProtocol = None,
    data_home: options.DataHome = None,
    landmarks: options.Landmarks = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            help="cosine, l1, l2, logistic, whitening, lda, joint_bayesian or csls. May be "
            "repeated: one training serves them all. Default: the distance that was trained.",
            show_default=False,
        ),
    ] = None,
    flip_average: Annotated[
        bool | None,
        typer.Option(
            help="Average the embeddings of a picture and of its mirror image. Default: the "
            "configuration's verification.flip.",
            show_default=False,
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(help="Also pixels, PCA, HOG, LBP and the untrained network, same pairs."),
    ] = False,
    defaults: Annotated[
        bool,
        typer.Option(
            help="Also siamtune's default and the 2016 seed's, as many epochs: three trainings a "
            "fold instead of one."
        ),
    ] = False,
    threshold_from: Annotated[
        str, typer.Option(help="Whose pairs give the threshold: train or validation people.")
    ] = "validation",
    epochs: options.Epochs = None,
    set_: options.Set = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and batches.", min=0)] = None,
    split_seed: options.SplitSeed = 0,
    concurrent: Annotated[
        int | None,
        typer.Option(
            help="Folds at once, on Ray. Default: as many as fit; 1: in this process, without "
            "Ray, as a single fold is unless --address or --gpus-per-worker is given.",
            min=1,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Processor threads of a training. Default: 1 where folds run side by side, else "
            "all there are.",
            min=1,
            show_default=False,
        ),
    ] = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    name: Annotated[
        str | None, typer.Option(help="Of the run folder; one that is there goes on.")
    ] = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Evaluate one configuration: siamtune evaluate --config best.yaml --protocol lfw-view2

        siamtune evaluate --config best.yaml --config wide.yaml --protocol lfw-view1
        siamtune evaluate --ensemble 5 --from latest --protocol lfw-view1
        siamtune evaluate --config lfw --protocol lfw-view2 --concurrent 4 --threads 2

    Folds run side by side and are kept one by one: the same command with the same --name goes on
    where it was stopped, and asks with another --scorer without training again.
    """
    from siamtune.cli.search import data_spec, tell, tell_data, tell_leaks
    from siamtune.config import flatten, trial_config
    from siamtune.search.store import origin

    overrides = options.parse_overrides(set_, epochs)
    if seed is not None:
        overrides["seed"] = seed
    if ensemble and config:
        raise UsageError("give --config or --ensemble, not both")
    if from_ and not ensemble:
        raise UsageError("--from goes with --ensemble N, which says how many of its trials")
    given, evaluated = _configurations(config or [], output, overrides)
    members = given if len(given) > 1 else {}
    if ensemble:
        members = _members(ensemble, from_, output, overrides)
    if members and baselines:
        raise UsageError("--baselines goes with one configuration, but an ensemble was asked for")
    chosen = next(iter(given.values()), None) or trial_config(overrides)
    spec = data_spec(data, data_home, landmarks, split_seed, protocol)
    if origin(output) and (address or gpus_per_worker is not None or (concurrent or 1) > 1):
        raise UsageError(
            "folds whose run lies in an object store train in this process, without --address, "
            "--gpus-per-worker and --concurrent; leave them out or give a folder as --output"
        )
    if concurrent == 1 and (address or gpus_per_worker is not None):
        raise UsageError(
            "--concurrent 1 trains in this process, without --address and --gpus-per-worker; leave "
            "it out"
        )
    tell_data(spec.source)

    from dataclasses import replace

    from siamtune.launch.cluster import TrialResources
    from siamtune.launch.evaluate import Questions, evaluate_ensemble, member, take_over
    from siamtune.launch.evaluate import evaluate as evaluate_folds
    from siamtune.launch.evidence import default_run
    from siamtune.launch.mirror import mirrored
    from siamtune.launch.slots import Machines
    from siamtune.launch.worker import data_folds
    from siamtune.report.evidence import default_configs
    from siamtune.report.progress import progress_bar
    from siamtune.search.lock import driving

    options.check_scorers(scorer)
    if threshold_from not in ("train", "validation"):
        raise UsageError(
            f"--threshold-from must be train or validation, but got {threshold_from!r}"
        )
    with progress_bar() as progress:
        folds = data_folds(spec, progress)
        parts = [fold.split for fold in folds]
        tell_leaks(spec, parts, progress)
    splits = [split.digest for split in parts]
    facts: dict[str, Any] = {
        "kind": "evaluate",
        "data": Path(spec.source).name,
        "protocol": protocol,
        "split": splits[0],
        "splits": splits,
        "data_spec": vars(spec),
        "config": {name: flatten(each) for name, each in members.items()} or flatten(chosen),
    }
    for other in evaluated.values():
        _require_same_splits(other, facts)
    run = _open_run(output, name, facts, next(iter(given)) if len(given) == 1 else protocol)
    tell(f"run: {run.place}")
    resources = TrialResources(1, float(threads or 1), gpus_per_worker)
    machines: Machines | None = Machines(concurrent, resources, address, verbose)
    # Of a run in an object store this process keeps the copy, and trains beside it.
    if concurrent == 1 or run.url is not None:
        machines = None

    def asked(config: "TrialConfig") -> Questions:
        return Questions(
            tuple(scorer or [config.loss.distance]),
            config.verification.flip if flip_average is None else flip_average,
            baselines,
            cast("ThresholdPeople", threshold_from),
        )

    flipped = all(asked(each).flip_average for each in members.values() or [chosen])
    with driving(run), mirrored(run, tell):
        for of_member, other in evaluated.items():
            taken = take_over(member(run, of_member) if members else run, other, folds)
            tell(f"{other.place}: {taken} of {len(folds)} folds are trained")
        if members:
            questions = {name: asked(each) for name, each in members.items()}
            methods = evaluate_ensemble(
                run, facts["config"], spec, questions,
                threads=threads, machines=machines, tell=tell,
            )  # fmt: skip
        else:
            methods = evaluate_folds(
                run, facts["config"], spec, asked(chosen),
                threads=threads, machines=machines, tell=tell,
            )  # fmt: skip
        if defaults:
            longest = max(each.epochs for each in members.values() or [chosen])
            for name_of_default, dials in default_configs().items():
                beside = default_run(run, name_of_default)
                beside.folder.mkdir(parents=True, exist_ok=True)
                dials = {**dials, "epochs": longest}
                plainly = Questions(
                    (str(dials["loss.distance"]),), threshold_from=asked(chosen).threshold_from
                )
                tell(f"{name_of_default}, {longest} epochs")
                (method,) = evaluate_folds(
                    beside, dials, spec, plainly, threads=threads, machines=machines, tell=tell
                )
                plain = ", not flip-averaged" if flipped else ""
                methods.append(replace(method, name=f"{name_of_default}{plain}"))
    if as_json:
        print(json.dumps(_document(run, facts, flipped, methods), indent=2))
    else:
        _print(facts, flipped, threshold_from, methods)


def _configurations(
    given: list[Path], output: Path, overrides: dict[str, Any]
) -> tuple[dict[str, "TrialConfig"], dict[str, "Run"]]:
    """Configurations by name, and the runs that trained those which are of a run of evaluate.

    Raises:
        UsageError: two have one name, or a run is no evaluation of one configuration, or would be
            changed.
        ConfigError: there is none of that name, or its file is damaged.
    """
    from siamtune.config import DEFAULTS, flatten, trial_config
    from siamtune.search.config_file import read_config
    from siamtune.search.history import read_history
    from siamtune.search.shipped import find_config, shipped_configs

    configs: dict[str, TrialConfig] = {}
    evaluated: dict[str, Run] = {}
    for each in given:
        file = find_config(each)
        name = each.stem
        if file.is_file() or file.suffix in (".yaml", ".yml"):
            configs[name] = trial_config({**read_config(file), **overrides})
            continue
        try:
            history = read_history(str(each), output)
        except InvalidInput:
            shipped = ", ".join(shipped_configs())
            raise ConfigError(
                f"{each}: must be a configuration's file, one of {shipped} or a run of evaluate "
                f"in {output}, but is none of them"
            ) from None
        name = history.run.name
        kind, fixed = history.facts.get("kind"), history.space.fixed
        if kind != "evaluate" or not fixed:
            raise UsageError(
                f"--config {each}: a run must be an evaluation of one configuration, but this is "
                f"{'an ensemble' if kind == 'evaluate' else kind}; give a file, for example its "
                "best.yaml"
            )
        configs[name] = trial_config({**fixed, **overrides})
        if flatten(configs[name]) != {**DEFAULTS, **fixed}:
            raise UsageError(
                f"--config {each} is trained already, so --set, --epochs and --seed must leave it "
                "as it is; to train it changed give a file"
            )
        evaluated[name] = history.run
    if len(configs) < len(given):
        raise UsageError("what --config names must have different names, which name the members")
    return configs, evaluated


def _require_same_splits(evaluated: "Run", facts: dict[str, Any]) -> None:
    """Raises UsageError if a run was evaluated on other splits than an evaluation's `facts`."""
    theirs = evaluated.facts()
    if theirs["splits"] != facts["splits"]:
        raise UsageError(
            f"{evaluated.place} must have been trained on the splits of {facts['data']}, "
            f"{facts['protocol']}, but it was on those of {theirs['data']}, {theirs['protocol']}; "
            "give the same --protocol, --data and --split-seed"
        )


def _members(
    count: int, run: str | None, output: Path, overrides: dict[str, Any]
) -> dict[str, "TrialConfig"]:
    """The configurations of a search's best trials, by name, with what the command line changes.

    Raises:
        UsageError: it is no search, or has fewer trials with a result.
    """
    from siamtune.config import trial_config
    from siamtune.search.history import read_history
    from siamtune.search.runs import list_runs

    if run in (None, "latest"):
        searches = [found for found in list_runs(output) if found.space_path.exists()]
        newest = max(searches, key=lambda found: found.facts_path.stat().st_mtime, default=None)
        run = newest.place if newest else "latest"
    history = read_history(str(run), output)
    if not history.run.space_path.exists():
        raise UsageError(
            f"--from must name a search, but {history.run.place} is none; give its name"
        )
    best = history.ranked[:count]
    if len(best) < count:
        raise UsageError(
            f"--ensemble {count} needs so many trials with a result, but {history.run.name} has "
            f"{len(best)}; lower it, or name another search with --from"
        )
    return {
        f"trial {record.number}": trial_config({**history.config(record), **overrides})
        for record in best
    }


def _open_run(output: Path, name: str | None, facts: dict[str, Any], stem: str) -> "Run":
    """The run of that name if it is the same evaluation, or a new one.

    Raises:
        UsageError: the run of that name is another evaluation, or none.
    """
    from siamtune.cli.search import now
    from siamtune.search.runs import find_run, list_runs, new_run, write_text

    before_it = {run.name: run for run in list_runs(output)} if name else {}
    if name in before_it:
        run = find_run(before_it[name].place, output)
        before = run.facts()
        changed = [
            key for key in ("kind", "protocol", "splits", "config") if before.get(key) != facts[key]
        ]
        if changed:
            raise UsageError(
                f"{run.place} must be the same evaluation to go on with it, but "
                f"{', '.join(changed)} changed; choose another --name"
            )
        return run
    run = new_run(output, name, stem)
    facts = {
        "name": run.name,
        "created": now(),
        "objective": {"metric": "val/auc", "mode": "max"},
        "trials": len(facts["splits"]),
        "command": sys.argv[1:],
        **facts,
    }
    write_text(run.facts_path, json.dumps(facts, indent=2) + "\n")
    return run


def _document(
    run: "Run", facts: dict[str, Any], flip_average: bool, methods: list["Method"]
) -> dict[str, Any]:
    return {
        "schema": "siamtune.evaluate/1",
        "run": str(run.folder),
        **{key: facts[key] for key in ("data", "protocol", "splits", "config")},
        "flip_average": flip_average,
        "methods": [
            {"method": method.name, **asdict(method.summary), "each": list(method.folds)}
            for method in methods
        ],
    }


def _print(
    facts: dict[str, Any], flip_average: bool, threshold_from: str, methods: list["Method"]
) -> None:
    """Tables on stdout: the folds of each method that was asked for, then one row a method."""
    from rich.table import Table

    console = options.table_console()
    where = f"{facts['data']}, {facts['protocol']}"
    flipped = ", flip-averaged" if flip_average else ""

    def table(title: str, *first: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        made.pad_edge = False
        for heading in first:
            made.add_column(heading, no_wrap=True)
        for heading in METRICS.values():
            made.add_column(heading, justify="right", no_wrap=True)
        return made

    for method in methods:
        if len(method.folds) == 1 or "/" in method.name or method.name == "chance":
            continue
        folds = table(f"{method.name}{flipped} ({where})", "fold", "split", "pairs")
        for line in method.folds:
            values = [line["metrics"].get(metric) for metric in METRICS]
            folds.add_row(
                str(line["fold"]),
                line["split"],
                str(line["pairs"]),
                *("" if value is None else f"{value:.4f}" for value in values),
            )
        console.print(folds)
        console.print()

    summary = methods[0].summary
    splits = f"split {facts['split']}" if summary.folds == 1 else f"{summary.folds} folds"
    whole = table(f"{where}, {splits}, {summary.pairs:,} pairs{flipped}", "score")
    for method in methods:
        whole.add_row(method.name, *(_value(method, metric) for metric in METRICS))
    console.print(whole)
    spread = "± standard error over folds; " if summary.folds > 1 else ""
    note = f"{spread}[low, high]: 95 % over people; threshold from {threshold_from} people"
    console.print(note, markup=False)
    if summary.folds > 1:
        for method in methods:
            texts = {metric: f"{value:.4f}" for metric, value in method.summary.pooled.items()}
            texts["auc"] += _interval(method, "auc")
            pooled = "  ".join(f"{METRICS[metric]} {text}" for metric, text in texts.items())
            console.print(f"all folds pooled, {method.name}: {pooled} ({where})")


def _value(method: "Method", metric: str) -> str:
    """`0.9123 ± 0.0041 [0.9012, 0.9240]`, as far as it is known."""
    summary = method.summary
    if metric not in summary.mean:
        return ""
    text = f"{summary.mean[metric]:.4f}"
    if metric in summary.standard_error:
        text += f" ± {summary.standard_error[metric]:.4f}"
    # Scores of two folds come from two networks: their pooled AUC is not the mean of the folds.
    if metric != "auc" or summary.folds == 1:
        text += _interval(method, metric)
    return text


def _interval(method: "Method", metric: str) -> str:
    interval = method.summary.intervals.get(metric)
    return f" \\[{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
