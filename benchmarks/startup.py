"""S7: how soon the command line answers, against Optuna's and Ray Tune's.

    python benchmarks/startup.py

`tune --help` is Ray Tune's own command; `optuna --help` Optuna's. `siamtune ls` lists a run of a
thousand trials, six epochs each.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import REPEATS, Figure, Options, run_alone, seconds, side_by_side, wanted

TRIALS, EPOCHS = 1000, 6
BIN = Path(sys.executable).parent
SIAMTUNE = [sys.executable, "-m", "siamtune"]
PEERS = ("optuna", "tune")  # each one's --help
METRICS = ("val/auc", "val/f1", "val/eer", "val/accuracy", "train/loss", "threshold", "seconds")


def write_run(folder: Path, trials: int) -> None:
    """A run as a search leaves it: its facts and the events of its trials."""
    folder.mkdir(parents=True)
    facts = {
        "kind": "search", "name": folder.name, "data": "lfw", "protocol": "identity-holdout",
        "created": "2026-01-01T00:00:00+00:00", "trials": trials,
        "objective": {"metric": "val/auc", "mode": "max"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    config = {f"dial.{number}": 0.123456789 * number for number in range(13)}
    with (folder / "trials.jsonl").open("w") as file:
        for trial in range(trials):
            events: list[dict[str, object]] = [{"event": "started", "time": 0.0, "config": config}]
            events += [
                {"event": "epoch", "metrics": {"epoch": epoch} | dict.fromkeys(METRICS, 0.5)}
                for epoch in range(1, EPOCHS + 1)
            ]
            events.append({"event": "ended", "time": 1.0, "state": "complete"})
            file.writelines(json.dumps(event | {"trial": trial}) + "\n" for event in events)


def startup(options: Options) -> Iterator[Figure]:
    repeats = 15 if options.long else REPEATS
    with tempfile.TemporaryDirectory() as name:
        write_run(Path(name) / "runs" / "thousand", TRIALS)
        ls = [*SIAMTUNE, "ls", "--output", f"{name}/runs"]
        commands = {
            "siamtune --help": ([*SIAMTUNE, "--help"], 0.3, PEERS),
            "siamtune spaces check full": ([*SIAMTUNE, "spaces", "check", "full"], 0.5, PEERS[:1]),
            "siamtune ls, 1,000 trials": (ls, 1.0, PEERS[:1]),
        }

        def timed(command: list[str]) -> float:
            return seconds(
                lambda: subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            )

        for what, (command, goal_s, peers) in commands.items():
            if not wanted(options, what):
                continue
            told = subprocess.run(command, check=True, capture_output=True, text=True)  # warms up
            assert "ls" not in command or "1000" in told.stdout, told.stdout
            helps = {f"{peer} --help": [str(BIN / peer), "--help"] for peer in peers}
            for theirs in helps.values():
                subprocess.run(theirs, check=False, capture_output=True)
            values = side_by_side(
                lambda command=command: timed(command),
                {name: lambda theirs=theirs: timed(theirs) for name, theirs in helps.items()},
                repeats,
            )
            for against, (ours_s, theirs_s) in values.items():
                yield Figure(
                    f"S7 {what}", against, "s", ours_s, theirs_s, goal=goal_s, goal_of="ours"
                )


if __name__ == "__main__":
    run_alone(startup, __doc__ or "")
