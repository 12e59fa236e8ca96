"""A space: what a search tries. It is read from a file, checked at once, and written back.

    version: 1
    objective: {metric: val/auc, mode: max}
    study: {trials: 64, scheduler: {asha: {min_epochs: 2, eta: 3}}, sampler: {tpe: {}}, seed: 0}
    fixed: {epochs: 30}
    start: [{}]                                  # the defaults run first, as trial 0
    space:
      loss.name:   {choice: [contrastive, triplet]}
      loss.margin: {float: [0.1, 4.0], log: true, when: {loss.name: contrastive}}

Nothing here imports optuna, torch or ray: a space is checked in a moment.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import islice
from math import prod
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from siamtune.config import DEFAULTS, check_shared_out, nearest_name, trial_config
from siamtune.errors import ConfigError, SpaceError
from siamtune.search.dials import dial_value, no_such_dial
from siamtune.search.dimensions import (
    ChoiceDimension,
    Dimension,
    Domain,
    Surroundings,
    contains,
    count,
    described,
    domain,
    draw,
    every_value,
    is_active,
    nearest,
    read_dimension,
    spec,
)
from siamtune.search.located import (
    MAX_BYTES,
    Fault,
    Located,
    bare,
    plain_scalar,
    read_entries,
    read_located,
    shown,
)
from siamtune.search.settings import (
    Objective,
    Scheduler,
    StudySettings,
    objective_spec,
    read_objective,
    read_study,
    study_spec,
)
from siamtune.search.shipped import find_space

VERSION = 1
KEYS = ("version", "objective", "study", "fixed", "start", "space")
# Combinations drawn before a space counts as one of which nothing can be built.
DRAWS = 1000
# Cases that `when` distinguishes, beyond which combinations are not counted.
MAX_CASES = 20_000

parse_value = plain_scalar


@dataclass(frozen=True)
class Space:
    """What is tried; equal to what `to_yaml` writes and `load_space` reads again."""

    objective: Objective
    study: StudySettings
    fixed: Mapping[str, Any]
    start: tuple[Mapping[str, Any], ...]  # as the file names them; `complete` adds the others
    dimensions: tuple[Dimension, ...]
    path: Path | None = field(default=None, compare=False)

    @property
    def combinations(self) -> int | None:
        """How many different trials there are; None if countless, as with a continuous dial."""
        return _combinations(self)


def load_space(
    path_or_name: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    trials: int | None = None,
    seed: int | None = None,
) -> Space:
    """Read a space file or a shipped space by its name.

    `overrides` fix dials: they leave the space, with every dial that can then never be active, and
    start points forget them. A shorter trial lowers the scheduler's `min_epochs` to its `epochs`.
    `trials` and `seed` replace those of `study`.

    Raises:
        SpaceError: no such file, or all its faults, one a line, each with file:line and the cure.
    """
    path = find_space(path_or_name)
    space, faults = read_space(path)
    fixed, override_faults = _read_overrides(overrides or {})
    faults = sorted([*faults, *override_faults])
    if space is None or faults:
        raise SpaceError(faults_message(path, faults))
    if fixed:
        space = _fix(space, fixed, str(path))
    study = space.study
    study = replace(study, trials=study.trials if trials is None else trials)
    return replace(space, study=replace(study, seed=study.seed if seed is None else seed))


def read_space(path: Path) -> tuple[Space | None, list[Fault]]:
    """Read and check a space file; None where it has faults, all of them, by line."""
    faults: list[Fault] = []
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return None, [Fault(1, f"the file must be readable, but {error.strerror or error}")]
    root = read_located(content, faults)
    space = None if root is None else _read_root(root, faults)
    return (None if faults or space is None else replace(space, path=path)), sorted(set(faults))


def faults_message(path: Path | str, faults: list[Fault]) -> str:
    """All faults of a file, one a line, under a line that counts them."""
    lines = [f"{path}: {len(faults)} fault{'' if len(faults) == 1 else 's'}"]
    for fault in faults:
        lines.append(f"{path}:{fault.line}: {fault.message}" if fault.line else fault.message)
    return "\n".join(lines)


def walk(space: Space, choose: Callable[[Dimension], Any]) -> dict[str, Any]:
    """Fixed dials, and in the space's order a chosen value for each dial that is active."""
    values = dict(space.fixed)
    for dimension in space.dimensions:
        if is_active(dimension, values):
            values[dimension.name] = choose(dimension)
    return values


def complete(space: Space, named: Mapping[str, Any]) -> dict[str, Any]:
    """A whole combination from a start point: what it does not name is nearest to its default."""
    return walk(space, lambda d: nearest(d, named[d.name] if d.name in named else DEFAULTS[d.name]))


