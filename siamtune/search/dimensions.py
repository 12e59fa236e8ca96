"""One dimension of a space: a dial and what is tried for it.

    {choice: [relu, silu]}    {float: [1e-4, 1e-2], log: true}    {int: [16, 256], step: 16}

Bounds are inclusive. With `when: {loss.name: [triplet]}` a dial is active only in trials in which
every named dial is active (or fixed) and has one of the values.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

from siamtune.config import DEFAULTS, choices
from siamtune.search.dials import dial_value, kind, no_such_dial
from siamtune.search.located import Fault, Located, bare, did_you_mean, shown

When = Mapping[str, tuple[Any, ...]]
# What a dial can be in a space: its values, or None where it is a range.
Domain = tuple[Any, ...] | None

KEYS = {
    "choice": ("choice", "when"),
    "float": ("float", "log", "step", "when"),
    "int": ("int", "log", "step", "when"),
}
EVERY_KEY = ("choice", "float", "int", "log", "step", "when")
# Words of other tools and what they are here.
FOREIGN = {
    "uniform": "{float: [low, high]}",
    "loguniform": "{float: [low, high], log: true}",
    "randint": "{int: [low, high]}",
    "logint": "{int: [low, high], log: true}",
    "values": "{choice: [...]}",
    "categorical": "{choice: [...]}",
    "grid": "{choice: [...]}",
    "const": "the dial under fixed",
    "value": "the dial under fixed",
    "min": "{float: [low, high]} or {int: [low, high]}",
    "max": "{float: [low, high]} or {int: [low, high]}",
    "low": "{float: [low, high]} or {int: [low, high]}",
    "high": "{float: [low, high]} or {int: [low, high]}",
}
MAX_CHOICES = 1000
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class FloatDimension:
    """Numbers from `low` to `high`, both inclusive; on a grid from `low` if there is a step."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True)
class IntDimension:
    """Whole numbers from `low` to `high`, both inclusive."""

    name: str
    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When = field(default_factory=dict)


@dataclass(frozen=True)
class ChoiceDimension:
    """One of some values, in no order."""

    name: str
    choices: tuple[Any, ...]
    when: When = field(default_factory=dict)


Dimension = FloatDimension | IntDimension | ChoiceDimension


