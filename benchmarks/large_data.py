"""S9: pictures that do not fit into memory, against the same with all of them in memory.

    sudo python benchmarks/large_data.py                 # 250,000 faces, a process capped at 0.7 GB
    sudo python benchmarks/large_data.py --long          # a million, 4.1 GB, capped at 1.5 GB

Faces of the demo, shifted and noisy, so that none equals another; the file lies in $TMPDIR. Each
turn trains batches drawn at random from all of them, in a process of its own, which a control group
of Linux keeps under its cap (so it needs root); file pages count. The other reads the
file into memory first and has no cap.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import Figure, Options, in_turns, run_alone

# Where Linux keeps control groups of memory, and the file that caps one: version 1, version 2.
CAPS = {
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}
SIDE_PX = 64
TURN = """
import json, os, sys, time
from pathlib import Path
import numpy as np, torch
from siamtune.config import trial_config
from siamtune.models import build_model
from siamtune.training.feed import picture_feed
from siamtune.training.optimizers import build_optimizer
torch.set_num_threads(1)
path, group, batches, how, seed = sys.argv[1:]
batches, in_memory = int(batches), how == "memory"
if not in_memory:
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
images = np.load(path, mmap_mode=None if in_memory else "r")
config = trial_config({"model.architecture": "hani"})
model = build_model(config.model, channels=1, resolution_px=images.shape[-1])
optimizer = build_optimizer(config.optim, model.parameters())
feed = picture_feed(images, np.arange(len(images)), torch.device("cpu"))
rng = np.random.default_rng(int(seed))
def resident_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024
def train(count):
    for batch in feed([rng.integers(len(images), size=128) for _ in range(count)]):
        optimizer.zero_grad(set_to_none=True)
        model(batch.float() / 255).square().mean().backward()
        optimizer.step()
train(5)
first = resident_mb()
began = time.perf_counter()
train(batches)
print(json.dumps([128 * batches / (time.perf_counter() - began), first, resident_mb()]))
"""


def write_faces(path: Path, count: int) -> None:
    from siamtune.config import trial_config
    from siamtune.launch.job import DataSpec
    from siamtune.launch.worker import prepare_faces

    faces = prepare_faces(DataSpec("demo"), trial_config({}).data).images
    images = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(count, 1, SIDE_PX, SIDE_PX)
    )
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        some = faces[rng.integers(len(faces), size=min(1000, count - start))]
        some = np.roll(some, rng.integers(-4, 5), axis=-1)
        noise = rng.integers(0, 8, some.shape, np.uint8)
        images[start : start + len(some)] = np.minimum(some, 247) + noise
    images.flush()


def large_data(options: Options) -> Iterator[Figure]:
    root = next((root for root in CAPS if (root / "cgroup.procs").exists()), None)
    if os.geteuid() != 0 or root is None:
        print("S9 needs root on Linux", file=sys.stderr)
        return
    group = root / f"siamtune-benchmark-{os.getpid()}"
    count, cap_mb, batches = (1_000_000, 1500, 100) if options.long else (250_000, 700, 40)
    group.mkdir()
    try:
        with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as folder:
            path = Path(folder) / "faces.npy"
            write_faces(path, count)
            (group / CAPS[root]).write_text(str(cap_mb * 10**6))
            resident: list[tuple[float, float]] = []
            turns = iter(range(100))

            def turn(how: str) -> float:
                with path.open("rb") as file:  # every turn finds nothing of it in memory
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                told = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", TURN, path, group, str(batches), how,
                     str(next(turns))],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                rate, first, last = json.loads(told.stdout)
                if how == "mapped":
                    resident.append((last, first))
                return rate

            rates = in_turns(lambda: turn("mapped"), lambda: turn("memory"))
            what = f"S9 {count:,} faces ({path.stat().st_size / 1e9:.1f} GB) under {cap_mb} MB"
            yield Figure(
                f"{what}: images/s", "all in memory, no cap", "images/s", *rates, better="more",
                goal=0.9,
            )  # fmt: skip
            last, first = zip(*resident, strict=True)
            yield Figure(
                f"{what}: resident at the end", "after five batches", "MB", list(last), list(first)
            )
    finally:
        group.rmdir()


if __name__ == "__main__":
    run_alone(large_data, __doc__ or "")
