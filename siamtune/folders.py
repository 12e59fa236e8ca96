"""Where siamtune keeps what it can make or fetch again."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def default_cache_folder() -> Path:
    """$SIAMTUNE_CACHE, or the place that the system has for such things."""
    chosen = os.environ.get("SIAMTUNE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("siamtune")