def is_active(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether every `when` of the dimension holds among the values that are chosen so far."""
    return all(
        name in values and values[name] in allowed for name, allowed in dimension.when.items()
    )


def contains(dimension: Dimension, value: Any) -> bool:
    """Whether a value that the dial allows lies within the dimension, grid or no grid."""
    if isinstance(dimension, ChoiceDimension):
        return value in dimension.choices
    return value is not None and dimension.low <= value <= dimension.high


def holds(dimension: Dimension, value: Any) -> bool:
    """Whether the dimension could have proposed the value: within it and, if any, on its grid."""
    if isinstance(dimension, ChoiceDimension) or not contains(dimension, value):
        return contains(dimension, value)
    return math.isclose(nearest(dimension, value), value, rel_tol=1e-9)


def nearest(dimension: Dimension, value: Any) -> Any:
    """The value of the dimension nearest to `value`: clipped, on the grid, of the right type.

    Words that are no choice give the first choice; None gives the middle of a range.
    """
    if isinstance(dimension, ChoiceDimension):
        if value in dimension.choices:
            return value
        numbers = [choice for choice in dimension.choices if _is_number(choice)]
        if not numbers or not _is_number(value):
            return dimension.choices[0]
        return min(numbers, key=lambda choice: abs(choice - value))
    low, high = dimension.low, dimension.high
    if value is None:
        value = math.sqrt(low * high) if dimension.log else (low + high) / 2
    value = min(max(value, low), high)
    if isinstance(dimension, IntDimension):
        return low + round((value - low) / dimension.step) * dimension.step
    if dimension.step is None:
        return float(value)
    # In Optuna's own order of operations, so that equal points are equal floats.
    return min(round((value - low) / dimension.step) * dimension.step + low, high)


def draw(dimension: Dimension, random: Random) -> Any:
    """A value of the dimension drawn as Optuna's random sampler would."""
    if isinstance(dimension, ChoiceDimension):
        return random.choice(dimension.choices)
    if dimension.log:
        value = math.exp(random.uniform(math.log(dimension.low), math.log(dimension.high)))
    else:
        value = random.uniform(dimension.low, dimension.high)
    return nearest(dimension, value)


def count(dimension: Dimension) -> int | None:
    """How many values there are; None for a continuous range."""
    if isinstance(dimension, ChoiceDimension):
        return len(dimension.choices)
    if dimension.step is None:
        return None
    return round((dimension.high - dimension.low) / dimension.step) + 1


def every_value(dimension: Dimension) -> Iterator[Any]:
    """All `count(dimension)` values, in order.

    Raises:
        ValueError: there is no end of them.
    """
    number = count(dimension)
    if isinstance(dimension, ChoiceDimension):
        yield from dimension.choices
    elif number is None or dimension.step is None:
        raise ValueError(f"{dimension.name} is continuous")
    else:
        for place in range(number):
            yield nearest(dimension, dimension.low + place * dimension.step)


def domain(dimension: Dimension) -> Domain:
    """The values of a choice; None for a range."""
    return dimension.choices if isinstance(dimension, ChoiceDimension) else None


def described(dimension: Dimension) -> str:
    """What is tried, for a table: `0.0001 to 0.01, log`."""
    if isinstance(dimension, ChoiceDimension):
        return ", ".join(c if isinstance(c, str) else shown(c) for c in dimension.choices)
    text = f"{dimension.low:g} to {dimension.high:g}"
    if dimension.log:
        text += ", log"
    if dimension.step != (1 if isinstance(dimension, IntDimension) else None):
        text += f", step {dimension.step:g}"
    return text


def spec(dimension: Dimension) -> dict[str, Any]:
    """The dimension as a space file writes it."""
    written: dict[str, Any]
    if isinstance(dimension, ChoiceDimension):
        written = {"choice": list(dimension.choices)}
    else:
        word, default_step = (
            ("float", None) if isinstance(dimension, FloatDimension) else ("int", 1)
        )
        written = {word: [dimension.low, dimension.high]}
        if dimension.log:
            written["log"] = True
        if dimension.step != default_step:
            written["step"] = dimension.step
    if dimension.when:
        written["when"] = {name: list(allowed) for name, allowed in dimension.when.items()}
    return written


@dataclass(frozen=True)
class Surroundings:
    """What reading a dimension must know of its space."""

    domains: Mapping[str, Domain]  # of dials that are fixed or stand above, without a fault
    faulty: frozenset[str]  # fixed or above, but misread: nothing can be said about them
    below: frozenset[str]  # the dial itself and those further down


def read_dimension(
    name: str, located: Located, around: Surroundings, faults: list[Fault]
) -> Dimension | None:
    """Read one entry of `space`; None if it has faults, which are added to `faults`."""
    before = len(faults)

    def fault(line: int, message: str) -> None:
        faults.append(Fault(line, message))

    if name not in DEFAULTS:
        fault(located.line, no_such_dial(name))
        return None
    if name == "epochs":
        rule = "epochs cannot be searched, it is the time axis on which trials are stopped"
        fault(located.line, f"{rule}; put it under fixed")
        return None
    entries = located.value
    if not isinstance(entries, dict):
        rule = f"{name} must be {{choice: [...]}}, {{float: [low, high]}} or {{int: [low, high]}}"
        cure = "; a constant belongs under fixed" if not isinstance(entries, tuple) else ""
        fault(located.line, f"{rule}, but got {shown(entries)}{cure}")
        return None
    words = [key for key in entries if key in KEYS]
    for key, value in entries.items():
        if key in FOREIGN:
            fault(value.line, f"{name}: there is no {key!r}; write {FOREIGN[key]}")
        elif key not in EVERY_KEY:
            near = did_you_mean(key, EVERY_KEY)
            fault(value.line, f"{name}: there is no {key!r}{near or ': ' + ', '.join(EVERY_KEY)}")
    if len(words) != 1:
        if len(words) > 1 or len(faults) == before:
            got = " and ".join(words) or "none of them"
            fault(located.line, f"{name} must have one of choice, float and int, but got {got}")
        return None
    word = words[0]
    for key in entries:
        if key in EVERY_KEY and key not in KEYS[word]:
            fault(entries[key].line, f"{name}: `{key}` is for float and int, not for a choice")
    when: When = {}
    if "when" in entries:
        when = _read_when(name, entries["when"], around, fault)
    dimension = (
        _read_choice(name, entries, when, fault)
        if word == "choice"
        else _read_range(name, word, entries, when, fault)
    )
    return dimension if len(faults) == before else None


Tell = Callable[[int, str], None]


def _read_choice(
    name: str, entries: Mapping[str, Located], when: When, fault: Tell
) -> Dimension | None:
    listed = entries["choice"]
    if not isinstance(listed.value, tuple):
        fault(listed.line, f"{name}: choice must be a list, but got {shown(listed)}")
        return None
    if not listed.value:
        fault(listed.line, f"{name}: choice must have at least one value, but got []")
        return None
    if len(listed.value) > MAX_CHOICES:
        rule = f"{name}: choice must have at most {MAX_CHOICES} values"
        fault(listed.line, f"{rule}, but got {len(listed.value)}; write a range")
        return None
    values: list[Any] = []
    for item in listed.value:
        try:
            value = dial_value(name, bare(item))
        except ValueError as error:
            fault(item.line, str(error))
            continue
        if value in values:
            fault(item.line, f"{name}: {shown(value)} must stand once; remove the second")
        values.append(value)
    return ChoiceDimension(name, tuple(values), when)


def _read_range(
    name: str, word: str, entries: Mapping[str, Located], when: When, fault: Tell
) -> Dimension | None:
    located = entries[word]
    allowed = choices(name)
    if allowed is not None:
        listed = ", ".join(str(choice).lower() for choice in allowed)
        fault(located.line, f"{name} has no order, but got {word}; write {{choice: [{listed}]}}")
        return None
    if word == "float" and kind(name) == "int":
        got = shown(located)
        fault(located.line, f"{name} is a whole number, but got float; write {{int: {got}}}")
        return None
    items = located.value
    if not isinstance(items, tuple) or len(items) != 2:
        fault(located.line, f"{name}: {word} must be [low, high], but got {shown(located)}")
        return None
    bounds = [_read_bound(name, word, item, fault) for item in items]
    log = _read_log(name, entries, fault)
    step = _read_step(name, word, entries, fault)
    low, high = bounds
    if low is None or high is None:
        return None
    if low > high:
        rule = f"{name}: low must be below high, but got {shown(located)}"
        fault(located.line, f"{rule}; swap them")
        return None
    if low == high:
        rule = f"{name}: low must be below high, but got {shown(located)}"
        fault(located.line, f"{rule}; put `{name}: {shown(low)}` under fixed")
        return None
    if log and low <= 0:
        rule = f"{name}: log needs low above 0, but got {shown(low)}"
        fault(located.line, f"{rule}; raise low or leave log out")
    if log and "step" in entries:
        fault(entries["step"].line, f"{name}: log and step exclude each other; leave one out")
    elif step is not None:
        _check_grid(name, low, high, step, entries["step"].line, fault)
    if word == "int":
        return IntDimension(name, low, high, log, int(step or 1), when)
    return FloatDimension(name, float(low), float(high), log, step and float(step), when)


def _read_bound(name: str, word: str, item: Located, fault: Tell) -> Any:
    value = bare(item)
    if value is None:
        fault(item.line, f"{name}: a bound must be a number, but got {shown(item)}")
        return None
    if word == "int" and isinstance(value, float) and math.isfinite(value):
        rule = f"{name}: int needs whole numbers, but got {shown(value)}"
        cure = f"write {int(value)}" if value.is_integer() else "round it"
        fault(item.line, f"{rule}; {cure if kind(name) == 'int' else 'write float'}")
        return None
    try:
        return dial_value(name, value) if word == "float" else _whole(dial_value(name, value))
    except ValueError as error:
        fault(item.line, str(error))
        return None


def _read_log(name: str, entries: Mapping[str, Located], fault: Tell) -> bool:
    log = entries.get("log", Located(False, 0))
    if not isinstance(log.value, bool):
        fault(log.line, f"{name}: log must be true or false, but got {shown(log)}")
        return False
    return log.value


def _read_step(
    name: str, word: str, entries: Mapping[str, Located], fault: Tell
) -> float | int | None:
    if "step" not in entries:
        return None
    step = entries["step"]
    what = "a whole number" if word == "int" else "a number"
    if not _is_number(step.value) or (word == "int" and not isinstance(step.value, int)):
        fault(step.line, f"{name}: step must be {what}, but got {shown(step)}")
        return None
    if not math.isfinite(step.value) or step.value <= 0:
        fault(step.line, f"{name}: step must be {what} above 0, but got {shown(step)}")
        return None
    value: float | int = step.value
    return value


def _check_grid(name: str, low: Any, high: Any, step: Any, line: int, fault: Tell) -> None:
    """Inclusive bounds are kept: the grid that begins at `low` must end at `high`."""
    extent = high - low
    if step > extent:
        fault(line, f"{name}: step must be at most {extent:g} (high - low), but got {step:g}")
    elif extent / step > MAX_STEPS:
        fault(line, f"{name}: step must be coarser, but got {step:g}; leave it out")
    else:
        exact_low, exact_high, exact_step = (Decimal(str(value)) for value in (low, high, step))
        rest = (exact_high - exact_low) % exact_step
        if rest:
            below = float(exact_high - rest)
            rule = f"{name}: steps of {step:g} from {low:g} must meet {high:g}, but pass it"
            fault(line, f"{rule}; write {below:g} or {below + step:g} as high")


def _read_when(name: str, located: Located, around: Surroundings, fault: Tell) -> When:
    entries = located.value
    if not isinstance(entries, dict) or not entries:
        rule = f"{name}: when must be {{other.dial: [values]}}, but got {shown(located)}"
        fault(located.line, rule)
        return {}
    when: dict[str, tuple[Any, ...]] = {}
    for target, listed in entries.items():
        problem = _target_problem(name, target, around)
        if problem:
            fault(listed.line, problem)
            continue
        items = listed.value if isinstance(listed.value, tuple) else (listed,)
        values: list[Any] = []
        for item in items:
            try:
                values.append(dial_value(target, bare(item)))
            except ValueError as error:
                fault(item.line, f"{name}: when: {error}")
        if not items:
            fault(listed.line, f"{name}: when: {target} must have values, but got []")
        domain = around.domains.get(target)
        if target in around.faulty or domain is None or len(values) < len(items):
            continue
        when[target] = tuple(dict.fromkeys(values))
        tried = ", ".join(map(shown, domain))
        # A fixed dial may be asked for more than its one value: `--set` narrows a space so.
        if len(domain) == 1 and items and not set(values) & set(domain):
            rule = f"{name}: when can never hold: {target} is always {tried}"
            fault(listed.line, f"{rule}, but got {shown(values)}; remove the dial")
        elif len(domain) > 1:
            for value, item in zip(values, items, strict=True):
                if value not in domain:
                    rule = f"{name}: when: {target} is searched over {tried}"
                    fault(item.line, f"{rule}, but got {shown(value)}; add it there")
    return when


def _target_problem(name: str, target: str, around: Surroundings) -> str | None:
    if target not in DEFAULTS:
        return f"{name}: when: {no_such_dial(target)}"
    if target == name:
        return f"{name}: when must name another dial, but got {name} itself"
    if target in around.below:
        return f"{name}: when must name a dial above it, but {target} stands below; move it up"
    if target in around.faulty:
        return None
    if target not in around.domains:
        rule = f"{name}: when must name a dial of space or fixed, but {target} is neither"
        return f"{rule} (it is always {shown(DEFAULTS[target])})"
    if around.domains[target] is None:
        return f"{name}: when needs a dial with choices, but {target} is a range; write choice"
    return None


def _whole(value: Any) -> int:
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
