"""What one dial allows, asked of the field of `TrialConfig` that declares it."""

from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from siamtune.config import DEFAULTS, TrialConfig, choices, unknown_name_message
from siamtune.search.located import did_you_mean, shown

Kind = Literal["choice", "int", "float"]
SECTIONS = {name.partition(".")[0] for name in DEFAULTS if "." in name}
SWITCHES = {"true": "true", "yes": "true", "on": "true"}
SWITCHES |= {"false": "false", "no": "false", "off": "false"}


def dial_value(name: str, value: Any) -> Any:
    """The value as `TrialConfig` holds it: 1 becomes 1.0 where a dial is a fraction.

    Raises:
        ValueError: the dial does not allow the value; the message names both and the cure.
    """
    try:
        return _adapter(name).validate_python(value)
    except ValidationError as error:
        rule = error.errors()[0]["msg"].removeprefix("Input should be ")
    for pydantic_word, word in (
        ("a valid integer", "a whole number"),
        ("a valid number", "a number"),
        ("a valid boolean", "true or false"),
    ):
        rule = rule.replace(pydantic_word, word)
    if DEFAULTS[name] is None:
        rule += " or null"
    raise ValueError(f"{name} must be {rule}, but got {shown(value)}{_cure(name, value)}")


def kind(name: str) -> Kind:
    """How a dial can vary: among words or switches, over whole numbers, over numbers."""
    if choices(name) is not None:
        return "choice"
    schema = dial_schema(name)
    types = [branch["type"] for branch in schema.get("anyOf", [schema])]
    return "int" if "integer" in types else "float"


def dial_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a dial's values: its type and bounds or its words."""
    return _adapter(name).json_schema()


def description(name: str) -> str:
    return _field(name).description or ""


def no_such_dial(name: str) -> str:
    """Say that a dial does not exist, and what was probably meant."""
    if name in SECTIONS:
        within = [dial for dial in DEFAULTS if dial.startswith(f"{name}.")]
        return f"{name!r} is a section, not a dial; write its dials with a dot, like {within[0]!r}"
    return unknown_name_message(name)


def _cure(name: str, value: Any) -> str:
    allowed = choices(name)
    if allowed == (False, True):
        word = SWITCHES.get(value.lower()) if isinstance(value, str) else None
        quoted = " without quotes" if str(value).lower() == word else ""
        return f"; write {word}{quoted}" if word else ""
    if allowed is not None:
        return did_you_mean(value, allowed)
    if isinstance(value, str):
        if DEFAULTS[name] is None and value.lower() in ("none", "all"):
            return "; write null"
        with suppress(ValueError):
            float(value)
            return "; write it without quotes"
    return ""


def _field(name: str) -> FieldInfo:
    *sections, leaf = name.split(".")
    model: Any = TrialConfig
    for section in sections:
        model = model.model_fields[section].annotation
    field: FieldInfo = model.model_fields[leaf]
    return field


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = _field(name)
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[annotation, *field.metadata]
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
