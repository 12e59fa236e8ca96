"""Hyperparameter search for siamese networks that verify faces."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siamtune.shipping.verifier import Verdict, Verifier, load

__version__ = "0.1.0"
__all__ = ["Verdict", "Verifier", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: only who uses a model shall wait for it.
    if name in ("Verdict", "Verifier", "load"):
        from siamtune.shipping import verifier

        return getattr(verifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
