"""What a step frees, the next one needs again: the process keeps it.

By default glibc hands large blocks back to the kernel and asks for them anew, and the kernel fills
every page with zeros: up to a quarter of the time of a step on a CPU.
"""

import ctypes
import sys

# The numbers that <malloc.h> gives these parameters.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def _c_library() -> ctypes.CDLL | None:
    """The process's C library if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, for the steps to come; nothing without glibc.

    Numbers stay what they are; the process stays as large as it has ever been.
    """
    if library := _c_library():
        library.mallopt(M_MMAP_MAX, 0)  # large blocks lie in the heap, too ...
        library.mallopt(M_TRIM_THRESHOLD, -1)  # ... whose end is not cut off


def return_freed_memory() -> None:
    """Give the kernel what the process has freed and kept."""
    if library := _c_library():
        library.malloc_trim(0)
