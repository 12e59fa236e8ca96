"""The spaces that come with siamtune."""

from pathlib import Path

from siamtune.errors import ConfigError, SpaceError
from siamtune.search.located import did_you_mean

PACKAGE = Path(__file__).parent.parent


def shipped_folder() -> Path:
    """`siamtune/search_spaces` in a wheel, `search_spaces` beside the package in a checkout."""
    inside = PACKAGE / "search_spaces"
    return inside if inside.is_dir() else PACKAGE.parent / "search_spaces"


def shipped_spaces() -> dict[str, Path]:
    """The shipped space files by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def find_space(path_or_name: str) -> Path:
    """A space file at this path, else the shipped one of this name (`full`, `spaces/full.yaml`).

    Raises:
        SpaceError: there is neither.
    """
    path = Path(path_or_name)
    try:
        if path.exists() and not path.is_dir():
            return path
    except (OSError, ValueError):  # too long, or with a character that no path has
        path = Path("?")
    shipped = shipped_spaces()
    if path.suffix in ("", ".yaml", ".yml") and path.stem in shipped:
        return shipped[path.stem]
    got = "a folder" if path.is_dir() else "nothing there"
    raise SpaceError(
        f"{path_or_name}: must be a space file or one of {', '.join(shipped)}, but there is {got}"
        f"{did_you_mean(path.stem, shipped)}"
    )


def shipped_configs() -> dict[str, Path]:
    """The shipped best configurations by name."""
    return {path.stem: path for path in sorted((shipped_folder() / "best").glob("*.yaml"))}


def find_config(path_or_name: Path) -> Path:
    """A bare name of a shipped best configuration (`lfw`) to its file; anything else as it is."""
    return shipped_configs().get(str(path_or_name), path_or_name)


def require_config(path_or_name: Path) -> Path:
    """As `find_config`, for who expects a file.

    Raises:
        ConfigError: there is none, and no shipped configuration of that name.
    """
    path = find_config(path_or_name)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise ConfigError(
            f"{path_or_name}: must be a configuration's file or one of "
            f"{', '.join(shipped_configs())}, but there is {got}"
            f"{did_you_mean(path_or_name.stem, shipped_configs())}"
        )
    return path


def about(path: Path) -> str:
    """What the first comment of a space file says, the editor's line apart."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "$schema" not in line:
            return line.lstrip("# ")
    return ""
