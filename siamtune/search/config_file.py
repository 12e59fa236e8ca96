"""A configuration in a file: what `best.yaml` is and `siamtune train --config` reads."""

from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from siamtune.config import DEFAULTS, flatten, trial_config, unflatten
from siamtune.errors import ConfigError


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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: must be a readable YAML file, but {reason}") from None
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(f"{path}: must be YAML, but {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: must hold sections like `optim: {{lr: 1e-3}}`, "
            f"but got {type(content).__name__}"
        )
    flat = _flat(content)
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


def _flat(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
