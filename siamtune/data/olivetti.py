"""The Olivetti faces as scikit-learn keeps them: ten pictures each of forty people, 64 x 64 gray.

scikit-learn's file is a pickle, and loading one runs whatever stands in it. Here only one plain
array can come out.
"""

import io
import pickle  # nosec B403: what it would load is held to three names below
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from numpy.typing import NDArray

PEOPLE, PICTURES, SIDE_PX = 40, 10, 64
LARGEST_BYTES = 64 * 2**20  # in 64-bit floats they take 13 MB


class _PlainArray(NumpyArrayWrapper):
    """How joblib marks an array; one of Python objects would be a pickle within the pickle."""

    def read(self, unpickler: Any, *options: Any) -> Any:
        if self.dtype.hasobject:
            raise pickle.UnpicklingError("an array of objects")
        return super().read(unpickler, *options)


# All that a plain array needs.
ALLOWED: dict[tuple[str, str], Any] = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PlainArray,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(NumpyUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]


def read_olivetti(path: Path) -> NDArray[np.uint8]:
    """`(400, 64, 64)` gray pictures, ten in a row of one person.

    Raises:
        ValueError: the file is no such array; nothing of it was executed.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    if content[:1] == b"x":  # zlib
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(content, LARGEST_BYTES)
        if unpacking.unconsumed_tail:
            raise ValueError("far too large")
    try:
        faces = _ArrayUnpickler(str(path), io.BytesIO(content), True).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(faces, np.ndarray) or faces.shape != (PEOPLE * PICTURES, SIDE_PX**2):
        raise ValueError("no array of 400 pictures with 64 x 64 pixels")
    levels = np.float32(faces)
    levels = levels - levels.min()
    levels = levels / levels.max()
    return np.rint(255 * levels.reshape(-1, SIDE_PX, SIDE_PX).transpose(0, 2, 1)).astype(np.uint8)
