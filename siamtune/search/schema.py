"""The format of a space file as JSON Schema, so that editors complete and check it.

It says less than `load_space` does: that low is below high, or that a `when` can hold, is beyond
JSON Schema.
"""

from typing import Any

from siamtune.config import DEFAULTS
from siamtune.search.dials import description, dial_schema, kind
from siamtune.search.settings import (
    MAX_SEED,
    METRICS,
    SAMPLERS,
    SCHEDULERS,
    Objective,
    StudySettings,
)
from siamtune.search.space import VERSION

Schema = dict[str, Any]
OPTION_SCHEMAS: dict[str, Schema] = {
    "min_epochs": {
        "type": "integer",
        "minimum": 1,
        "description": "no trial is stopped before it has trained so long",
    },
    "eta": {
        "type": "integer",
        "minimum": 2,
        "description": "one of so many trials goes on at each rung",
    },
}


def space_schema() -> Schema:
    """JSON Schema (draft 2020-12) of space files, with every dial, its bounds and its meaning."""
    searched = [name for name in DEFAULTS if name != "epochs"]
    values = {"$ref": "#/$defs/values"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A space of siamtune, version {VERSION}",
        **_map(
            {
                "version": {"const": VERSION, "description": "of this format"},
                "objective": _objective(),
                "study": _study(),
                "fixed": {**values, "description": "dials that have one value in every trial"},
                "start": {
                    "type": "array",
                    "items": values,
                    "description": "trials that run first; {} is the defaults",
                },
                "space": {
                    **_map({name: _dimension(name) for name in searched}),
                    "minProperties": 1,
                    "description": "dials and what is tried for each",
                },
            },
            required=["version", "space"],
        ),
        "$defs": {
            **{name: _value(name) for name in DEFAULTS},
            "values": _map({name: _ref(name) for name in DEFAULTS}),
            "when": {
                **_map({name: _one_or_several(name) for name in DEFAULTS}),
                "minProperties": 1,
                "description": "the dial is active where all these dials have one of the values",
            },
        },
    }


def _map(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return schema | ({"required": required} if required else {})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _value(name: str) -> Schema:
    return {**dial_schema(name), "description": description(name), "default": DEFAULTS[name]}


def _one_or_several(name: str) -> Schema:
    several = {"type": "array", "items": _ref(name), "minItems": 1}
    return {"anyOf": [_ref(name), several]}


def _dimension(name: str) -> Schema:
    properties: dict[str, Schema] = {
        "choice": {
            "type": "array",
            "items": _ref(name),
            "minItems": 1,
            "uniqueItems": True,
            "description": "one of these, in no order",
        }
    }
    dial_kind = kind(name)
    if dial_kind != "choice":
        bounds = _number_schema(name)
        if dial_kind == "float":
            properties["float"] = _range(bounds)
        properties["int"] = _range({**bounds, "type": "integer"})
        properties["log"] = {"type": "boolean", "description": "draw the logarithm evenly"}
        properties["step"] = {
            "type": "number" if dial_kind == "float" else "integer",
            "exclusiveMinimum": 0,
            "description": "distance of the values, from low",
        }
    words = [word for word in ("choice", "float", "int") if word in properties]
    schema: Schema = {
        "description": f"{description(name)} (default {_written(DEFAULTS[name])})",
        **_map({**properties, "when": {"$ref": "#/$defs/when"}}),
        "oneOf": [{"required": [word]} for word in words],
    }
    if dial_kind != "choice":
        schema["dependentSchemas"] = {"choice": {"properties": {"log": False, "step": False}}}
    return schema


def _number_schema(name: str) -> Schema:
    """The bounds of a dial's numbers, without the null that it may allow."""
    schema = dial_schema(name)
    branches: list[Schema] = schema.get("anyOf", [schema])
    return next(branch for branch in branches if branch["type"] != "null")


def _range(bounds: Schema) -> Schema:
    return {
        "type": "array",
        "items": bounds,
        "minItems": 2,
        "maxItems": 2,
        "description": "[low, high], both inclusive",
    }


def _objective() -> Schema:
    smaller = [metric for metric, mode in METRICS.items() if mode == "min"]
    one = {
        **_map(
            {
                "metric": {"enum": list(METRICS), "default": Objective.metric},
                "mode": {"enum": ["max", "min"]},
            }
        ),
        "if": {"properties": {"metric": {"enum": smaller}}, "required": ["metric"]},
        "then": {"properties": {"mode": {"const": "min"}}},
        "else": {"properties": {"mode": {"const": "max"}}},
    }
    two = {
        "type": "array",
        "items": {"enum": list(METRICS)},
        "minItems": 2,
        "maxItems": 2,
        "uniqueItems": True,
    }
    return {
        "anyOf": [one, two],
        "description": "what is optimised, measured on validation identities; two metrics give a "
        "front of trials, none of which is stopped early",
    }


def _study() -> Schema:
    schedulers = {
        name: {"type": ["object", "null"], **_options(options)}
        for name, options in SCHEDULERS.items()
    }
    samplers = {name: {"type": ["object", "null"], **_options(())} for name in SAMPLERS}
    return _map(
        {
            "trials": {
                "type": "integer",
                "minimum": 1,
                "default": StudySettings.trials,
                "description": "how many are tried",
            },
            "scheduler": {**_named(schedulers), "description": "who stops weak trials early"},
            "sampler": {**_named(samplers), "description": "who proposes trials"},
            "seed": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_SEED,
                "default": StudySettings.seed,
                "description": "of the sampler",
            },
        }
    )


def _options(keys: tuple[str, ...]) -> Schema:
    return {"properties": {key: OPTION_SCHEMAS[key] for key in keys}, "additionalProperties": False}


def _named(options: dict[str, Schema]) -> Schema:
    """A name alone, or a map from one name to its options."""
    one = {**_map(options), "minProperties": 1, "maxProperties": 1}
    return {"anyOf": [{"enum": list(options)}, one]}


def _written(value: Any) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    )
