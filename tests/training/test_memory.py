"""Whether freed memory stays, counted by the kernel."""

import subprocess
import sys

import pytest

# Pages that the kernel had to fill while a block of 64 MB was made and freed ten times.
COUNT = """
import resource
from siamtune.training.memory import keep_freed_memory, return_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

print(faults())
keep_freed_memory()
faults()
print(faults())
kept = resident_mb()
return_freed_memory()
print(kept - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep memory")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, after, returned_mb = map(float, told.stdout.split())
    assert before > 10 * 1000  # 4 KiB each
    assert after < before / 100
    assert returned_mb > 60
