"""S4: from JPEGs to training tensors, against bare cv2.imdecode of the same files.

    python benchmarks/pictures.py --data-home DIR

The files are read once before, so that the disk does not count; every turn begins with an empty
cache of siamtune's own. `cold` ends with faces that a trial can train on: decoded, cut out,
resized, normalization fitted; it runs in a process of its own, since a peak of memory never falls.
Then twenty trials over four variants, the second of which is another crop factor; against the four
alone. Memory is what the process held at its peak, pages of the files that it has mapped included,
above what it held before, against the arrays that it made.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from measuring import REPEATS, Figure, Options, in_turns, run_alone, seconds

from siamtune.config import trial_config
from siamtune.data.decode import available_threads
from siamtune.data.prepare import prepare
from siamtune.data.sources import Source, open_source

CROP_FACTORS = (1.0, 1.25, 1.5, 0.75)
TRIALS = 20
# Seconds, megabytes at the peak above what was there, megabytes of the arrays.
COLD = """
import sys, time
from pathlib import Path
import cv2
from pictures import CROP_FACTORS, peak_mb, prepared
from siamtune.data.sources import open_source
cv2.setNumThreads(1)
source, cache = open_source("lfw", Path(sys.argv[1])), Path(sys.argv[2])
before, began = peak_mb(), time.perf_counter()
faces = prepared(source, cache, CROP_FACTORS[0])
took_s = time.perf_counter() - began
decoded = sum(path.stat().st_size for path in cache.rglob("pixels.bin"))
print(took_s, peak_mb() - before, (decoded + faces.images.nbytes) / 1e6)
"""


def peak_mb() -> float:
    """The most that this process has held; getrusage would tell its parent's where that is more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmHWM"))


def prepared(source: Source, cache: Path, crop_factor: float):
    return prepare(source, trial_config({"data.crop_factor": crop_factor}).data, cache_folder=cache)


def bare_decoding(source: Source) -> None:
    """Nothing but cv2.imdecode on all threads that there are."""

    def some(start: int) -> None:
        for path in source.pictures[start : start + 10]:
            cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)

    with ThreadPoolExecutor(available_threads()) as pool:
        list(pool.map(some, range(0, len(source.pictures), 10)))


def pictures(options: Options) -> Iterator[Figure]:
    if options.data_home is None:
        print("S4 needs LFW: --data-home DIR", file=sys.stderr)
        return
    cv2.setNumThreads(1)
    source = open_source("lfw", options.data_home)
    bare_decoding(source)  # reads the files into memory
    peaks_mb: list[float] = []
    arrays_mb: list[float] = []
    trials_s: list[list[float]] = []
    with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as name:
        cache = Path(name) / "cache"

        def cold() -> float:
            shutil.rmtree(cache, ignore_errors=True)
            told = subprocess.run(
                [sys.executable, "-c", COLD, str(options.data_home), cache],
                cwd=Path(__file__).parent, check=True, capture_output=True, text=True,
            )  # fmt: skip
            took_s, peak, arrays = map(float, told.stdout.split())
            peaks_mb.append(peak)
            arrays_mb.append(arrays)
            shutil.rmtree(cache / "variants")
            shutil.rmtree(cache / "normalizations")
            factors = (CROP_FACTORS * TRIALS)[:TRIALS]
            trials_s.append([seconds(lambda f=f: prepared(source, cache, f)) for f in factors])
            return took_s

        colds_s, bares_s = in_turns(
            cold, lambda: seconds(lambda: bare_decoding(source)),
            2 * REPEATS if options.long else REPEATS,
        )  # fmt: skip
    bare = f"bare cv2.imdecode, {available_threads()} threads"
    yield Figure("S4 cold: LFW to training tensors", bare, "s", colds_s, bares_s, goal=1.2)
    yield Figure(
        "S4 another crop factor", bare, "s", [took[1] for took in trials_s], bares_s, goal=1.0,
        goal_of="ours",
    )  # fmt: skip
    yield Figure(
        f"S4 {TRIALS} trials over 4 variants", "the 4 variants", "s",
        [sum(took) for took in trials_s], [sum(took[:4]) for took in trials_s], goal=1.2,
    )  # fmt: skip
    yield Figure("S4 peak memory, cold", "the arrays", "MB", peaks_mb, arrays_mb, goal=1.3)


if __name__ == "__main__":
    run_alone(pictures, __doc__ or "")
