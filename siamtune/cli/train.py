"""`siamtune train`: one configuration, in this process or on several workers."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from siamtune.cli import complete, options
from siamtune.cli.search import Address, CpusPerWorker, GpusPerWorker
from siamtune.errors import NoTrialSucceeded, SiamtuneError, UsageError


def train(
    config: Annotated[
        Path | None,
        typer.Option(
            help="A configuration: the best.yaml of a search, or a shipped one like `lfw`."
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Instead: the first start point of a space.", autocompletion=complete.spaces
        ),
    ] = None,
    data: options.Data = None,
    data_home: options.DataHome = None,
    landmarks: options.Landmarks = None,
    epochs: options.Epochs = None,
    set_: options.Set = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and batches.", min=0)] = None,
    split_seed: options.SplitSeed = 0,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads. Default: all there are.", min=1)
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Ray Train workers that share the training; 1 needs no Ray.", min=1)
    ] = 1,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    name: Annotated[str | None, typer.Option(help="Of the run folder.")] = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Train one configuration: siamtune train --config runs/full/best.yaml --data lfw

    Without --config and --space it trains siamtune's defaults.
    """
    from siamtune.cli.search import data_spec, now, tell, tell_data, tell_leaks
    from siamtune.config import check_shared_out, flatten, trial_config
    from siamtune.search.config_file import read_config
    from siamtune.search.records import read_records
    from siamtune.search.runs import forget, new_run, write_text
    from siamtune.search.shipped import require_config
    from siamtune.search.space import complete, load_space

    if config and space:
        raise UsageError("give --config or --space, not both")
    on_ray = {
        "--cpus-per-worker": cpus_per_worker,
        "--gpus-per-worker": gpus_per_worker,
        "--address": address,
    }
    if workers == 1 and any(value is not None for value in on_ray.values()):
        given = next(name for name, value in on_ray.items() if value is not None)
        raise UsageError(
            f"{given} goes with --workers 2 or more: one worker trains in this process, without Ray"
        )
    overrides = options.parse_overrides(set_, epochs)
    if seed is not None:
        overrides["seed"] = seed
    base: dict[str, Any] = {}
    if config:
        base = read_config(require_config(config))
    elif space:
        loaded = load_space(space, overrides=overrides)
        base = complete(loaded, loaded.start[0] if loaded.start else {})
    chosen = trial_config({**base, **overrides})
    check_shared_out(chosen, workers)
    spec = data_spec(data, data_home, landmarks, split_seed)
    tell_data(spec.source)

    from siamtune.launch.alone import train_alone
    from siamtune.launch.cluster import TrialResources
    from siamtune.report.progress import progress_bar

    stem = config.stem if config else Path(space).stem if space else "train"
    with progress_bar() as progress:
        from siamtune.launch.worker import prepare_faces

        faces = prepare_faces(spec, chosen.data, progress)
        tell_leaks(spec, [faces.split], progress)
    if faces.undetected:
        tell(faces.undetected)
    run = new_run(output, name, stem)
    facts = {
        "name": run.name,
        "kind": "train",
        "created": now(),
        "objective": {"metric": "val/auc", "mode": "max"},
        "trials": 1,
        "data": faces.source,
        "protocol": faces.split.protocol,
        "split": faces.split.digest,
        "data_spec": vars(spec),
        "command": sys.argv[1:],
    }
    write_text(run.facts_path, json.dumps(facts, indent=2) + "\n")
    tell(f"run: {run.place}")
    try:
        record = train_alone(
            run, flatten(chosen), spec, facts, threads, tell,
            resources=TrialResources(workers, cpus_per_worker or 1.0, gpus_per_worker),
            address=address,
        )  # fmt: skip
    except SiamtuneError:
        if not any(record.epochs for record in read_records(run.trials_path).values()):
            forget(run)  # refused before its first epoch
        raise
    if record.state != "complete":
        raise NoTrialSucceeded(f"the training {record.state}: {record.reason}")
    best = max(record.epochs, key=lambda epoch: epoch["val/auc"])
    if as_json:
        document = {
            "schema": "siamtune.train/1",
            "run": str(run.folder),
            "model": str(run.best_model),
            "protocol": faces.split.protocol,
            "split": faces.split.digest,
            "config": flatten(chosen),
            "epochs": [dict(epoch) for epoch in record.epochs],
            "best": dict(best),
        }
        print(json.dumps(document, indent=2))
    else:
        print(
            f"best: epoch {best['epoch']:.0f}, val/auc {best['val/auc']:.4f}, "
            f"val/f1 {best['val/f1']:.4f} ({faces.source}, {faces.split.protocol}, "
            f"split {faces.split.digest})"
        )
        print(f"model: {run.best_model}")
