"""What a search is worth: its winner against that of random search in the same processor time,
against siamtune's default and against that of 2016, on validation people and on View 1's test.

    python benchmarks/equal_time.py --data-home DIR                # an hour and a half of one core
    python benchmarks/equal_time.py --data-home DIR siamtune random --minutes 120

Both searches draw from the same ranges, those of search_spaces/lfw.yaml without its start points,
with all networks of one width so that a trial's time is known; random search ends no trial early. A
default is trained as many epochs as their trials, and siamtune's default as long as the searches,
too. Each is a search through the command line, on one thread, and its test is opened once, at its
end. One that has ended is not run again, so two shells may share the work and a third print all;
another seed needs an --output of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from siamtune.config import trial_config
from siamtune.launch.evidence import gather
from siamtune.launch.job import DataSpec
from siamtune.launch.worker import prepare_faces
from siamtune.report.evidence import SEED, SIAMTUNE, default_configs
from siamtune.search.history import read_history
from siamtune.search.openings import read_openings
from siamtune.search.shipped import find_space
from siamtune.shipping.card import estimate
from siamtune.training.trainer import epochs

PROTOCOL = "lfw-view1"
LONG = f"{SIAMTUNE}, as long as a search"


def contenders(trial_epochs: int, long_epochs: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Space files by name; one trial is all that a default has."""
    ranges = yaml.safe_load(find_space("lfw").read_text())
    del ranges["start"]
    ranges["fixed"] |= {"epochs": trial_epochs, "model.width": 1.0, "model.blocks": 1}
    ranges["space"] = {d: r for d, r in ranges["space"].items() if d not in ranges["fixed"]}
    asha = {"scheduler": {"asha": {"min_epochs": 2, "eta": 3}}, "sampler": {"tpe": {}}}
    random: dict[str, Any] = {"scheduler": {"none": {}}, "sampler": {"random": {}}}
    many = {"trials": 1000}
    single = {"trials": 1, **random}
    defaults = default_configs()

    def alone(config: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        fixed = {**config, "epochs": epochs}
        only = {"optim.lr": {"choice": [fixed.pop("optim.lr")]}}  # a space has one dial or more
        return {"version": 1, "study": single, "fixed": fixed, "space": only}

    return {
        "siamtune": {**ranges, "study": {**many, **asha, "seed": seed}},
        # Of one seed both would begin with the same draws, and often end with the same winner.
        "random": {**ranges, "study": {**many, **random, "seed": seed + 1000}},
        SIAMTUNE: alone(defaults[SIAMTUNE], trial_epochs),
        SEED: alone(defaults[SEED], trial_epochs),
        LONG: alone(defaults[SIAMTUNE], long_epochs),
    }


def search(space: Mapping[str, Any], run: Path, minutes: float, data_home: Path) -> None:
    many = space["study"]["trials"] > 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_text(yaml.safe_dump(dict(space), sort_keys=False))
        subprocess.run(
            [
                sys.executable, "-m", "siamtune", "search", "--space", str(file), "--data", "lfw",
                "--data-home", str(data_home), "--protocol", PROTOCOL, "--concurrent", "1",
                "--test", "--output", str(run.parent), "--name", run.name,
                *(["--time-budget", f"{60 * minutes:.0f}s"] if many else []),
            ],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def row(name: str, run: Path) -> str:
    history = read_history(run.name, run.parent)
    best = history.ranked[0]
    (opening,) = read_openings(history.run)
    found = gather(history, 1, baselines=False, faces=False).trials[best.number]
    interval = found.intervals["auc"]
    minutes = sum(record.training_s for record in history.records.values()) / 60
    shown = [
        estimate({"value": found.metrics["auc"], "low": interval.low, "high": interval.high}),
        *(estimate(opening.measured[metric]) for metric in ("auc", "accuracy")),
    ]
    trials = f"{len(history.records)} | {len(best.epochs)} | {minutes:.0f}"
    return f"| {name} | {trials} | {' | '.join(shown)} |"


def seconds_an_epoch(data_home: Path) -> float:
    """Of siamtune's default, on one thread: its second epoch."""
    import torch

    torch.set_num_threads(1)
    config = trial_config({"epochs": 2})
    faces = prepare_faces(DataSpec("lfw", str(data_home), protocol=PROTOCOL), config.data)
    *_, last = epochs(config, faces)
    return float(last.metrics["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("only", nargs="*", help="some of the contenders; default: all")
    parser.add_argument("--data-home", type=Path, required=True, help="folder that holds lfw_home")
    parser.add_argument("--minutes", type=float, default=30, help="of each search")
    parser.add_argument("--epochs", type=int, default=10, help="of each trial")
    parser.add_argument("--seed", type=int, default=0, help="of the searches")
    parser.add_argument("--output", type=Path, default=Path("runs/equal-time"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    long_epochs, known = given.epochs, given.output / "long_epochs.json"
    if not given.only or LONG in given.only:  # an epoch is timed only for the one that needs it
        if not known.exists():
            long = round(60 * given.minutes / seconds_an_epoch(given.data_home))
            known.write_text(json.dumps(long))
        long_epochs = json.loads(known.read_text())
    found = contenders(given.epochs, long_epochs, given.seed)
    if unknown := set(given.only) - set(found):
        parser.error(f"contenders are {', '.join(found)}, but got {', '.join(unknown)}")
    folders = {name: given.output / f"contender-{at}" for at, name in enumerate(found)}
    print(f"{PROTOCOL}, [95 % over people]")
    print("| | trials | epochs of the best | minutes of training | validation AUC | test AUC "
          "| test accuracy |\n| --- | --: | --: | --: | --- | --- | --- |")  # fmt: skip
    for name, space in found.items():
        if name in (given.only or found) and not (folders[name] / "test.jsonl").exists():
            search(space, folders[name], given.minutes, given.data_home)
        if (folders[name] / "test.jsonl").exists():
            print(row(name, folders[name]), flush=True)


if __name__ == "__main__":
    main()