@dataclass(frozen=True)
class Buildable:
    """How many combinations can be built, and why the others cannot."""

    tried: int
    built: int
    every: bool  # all combinations were tried, not a random share of them
    reasons: Mapping[str, int]  # most frequent first


def buildable(
    space: Space, draws: int = DRAWS, *, seed: int = 0, every_up_to: int = 0, workers: int = 1
) -> Buildable:
    """Try all combinations if there are at most `every_up_to`, else `draws` random ones.

    `workers` must be able to share a batch.
    """
    combinations = space.combinations
    every = combinations is not None and combinations <= every_up_to
    tried = combination_list(space) if every else random_combinations(space, seed)
    reasons = Counter(
        _problem(values, workers) for values in (tried if every else islice(tried, draws))
    )
    built = reasons.pop("", 0)
    return Buildable(built + reasons.total(), built, every, dict(reasons.most_common()))


def combination_list(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination of a space whose dials are all countable, buildable or not."""

    def below(at: int, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if at == len(space.dimensions):
            yield values
        elif is_active(space.dimensions[at], values):
            dimension = space.dimensions[at]
            for value in every_value(dimension):
                yield from below(at + 1, {**values, dimension.name: value})
        else:
            yield from below(at + 1, values)

    return below(0, dict(space.fixed))


def random_combinations(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Combinations drawn as a random sampler would, buildable or not, without end."""
    random = Random(seed)
    while True:
        yield walk(space, lambda dimension: draw(dimension, random))


def first_trials(space: Space, workers: int = 1) -> list[dict[str, Any]]:
    """The start points as whole combinations, those that so many workers can share."""
    whole = [complete(space, point) for point in space.start]
    return [values for values in whole if not _problem(values, workers)]


def random_trials(space: Space, seed: int, workers: int = 1) -> Iterator[dict[str, Any]]:
    """Combinations that can be built, as a random sampler would propose them, without end."""
    for values in random_combinations(space, seed):
        if not _problem(values, workers):
            yield values


def to_yaml(space: Space) -> str:
    """The space as a file that loads again to an equal space."""
    document = CommentedMap(
        {
            "version": VERSION,
            "objective": _flow(objective_spec(space.objective)),
            "study": _flow(study_spec(space.study)),
            "fixed": CommentedMap(space.fixed),
            "start": CommentedSeq([_flow(entry) for entry in space.start]),
            "space": CommentedMap({d.name: _flow(spec(d)) for d in space.dimensions}),
        }
    )
    yaml = YAML()
    yaml.width = 10_000  # a dial a line
    buffer = StringIO()
    yaml.dump(document, buffer)
    return buffer.getvalue()


def _flow(value: Any) -> Any:
    flow: CommentedMap | CommentedSeq
    if isinstance(value, Mapping):
        flow = CommentedMap({key: _flow(inner) for key, inner in value.items()})
    elif isinstance(value, list | tuple):
        flow = CommentedSeq([_flow(inner) for inner in value])
    else:
        return value
    flow.fa.set_flow_style()
    return flow


def _read_root(root: Located, faults: list[Fault]) -> Space | None:
    if not isinstance(root.value, dict):
        rule = f"a space file must be a map of {', '.join(KEYS)}"
        faults.append(Fault(root.line, f"{rule}, but got {shown(root)}"))
        return None
    entries = read_entries(root, "a space file", KEYS, faults)
    optional = ("objective", "study", "fixed", "start")
    # `fixed:` with nothing behind it is no fault: its entries may be commented out.
    entries = {
        key: value
        for key, value in entries.items()
        if value.value is not None or key not in optional
    }
    _check_version(entries, faults)
    before = len(faults)
    fixed, faulty = _read_fixed(entries.get("fixed", Located({}, 1)), faults)
    objective = read_objective(entries.get("objective", Located({}, 1)), faults)
    study = read_study(
        entries.get("study", Located({}, 1)), fixed.get("epochs", DEFAULTS["epochs"]), faults
    )
    if objective.beside is not None:
        # Who is weak in one of the two may lead in the other: nobody can be stopped early.
        study = replace(study, scheduler=Scheduler("none"))
    space = Space(
        objective=objective,
        study=study,
        fixed=fixed,
        start=(),
        dimensions=_read_dimensions(entries.get("space"), fixed, faulty, faults),
    )
    start = _read_start(entries.get("start", Located((), 1)), space, len(faults) > before, faults)
    if len(faults) > before:
        return space
    # Only a space without other faults can be tried out.
    space = replace(space, start=tuple(entry for _, entry in start))
    problem = _nothing_can_be_built(space)
    if problem:
        faults.append(Fault(entries["space"].line, problem))
        return space
    for line, entry in start:
        problem = _problem(complete(space, entry))
        if problem:
            faults.append(Fault(line, f"start: {shown(entry)} cannot be built: {problem}"))
    return space


def _check_version(entries: Mapping[str, Located], faults: list[Fault]) -> None:
    if "version" not in entries:
        faults.append(Fault(1, f"version must be {VERSION}, but is missing; begin: version: 1"))
        return
    version = entries["version"]
    if type(version.value) is not int or version.value != VERSION:
        rule = f"version must be {VERSION}, the one that this siamtune reads"
        faults.append(Fault(version.line, f"{rule}, but got {shown(version)}"))


def _read_fixed(located: Located, faults: list[Fault]) -> tuple[dict[str, Any], frozenset[str]]:
    """The dials under `fixed`, and the names of those that are faulty."""
    if not isinstance(located.value, dict):
        rule = "fixed must be a map from dials to values"
        faults.append(Fault(located.line, f"{rule}, but got {shown(located)}"))
        return {}, frozenset()
    fixed: dict[str, Any] = {}
    for name, item in located.value.items():
        if name not in DEFAULTS:
            faults.append(Fault(item.line, f"fixed: {no_such_dial(name)}"))
            continue
        try:
            fixed[name] = dial_value(name, bare(item))
        except ValueError as error:
            faults.append(Fault(item.line, f"fixed: {error}"))
    return fixed, frozenset(located.value) - frozenset(fixed)


def _read_dimensions(
    located: Located | None, fixed: Mapping[str, Any], faulty: frozenset[str], faults: list[Fault]
) -> tuple[Dimension, ...]:
    if located is None or not isinstance(located.value, dict) or not located.value:
        rule = "space must be a map with one dial or more, like `optim.lr: {float: [1e-4, 1e-2]}`"
        got = "it is missing" if located is None else f"got {shown(located)}"
        faults.append(Fault(located.line if located else 1, f"{rule}, but {got}"))
        return ()
    found: list[Dimension] = []
    domains: dict[str, Domain] = {name: (value,) for name, value in fixed.items()}
    names = list(located.value)
    # A `when` may name rightly what is misspelt above it: that is one fault, not two.
    misread = faulty | _meant(faulty, [*names, *fixed])
    for at, (name, item) in enumerate(located.value.items()):
        if name in fixed or name in faulty:
            rule = f"{name} must stand under fixed or under space, but stands under both"
            faults.append(Fault(item.line, f"{rule}; remove one of the two"))
        below = frozenset(names[at:]) - set(domains) - misread
        dimension = read_dimension(name, item, Surroundings(domains, misread, below), faults)
        if dimension is None:
            misread |= {name} | _meant([name], [*names, *fixed])
            domains.pop(name, None)
        else:
            found.append(dimension)
            domains[name] = domain(dimension)
    reachable = _reachable(found, fixed)
    for dimension in found:
        if dimension not in reachable:
            name, line = dimension.name, located.value[dimension.name].value["when"].line
            rule = f"{name}: when can never hold: the dials that it names exclude each other"
            faults.append(Fault(line, f"{rule}; remove {name} or change when"))
    return tuple(found)


def _meant(misread: Iterable[str], present: Collection[str]) -> set[str]:
    near = (nearest_name(name) for name in misread)
    return {name for name in near if name is not None and name not in present}


def _read_start(
    located: Located, space: Space, has_faults: bool, faults: list[Fault]
) -> list[tuple[int, dict[str, Any]]]:
    """Each start point with its line."""
    if not isinstance(located.value, tuple):
        rule = "start must be a list of maps, like `[{}]` for the defaults"
        faults.append(Fault(located.line, f"{rule}, but got {shown(located)}"))
        return []
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    start = []
    for item in located.value:
        if not isinstance(item.value, dict):
            rule = "start: a start point must be a map from dials to values"
            faults.append(Fault(item.line, f"{rule}, but got {shown(item)}"))
            continue
        before = len(faults)
        entry: dict[str, Any] = {}
        for name, value in item.value.items():
            problem = _start_problem(name, space.fixed, dimensions, has_faults)
            if problem is None and name in dimensions:
                try:
                    entry[name] = dial_value(name, bare(value))
                except ValueError as error:
                    problem = str(error)
                else:
                    if not contains(dimensions[name], entry[name]):
                        tried = described(dimensions[name])
                        problem = f"{name} must be within {tried}, but got {shown(entry[name])}"
            if problem:
                faults.append(Fault(value.line, f"start: {problem}"))
        if len(faults) == before and not has_faults:
            active = complete(space, entry)
            for name in entry:
                if name not in active:
                    held = shown({target: active.get(target) for target in dimensions[name].when})
                    rule = f"start: {name} must be active to be named, but with {held} it is not"
                    faults.append(Fault(item.value[name].line, f"{rule}; leave it out"))
        start.append((item.line, entry))
    return start


def _start_problem(
    name: str, fixed: Mapping[str, Any], dimensions: Mapping[str, Dimension], has_faults: bool
) -> str | None:
    if name not in DEFAULTS:
        return no_such_dial(name)
    if name in fixed:
        return f"{name} must be under space to vary, but it is fixed; leave it out"
    if name not in dimensions and not has_faults:
        return f"{name} must be under space to be named here, but it is not; put it under fixed"
    return None


def _read_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    fixed: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, value in overrides.items():
        try:
            if name not in DEFAULTS:
                raise ValueError(no_such_dial(name))
            fixed[name] = dial_value(name, value)
        except ValueError as error:
            faults.append(Fault(0, f"--set {name}={shown(value)}: {error}"))
    return fixed, faults


def _fix(space: Space, overrides: Mapping[str, Any], where: str) -> Space:
    """The space with more dials fixed and without what can then never be active.

    Raises:
        SpaceError: nothing is left to search, or nothing that can be built.
    """
    fixed = {**space.fixed, **overrides}
    scheduler = space.study.scheduler
    epochs = fixed.get("epochs", DEFAULTS["epochs"])
    scheduler = replace(scheduler, min_epochs=min(scheduler.min_epochs, epochs))
    narrowed = replace(
        space,
        study=replace(space.study, scheduler=scheduler),
        fixed=fixed,
        start=(),
        dimensions=_reachable([d for d in space.dimensions if d.name not in fixed], fixed),
    )
    given = " ".join(f"--set {name}={shown(value)}" for name, value in overrides.items())
    if not narrowed.dimensions:
        rule = f"{where}: with {given} every dial is fixed, so nothing is left to search"
        raise SpaceError(f"{rule}; run it with: siamtune train")
    problem = _nothing_can_be_built(narrowed)
    if problem:
        raise SpaceError(f"{where}: with {given} {problem}")
    start: list[Mapping[str, Any]] = []
    searched = {dimension.name for dimension in narrowed.dimensions}
    for point in space.start:
        named = {name: value for name, value in point.items() if name in searched}
        values = complete(narrowed, named)
        named = {name: value for name, value in named.items() if name in values}
        if named not in start and not _problem(values):
            start.append(named)
    return replace(narrowed, start=tuple(start))


def _reachable(dimensions: Iterable[Dimension], fixed: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions that can be active: whose conditions, and their conditions', can all hold.

    Every condition is a set of values of one dial, so they can hold together exactly if no
    intersection is empty.
    """
    domains: dict[str, Domain] = {name: (value,) for name, value in fixed.items()}
    needs: dict[str, dict[str, frozenset[Any]]] = {name: {} for name in fixed}
    found: list[Dimension] = []
    for dimension in dimensions:
        need: dict[str, frozenset[Any]] = {}
        for target, allowed in dimension.when.items():
            if target not in needs:
                break  # its target can never be active
            for name, values in [(target, frozenset(allowed)), *needs[target].items()]:
                need[name] = need.get(name, frozenset(domains[name] or ())) & values
        else:
            if all(need.values()):
                needs[dimension.name] = need
                domains[dimension.name] = domain(dimension)
                found.append(dimension)
    return tuple(found)


def _nothing_can_be_built(space: Space) -> str | None:
    """Why no combination can be built, as far as chance finds none; None if one was found."""
    if not _problem(complete(space, {})):
        return None
    random = Random(0)
    reasons: Counter[str] = Counter()
    for _ in range(DRAWS):
        problem = _problem(walk(space, lambda dimension: draw(dimension, random)))
        if not problem:
            return None
        reasons[problem] += 1
    ((reason, _),) = reasons.most_common(1)
    return f"no combination can be built; of {DRAWS} drawn none could, mostly because {reason}"


def _problem(values: Mapping[str, Any], workers: int = 1) -> str:
    """Why a combination cannot be built, or its batch not be shared; empty if it can."""
    try:
        check_shared_out(trial_config(dict(values)), workers)
    except ConfigError as error:
        return str(error).replace("\n", "; ")
    return ""


def _combinations(space: Space) -> int | None:
    targets = {name for dimension in space.dimensions for name in dimension.when}
    sizes = [count(dimension) for dimension in space.dimensions]
    cases = prod(size or 1 for d, size in zip(space.dimensions, sizes, strict=True)
                 if d.name in targets)  # fmt: skip
    if None in sizes or cases > MAX_CASES:
        return None

    def below(at: int, values: Mapping[str, Any]) -> int:
        number = 1
        for i, dimension in enumerate(space.dimensions[at:], start=at):
            if not is_active(dimension, values):
                continue
            if isinstance(dimension, ChoiceDimension) and dimension.name in targets:
                name = dimension.name
                return number * sum(below(i + 1, {**values, name: c}) for c in dimension.choices)
            number *= sizes[i] or 1
        return number

    return below(0, space.fixed)
