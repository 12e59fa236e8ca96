"""What stays behind between trials: memory, threads, files, placement groups, random numbers.

    python benchmarks/leaks.py --trials 500              # one worker a trial: the driver's memory
    python benchmarks/leaks.py --trials 50 --workers 2   # a Ray Train group that lives on

One search of trivial trials, run in this process, which is the driver. Every so many trials it
prints what the driver and the processes that train hold. Two configurations take turns at random:
each must give the same loss in its first trial and in its last.
"""

import argparse
import os
import resource
import tempfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

# Dials under which a trial is over in a blink.
TINY = """\
  data.resolution_px: 16
  data.crop: none
  model.width: 0.25
  model.embedding_size: 8
  batch.images: 16
"""
SPACE = """
version: 1
study: {{trials: {trials}, scheduler: {{none: {{}}}}, sampler: {{random: {{}}}}, seed: 0}}
fixed:
  epochs: 1
{tiny}space:
  optim.lr: {{choice: [1e-3, 3e-3]}}
"""
TRAINING = ("ray::ResourceTrainable", "ray::RayTrainWorker")


def people(folder: Path, count: int = 24, pictures: int = 4) -> Path:
    """A folder of people: a pattern a person, noise a picture."""
    rng = np.random.default_rng(0)
    for person in range(count):
        pattern = cv2.resize(rng.normal(size=(6, 5, 3)), (40, 48), interpolation=cv2.INTER_CUBIC)
        (folder / f"person {person:02d}").mkdir(parents=True)
        for picture in range(pictures):
            pixels = 128 + 35 * pattern + 20 * rng.normal(size=pattern.shape)
            path = folder / f"person {person:02d}" / f"{picture}.png"
            cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))
    return folder


def processes() -> list[tuple[int, str]]:
    """Pid and title of every process that descends from this one."""
    found = []
    parents = {os.getpid()}
    for entry in sorted((e for e in os.listdir("/proc") if e.isdigit()), key=int):
        try:
            parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            title = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            continue
        if parent in parents:
            parents.add(int(entry))
            found.append((int(entry), title.replace("\0", " ").strip()))
    return found


def held(pid: int) -> tuple[float, int, int]:
    """Resident megabytes, threads and open files of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    megabytes = int(status["VmRSS"].split()[0]) / 1024
    return megabytes, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


class Samples:
    """A view that looks at the processes whenever so many more trials have ended."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.ended = 0
        print(f"{'trials':>6}  {'process':<22}{'MB':>8}{'threads':>9}{'files':>7}"
              f"   placement groups", flush=True)  # fmt: skip

    def update(self, records, changed) -> None:
        if changed.state == "running":
            return
        self.ended += 1
        if self.ended % self.every == 0 or self.ended == 10:
            self.show()

    def show(self) -> None:
        import ray

        groups = Counter(g["state"] for g in ray.util.placement_group_table().values())
        groups.pop("REMOVED", None)
        rows = [("driver", os.getpid())]
        rows += [(title.split()[0][5:], pid) for pid, title in processes()
                 if title.startswith(TRAINING)]  # fmt: skip
        for name, pid in rows:
            megabytes, threads, files = held(pid)
            print(f"{self.ended:>6}  {name:<22}{megabytes:>8.0f}{threads:>9}{files:>7}"
                  f"   {dict(groups) if name == 'driver' else ''}", flush=True)  # fmt: skip

    def tick(self) -> None: ...

    def log(self, line: str) -> None:
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--concurrent", type=int, default=2)
    given = parser.parse_args()

    from siamtune.launch.cluster import TrialResources
    from siamtune.launch.job import DataSpec
    from siamtune.launch.search import SearchOptions, run_search
    from siamtune.search.runs import new_run
    from siamtune.search.space import load_space

    with tempfile.TemporaryDirectory(prefix="siamtune-leaks-") as name:
        work = Path(name)
        os.environ["SIAMTUNE_CACHE"] = str(work / "cache")
        (work / "space.yaml").write_text(SPACE.format(trials=given.trials, tiny=TINY))
        result = run_search(
            new_run(work / "runs", "leaks", "leaks"),
            load_space(str(work / "space.yaml")),
            DataSpec(str(people(work / "people"))),
            {"data": "patterns", "protocol": "identity-holdout"},
            SearchOptions(
                trials=given.trials,
                concurrent=given.concurrent,
                resources=TrialResources(given.workers, cpus_per_worker=1 / given.workers),
            ),
            Samples(every=max(10, given.trials // 10)),
        )
    states = Counter(record.state for record in result.records.values())
    losses: dict[float, set[float]] = {}
    for record in result.records.values():
        losses.setdefault(record.config["optim.lr"], set()).add(record.epochs[0]["train/loss"])
    print(f"{dict(states)} in {result.wall_s:.0f} s")
    for rate, seen in sorted(losses.items()):
        print(f"losses of all trials with lr {rate:g}: {sorted(seen)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest resident memory of the driver: {peak:.0f} MB")


if __name__ == "__main__":
    main()
