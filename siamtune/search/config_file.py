"""A configuration in a file: what `best.yaml` is and `siamtune train --config` reads."""

from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from siamtune.config import DEFAULTS, flatten, trial_config, unflatten
from siamtune.errors import ConfigError
from siamtune.search.located import MAX_BYTES

# A configuration needs none; the parser takes minutes over tens of thousands.
MAX_BRACKETS = 1000


def config_yaml(config: Mapping[str, Any], comment: str = "") -> str:
    """A configuration (flat names; what is missing has its default) as nested YAML."""
    buffer = StringIO()
    buffer.write("".join(f"# {line}\n" for line in comment.splitlines()))
    YAML().dump(unflatten(flatten(trial_config(dict(config)))), buffer)
    return buffer.getvalue()


def read_config(path: Path) -> dict[str, Any]:
    """The dials that a configuration file names, flat; sections or dotted names, as you like.

    Raises:
        ConfigError: the file cannot be read, or holds what no configuration can.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: must be a readable YAML file, but {reason}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path}: must have at most {MAX_BYTES // 1024} KiB, but is far too large; is it "
            "another file?"
        )
    brackets = text.count("[") + text.count("{")
    if brackets > MAX_BRACKETS:
        raise ConfigError(
            f"{path}: must be YAML of sections and dials, but has {brackets} opening brackets"
        )
    content = _loaded(path, text)
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: must hold sections like `optim: {{lr: 1e-3}}`, "
            f"but got {type(content).__name__}"
        )
    try:
        flat = _flat(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    for name, value in flat.items():
        # YAML 1.2 reads 1e-4, without a point, as text.
        if isinstance(value, str) and isinstance(DEFAULTS.get(name), float):
            with suppress(ValueError):
                flat[name] = float(value)
    try:
        trial_config(flat)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return flat


def _loaded(path: Path, text: str) -> Any:
    """The content of a YAML document without aliases: with them, a few lines can hold more than
    memory does, or hold themselves."""
    try:
        if any(isinstance(event, AliasEvent) for event in YAML(pure=True).parse(text)):
            raise ConfigError(f"{path}: must be YAML without aliases; write the value out")
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:  # ValueError: no such day, too many digits
        raise ConfigError(f"{path}: must be YAML, but {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: must be YAML, but its brackets are nested too deeply") from None


def _flat(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        found = _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
        if twice := flat.keys() & found.keys():
            raise ConfigError(f"{min(twice)} must be given once, but is there twice")
        flat |= found
    return flat
