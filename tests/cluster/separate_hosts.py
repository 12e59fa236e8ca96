"""A cluster of separate hosts on this machine, started as `cluster/slurm.sh` starts one.

    python tests/cluster/separate_hosts.py    # as root: hosts, addresses, trials on each, time

The Slurm script runs as it is, but for the one line that a person edits, on the first of three
hosts; its `srun` is a stand-in that starts the step on all three, as Slurm's daemons do.
"""

import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from hosts import hosts, why_not

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900.0

SPACE = """
version: 1
study: {trials: 3, scheduler: {none: {}}, sampler: {random: {}}, seed: 0}
fixed: {epochs: 1, data.resolution_px: 16, data.crop: none, model.width: 0.5,
        model.embedding_size: 16, batch.images: 16}
space:
  optim.lr: {float: [1e-4, 3e-2], log: true}
"""
# Slurm's part where the job runs: the step goes to all nodes with its environment; here it begins.
SRUN = """#!/bin/bash
while [[ $1 == --nodes=* || $1 == --ntasks-per-node=* || $1 == --cpus-per-task=* ]]; do shift; done
{ export -p; printf exec; printf ' %q' "$@"; } >"$SLURM_SUBMIT_DIR/.step"
mv "$SLURM_SUBMIT_DIR/.step" "$SLURM_SUBMIT_DIR/step"
exec "$@"
"""
# Slurm's daemon on the other nodes.
DAEMON = 'until [[ -e $0/step ]]; do sleep 0.2; done; source "$0/step"'

# What the job does in place of one search; "$@" is what the script would have told that:
# --name pairs --output $shared/runs --address ... --gpus-per-worker 0. Two searches in one process,
# which joins the cluster once.
SEARCHES = """
import json, os, sys, time
from siamtune.cli import main

steps, told = sys.argv[1], sys.argv[2:]
searches = {
    "unshared": ["--output", os.path.expanduser("~/runs")],  # the disk of one host
    "pairs": ["--workers-per-trial", "2", "--trials", "1"],
}
for name, more in searches.items():
    began = time.time_ns()
    for number, kind in ((1, "out"), (2, "err")):
        file = os.open(f"{steps}/{name}.{kind}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    sys.argv = ["siamtune", "search", *told, *more]
    try:
        main.run()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    with open(f"{steps}/{name}.end", "w") as file:
        file.write(f"{code} {began} {time.time_ns()}")
"""
SEARCH = (
    'python "$shared/searches.py" $steps --space "$shared/space.yaml" --data "$shared/people" "$@"'
)
COMMANDS = {
    "searches": SEARCH,
    "alone": (  # sent as a job
        'siamtune submit --address http://127.0.0.1:8265 --working-dir "$shared/people" -- '
        'search --space "$shared/space.yaml" --data "$shared/people" --epochs 100000 --name alone '
        '--output "$shared/runs"'
    ),
}
# Beside them.
BESIDE = {
    # The dashboard by the host's address, as another host would call it; and without the token.
    "outside": "curl -sS http://10.77.0.1:8265/api/version",
    "stranger": "RAY_AUTH_MODE=disabled siamtune status --address http://127.0.0.1:8265",
    # A slot that is up first would else train all trials; so each trains until all of them do.
    "stop": (
        "until [[ -e $steps/alone.end || "
        '$(ls "$shared"/runs/alone/trials/*/last.safetensors 2>/dev/null | wc -l) == 3 ]]; '
        "do sleep 0.5; done; "
        'for trial in 0 1 2; do siamtune stop "$shared/runs/alone" $trial || exit; done'
    ),
    "token": 'stat -c %a "$RAY_AUTH_TOKEN_PATH"; cat "$RAY_AUTH_TOKEN_PATH"',
}


@dataclass(frozen=True)
class Step:
    """What a command did on the first host."""

    code: int
    seconds: float
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Outcome:
    code: int  # of the Slurm script
    log: str
    steps: Mapping[str, Step]
    shared: Path
    addresses: Mapping[str, str]  # by host
    seconds: float

    def trials_by_host(self, run: str) -> Counter[str]:
        """On how many trials of a run each host worked, by who wrote their TensorBoard logs."""
        logs = (self.shared / "runs" / run / "tensorboard").glob("[0-9]*/events.*")
        wrote = (log.name.split(".")[4] for log in logs)
        return Counter(host for host in wrote if host in self.addresses)


