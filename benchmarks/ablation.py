"""From the best configuration for LFW back to siamtune's defaults, one step at a time, on View 1.

    python benchmarks/ablation.py --data-home DIR                # an hour of one core
    python benchmarks/ablation.py --data-home DIR --epochs 60    # as long as the best is trained

Each row keeps what the rows above took back. Folds are kept: the same command goes on.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from siamtune.config import DEFAULTS, flatten, trial_config
from siamtune.search.config_file import read_config
from siamtune.search.shipped import find_config
from siamtune.shipping.card import estimate

# The pictures first, then the network, then how it is trained.
STEPS = (
    "verification.flip", "data.crop_factor", "batch.single_share", "model.dropout", "model.width",
    "optim.ema_decay", "optim.warmup_epochs", "optim.weight_decay", "optim.lr",
)  # fmt: skip


def evaluate(changes: dict[str, Any], name: str, given: argparse.Namespace) -> dict[str, Any]:
    """What the command line's evaluation says of the best configuration with these changes."""
    flip = changes.pop("verification.flip", True)
    changed = [f"--set={dial}={json.dumps(value)}" for dial, value in changes.items()]
    told = subprocess.run(
        [
            sys.executable, "-m", "siamtune", "evaluate", "--config", "lfw", *changed,
            "--epochs", str(given.epochs), "--protocol", "lfw-view1", "--data", "lfw",
            "--data-home", str(given.data_home), "--output", str(given.output), "--name", name,
            "--flip-average" if flip else "--no-flip-average", "--threads", "1", "--json",
        ],
        check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (method,) = json.loads(told.stdout)["methods"]
    return dict(method)


def row(step: str, method: dict[str, Any]) -> str:
    shown = [
        estimate({"value": method["mean"][metric], **method["intervals"][metric]})
        for metric in ("auc", "accuracy")
    ]
    return f"| {step} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-home", type=Path, required=True, help="folder that holds lfw_home")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--steps", type=int, nargs="+", help="some rows only, from 0")
    given = parser.parse_args()
    best = flatten(trial_config(read_config(find_config(Path("lfw")))))
    differing = {dial for dial, value in DEFAULTS.items() if best[dial] != value} - {"epochs"}
    if differing != set(STEPS):
        raise SystemExit(f"STEPS must name {sorted(differing)}, but names {sorted(STEPS)}")
    print(f"lfw-view1, {given.epochs} epochs, [95 % over people]")
    print("| | AUC | accuracy |\n| --- | --- | --- |")
    for at in range(len(STEPS) + 1):
        back = STEPS[:at]
        # Without flips the same training is asked, not another one trained.
        trained = f"ablation-{at - 1 if back[-1:] == ('verification.flip',) else at}"
        if given.steps and at not in given.steps:
            continue
        method = evaluate({dial: DEFAULTS[dial] for dial in back}, trained, given)
        step = (
            f"... {back[-1]} {best[back[-1]]} to {DEFAULTS[back[-1]]}" if back else "best/lfw.yaml"
        )
        print(row(step, method), flush=True)


if __name__ == "__main__":
    main()
