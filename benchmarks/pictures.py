"""S4: from JPEGs to training tensors, against bare cv2.imdecode of the same files.

    python benchmarks/pictures.py --data-home DIR

The files are read once before, so that the disk does not count; every turn begins with an empty
cache of siamtune's own. `cold` ends with faces that a trial can train on: decoded, cut out,
resized, normalization fitted. Then another crop factor, and twenty trials over four variants
against the four alone. Memory is what the process held at its peak above what it held before,
against the arrays that it made.
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
from measuring import REPEATS, Figure, Options, in_turns, run_alone, seconds, wanted

from siamtune.config import trial_config
from siamtune.data.decode import available_threads
from siamtune.data.prepare import prepare
from siamtune.data.sources import Source, open_source

CROP_FACTORS = (1.0, 1.25, 1.5, 0.75)
TRIALS = 20
# In a process of its own, because a peak never falls: megabytes above what was there, and the
# megabytes of the arrays.
PEAK = """
import resource, sys
from pathlib import Path
from pictures import prepared
from siamtune.data.sources import open_source
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
source = open_source("lfw", Path(sys.argv[1]))
before = peak_mb()
faces = prepared(source, Path(sys.argv[2]), 1.0)
decoded = sum(path.stat().st_size for path in Path(sys.argv[2]).rglob("pixels.bin"))
print(peak_mb() - before, (decoded + faces.images.nbytes) / 1e6)
"""


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
    repeats = 2 * REPEATS if options.long else REPEATS
    source = open_source("lfw", options.data_home)
    threads = available_threads()
    bare_decoding(source)  # reads the files into memory
    with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as name:
        cache = Path(name) / "cache"

        def cold() -> float:
            shutil.rmtree(cache, ignore_errors=True)
            return seconds(lambda: prepared(source, cache, CROP_FACTORS[0]))

        def variants(trials: int) -> float:
            """So many trials, whose crop factors are the four in turns."""
            shutil.rmtree(cache / "variants", ignore_errors=True)
            shutil.rmtree(cache / "normalizations", ignore_errors=True)
            factors = (CROP_FACTORS * trials)[:trials]
            return seconds(lambda: [prepared(source, cache, factor) for factor in factors])

        bare = f"bare cv2.imdecode, {threads} threads"
        decoding = lambda: seconds(lambda: bare_decoding(source))  # noqa: E731
        if wanted(options, "S4 cold"):
            ours, theirs = in_turns(cold, decoding, repeats)
            yield Figure("S4 cold: LFW to training tensors", bare, "s", ours, theirs, goal=1.2)
        prepared(source, cache, CROP_FACTORS[0])
        if wanted(options, "S4 another crop factor"):
            ours, theirs = in_turns(lambda: variants(1), decoding, repeats)
            yield Figure(
                "S4 another crop factor", bare, "s", ours, theirs, goal=1.0, goal_of="ours"
            )
        if wanted(options, "S4 20 trials over 4 variants"):
            ours, theirs = in_turns(lambda: variants(TRIALS), lambda: variants(4), repeats)
            yield Figure(
                f"S4 {TRIALS} trials over 4 variants", "the 4 variants", "s", ours, theirs, goal=1.2
            )
    if wanted(options, "S4 peak memory"):
        yield peak_memory(options.data_home)


def peak_memory(data_home: Path) -> Figure:
    ours, theirs = [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as cache:
            told = subprocess.run(
                [sys.executable, "-c", PEAK, str(data_home), cache],
                cwd=Path(__file__).parent, check=True, capture_output=True, text=True,
            )  # fmt: skip
        peak_mb, arrays_mb = map(float, told.stdout.split())
        ours.append(peak_mb)
        theirs.append(arrays_mb)
    return Figure("S4 peak memory, cold", "the arrays", "MB", ours, theirs, goal=1.3)


if __name__ == "__main__":
    run_alone(pictures, __doc__ or "")