def slurm_job(folder: Path) -> Outcome:
    """Run the commands in one Slurm job on three hosts."""
    shared, tools, steps = folder / "shared", folder / "bin", folder / "steps"
    for made in (shared, tools, steps):
        made.mkdir()
    draw_people(shared / "people")
    (shared / "space.yaml").write_text(SPACE)
    (shared / "searches.py").write_text(SEARCHES)
    (tools / "activate").write_text(f'PATH="{tools}:{Path(sys.executable).parent}:$PATH"\n')
    (tools / "srun").write_text(SRUN)
    (tools / "srun").chmod(0o755)
    lines = ["set +e", f"shared={shared} steps={steps}"]
    lines += [f"{_logged(name, command, steps)} &" for name, command in BESIDE.items()]
    lines += [_logged(name, command, steps) for name, command in COMMANDS.items()]
    (shared / "steps.sh").write_text("\n".join([*lines, "wait"]) + "\n")
    script, edited = re.subn(
        r"command=\(siamtune search [^)]*\)",
        f'command=(bash {shared}/steps.sh --name "$run")',
        (ROOT / "cluster" / "slurm.sh").read_text(),
    )
    assert edited == 1
    (shared / "slurm.sh").write_text(script)
    environment = {
        "SLURM_SUBMIT_DIR": str(shared), "SLURM_JOB_NAME": "pairs", "SLURM_JOB_ID": "1",
        "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "1", "SIAMTUNE_VENV": str(folder),
        "PYTHONPATH": str(ROOT),
        # Ray makes its workers nicer than anything else, and on a busy machine they get no turn.
        "RAY_worker_niceness": "0",
    }  # fmt: skip
    began = time.monotonic()
    with hosts(3, folder) as found, (folder / "log").open("w") as log:
        first, *others = found
        for host in others:
            host.start(["bash", "-c", DAEMON, str(shared)], stdout=log, stderr=log)
        script_path = str(shared / "slurm.sh")
        done = first.run(["bash", script_path], environment, TIMEOUT_S, stdout=log, stderr=log)
    return Outcome(
        done.returncode,
        (folder / "log").read_text(),
        {path.stem: _step(path.with_suffix("")) for path in sorted(steps.glob("*.end"))},
        shared,
        {host.name: host.address for host in found},
        time.monotonic() - began,
    )


def draw_people(folder: Path) -> None:
    """Twelve people with four pictures each: a pattern a person, noise a picture."""
    rng = np.random.default_rng(0)
    for person in range(12):
        pattern = cv2.resize(rng.normal(size=(6, 5, 3)), (20, 24), interpolation=cv2.INTER_CUBIC)
        (folder / f"person {person:02d}").mkdir(parents=True)
        for picture in range(4):
            pixels = 128 + 35 * pattern + 20 * rng.normal(size=pattern.shape)
            path = folder / f"person {person:02d}" / f"{picture}.png"
            cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))


def _logged(name: str, command: str, steps: Path) -> str:
    """A shell command that keeps what another one prints, its exit code and its time."""
    return (
        f"{{ began=$(date +%s%N); ({command}) >{steps}/{name}.out 2>{steps}/{name}.err; "
        f"echo $? $began $(date +%s%N) >{steps}/{name}.end; }}"
    )


def _step(path: Path) -> Step:
    code, began, ended = map(int, Path(f"{path}.end").read_text().split())
    stdout, stderr = (Path(f"{path}.{kind}").read_text() for kind in ("out", "err"))
    return Step(code, (ended - began) / 1e9, stdout, stderr)


def main() -> None:
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="siamtune-hosts-") as folder:
        outcome = slurm_job(Path(folder))
        if outcome.code:
            print(outcome.log)
        for name, step in outcome.steps.items():
            last = (step.stderr.strip() or step.stdout.strip()).splitlines()[-1:] or [""]
            if name != "token":
                print(f"{name:<9} exit {step.code:>3} after {step.seconds:5.1f} s  {last[0][:100]}")
        for name, address in outcome.addresses.items():
            worked = {run: outcome.trials_by_host(run)[name] for run in ("pairs", "alone")}
            print(f"{name}  {address}  trials: {worked}")
        print(f"the Slurm script: exit {outcome.code}, {outcome.seconds:.0f} s in all")


if __name__ == "__main__":
    main()
