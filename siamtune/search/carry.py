"""Go on with a search in another space: what of its history still counts there.

Each trial is asked with every dial that it was trained with, named by its space or not: the trial
counts if the new space could have proposed exactly that. What counts is told anew to a new study,
since Optuna's distributions must not change within one; the other trials keep their numbers and
their places in the record, but the sampler is not told of them.
"""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from siamtune.config import DEFAULTS
from siamtune.errors import InvalidInput, SpaceError
from siamtune.search.dimensions import (
    ChoiceDimension,
    Dimension,
    described,
    domain,
    holds,
    is_active,
    nearest,
)
from siamtune.search.located import shown
from siamtune.search.records import Recorder, TrialRecord, read_records
from siamtune.search.runs import Run, write_text
from siamtune.search.space import Space, load_space, to_yaml

if TYPE_CHECKING:
    from siamtune.search.study import Past

# A carry that is ready lies in a folder of this name and the number under which the old files stay.
STAGED = ".carried-"


@dataclass(frozen=True)
class Change:
    """One dial that is tried otherwise than before; `text` says how."""

    dial: str
    kind: str  # narrowed, widened, moved, changed, new, fixed, removed
    text: str


@dataclass(frozen=True)
class Carried:
    """A past trial under a new space: what it suggests there, or the dial that rules it out."""

    params: Mapping[str, Any] | None  # None where the space does not hold the trial
    config: Mapping[str, Any]  # for its record: true under the old space and under the new
    dial: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """What becomes of a search's history, before anything is written."""

    changes: tuple[Change, ...]
    trials: Mapping[int, Carried]

    @property
    def counting(self) -> int:
        """How many past trials the sampler will know."""
        return sum(trial.params is not None for trial in self.trials.values())

    def lines(self) -> list[str]:
        """The plan for a person: a line a dial, and one for the history."""
        lost = Counter(trial.dial for trial in self.trials.values())
        lines = [
            f"{change.dial}: {change.kind} {change.text}"
            + (f"; trials ruled out: {lost[change.dial]}" if lost[change.dial] else "")
            for change in self.changes
        ]
        rest = len(self.trials) - self.counting
        return [
            *(lines or ["every dial is tried as before"]),
            f"history: {self.counting} of {len(self.trials)} trials count"
            + (f"; {rest} stay in the record, but the sampler forgets them" if rest else ""),
        ]


def compare(old: Space, new: Space) -> tuple[Change, ...]:
    """The dials that are tried otherwise, dial by dial, first those of the new space.

    Raises:
        SpaceError: what cannot be carried: another objective, other epochs, a dial that was
            searched and is neither searched nor fixed any more. All faults, one a line.
    """
    faults = _other_measure(old, new)
    changes = []
    searched = {d.name: d for d in old.dimensions}
    wanted = {d.name: d for d in new.dimensions}
    for name in dict.fromkeys([*wanted, *searched, *new.fixed, *old.fixed]):
        change = None
        if name in wanted and name in searched:
            change = _between(searched[name], wanted[name])
        elif name in wanted:
            value, how = shown(_otherwise(old, name)), "fixed" if name in old.fixed else "default"
            change = Change(
                name, "new", f"({described(wanted[name])}); trials so far had {value}, its {how}"
            )
        elif name in searched and name in new.fixed:
            change = Change(name, "fixed", f"at {shown(new.fixed[name])}")
        elif name in searched and not _can_be_active(searched[name], new):
            change = Change(name, "removed", "with the values on which it depends")
        elif name in searched:
            faults.append(
                f"{name} must be searched or fixed, since it was searched before, but it is "
                f"neither; put `{name}: {shown(nearest(searched[name], DEFAULTS[name]))}` under "
                "fixed"
            )
        elif name != "epochs" and _otherwise(old, name) != _otherwise(new, name):
            values = (shown(_otherwise(space, name)) for space in (old, new))
            change = Change(name, "changed", "from {} to {}".format(*values))
        if change is not None:
            changes.append(change)
    if faults:
        raise SpaceError("\n".join(faults))
    return tuple(changes)


def carried(config: Mapping[str, Any], old: Space, new: Space) -> Carried:
    """A past trial of `old`, by the dials in its record, under `new`.

    A dial that the new space adds counts with the value that the trial was trained with. A dial
    that was inactive in the trial rules nothing out where the new space fixes it.
    """
    trained = {**DEFAULTS, **old.fixed, **config}
    inactive = {d.name for d in old.dimensions} - config.keys()
    values = dict(new.fixed)
    params: dict[str, Any] = {}
    dial = reason = None
    for dimension in new.dimensions:
        if not is_active(dimension, values):
            continue
        name = dimension.name
        if not holds(dimension, trained[name]):
            dial, reason = name, f"{name} {shown(trained[name])} is not in {described(dimension)}"
            break
        value = trained[name]
        params[name] = (
            value if isinstance(dimension, ChoiceDimension) else nearest(dimension, value)
        )
        values[name] = params[name]
    before, after = {**DEFAULTS, **old.fixed}, {**DEFAULTS, **new.fixed}
    if dial is None:
        ruled_out = [
            name
            for name in DEFAULTS
            if name not in params and name not in inactive and trained[name] != after[name]
        ]
        if ruled_out:
            dial = ruled_out[0]
            reason = f"{dial} {shown(trained[dial])} is now {shown(after[dial])}"
    kept = {
        name: trained[name]
        for name in DEFAULTS
        if name in config
        or name in params
        or (name not in inactive and not before[name] == trained[name] == after[name])
    }
    return Carried(params if dial is None else None, kept, dial, reason)


def plan_carry(run: Run, old: Space, new: Space) -> Plan:
    """Compare a run's space with a new one and see which of its trials count there.

    Raises:
        SpaceError: see `compare`; or there are trials and none of them counts.
    """
    changes = compare(old, new)
    trials = {
        number: carried(record.config, old, new)
        for number, record in read_records(run.trials_path).items()
        if record.state != "invalid"
    }
    plan = Plan(changes, trials)
    if trials and not plan.counting:
        reason = next(trial.reason for trial in trials.values())
        raise SpaceError(
            f"some trial of {run.name} must lie in the new space, but none does (trial "
            f"{next(iter(trials))}: {reason}); widen it, or begin a search of its own"
        )
    return plan


def carry(run: Run, old: Space, new: Space) -> None:
    """Move a run to a new space; old space and study stay as space-1.yaml and study-1.log.

    Only the process that drives the run may call this. Killed at any moment, it has not happened
    or `finish_carry` completes it.
    """
    from siamtune.search.study import past_trials, write_study

    history = []
    recorder = Recorder(run.trials_path)
    try:
        for past in past_trials(run.journal_path, old):
            record = recorder.records.get(past.number)
            trial = carried(record.config if record else past.params, old, new)
            history.append(_told_anew(past, record, trial, old, new))
            if record and dict(record.config) != dict(trial.config):
                recorder.carried(past.number, trial.config)
    finally:
        recorder.close()
    at = 1
    while (run.folder / f"space-{at}.yaml").exists():
        at += 1
    unfinished = run.folder / f".unfinished{STAGED}{at}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    write_study(unfinished / run.journal_path.name, new, history)
    write_text(unfinished / run.space_path.name, to_yaml(new))
    unfinished.replace(run.folder / f"{STAGED}{at}")
    finish_carry(run)


def finish_carry(run: Run) -> None:
    """Put a carry that is ready in its place; nothing where there is none."""
    for staged in run.folder.glob(f"{STAGED}*"):
        at = staged.name.removeprefix(STAGED)
        for name in (run.journal_path.name, run.space_path.name):
            if not (staged / name).exists():
                continue  # it was put there before this process
            stem, suffix = os.path.splitext(name)
            kept = run.folder / f"{stem}-{at}{suffix}"
            if not kept.exists():
                os.link(run.folder / name, kept)
            (staged / name).replace(run.folder / name)
        shutil.rmtree(staged)


def known_from(other: Run, new: Space) -> "list[Past]":
    """Ended trials of another search that the sampler of a new one can learn from.

    Raises:
        SpaceError: the two do not measure the same, or no trial lies in the new space.
        InvalidInput: the other run is no search.
    """
    from siamtune.search.study import Past

    if not other.space_path.exists():
        raise InvalidInput(f"--warm-from must name a search, but {other.folder} holds no space")
    old = load_space(str(other.space_path))
    faults = _other_measure(old, new)
    if faults:
        raise SpaceError("\n".join(f"--warm-from {other.name}: {fault}" for fault in faults))
    history = []
    reasons = []
    for number, record in read_records(other.trials_path).items():
        if record.state not in ("complete", "stopped", "collapsed"):
            continue
        trial = carried(record.config, old, new)
        if trial.params is None:
            reasons.append(f"trial {number}: {trial.reason}")
            continue
        values = _objective_by_epoch(record, old.objective.metric)
        history.append(
            Past(
                number, record.state, trial.params, values, record.reason, record.started,
                record.ended, warm_from=other.name,
            )
        )  # fmt: skip
    if not history:
        why = reasons[0] if reasons else "none has ended"
        raise SpaceError(
            f"--warm-from must name a search with trials in this space, but of {other.name} there "
            f"are none ({why}); leave it out"
        )
    return history


def _other_measure(old: Space, new: Space) -> list[str]:
    """Why the trials of two spaces cannot be compared at all."""
    faults = []
    before, after = (
        " and ".join(objective.metric for objective in space.objective.each) for space in (old, new)
    )
    if new.objective.beside or old.objective.beside:
        faults.append(
            f"only trials of one objective are carried over, but got {before}, then {after}: "
            "begin a search of its own"
        )
    elif new.objective != old.objective:
        faults.append(
            f"objective must stay {before}, but got {after}: "
            "rungs and sampler know only the first; begin a search of its own"
        )
    length, wanted = (_otherwise(space, "epochs") for space in (old, new))
    if length != wanted:
        faults.append(
            f"epochs must stay {length}, but got {wanted}: trials of another length do not "
            "compare; begin a search of its own"
        )
    return faults


def _objective_by_epoch(record: TrialRecord, metric: str) -> dict[int, float]:
    return {int(epoch["epoch"]): epoch[metric] for epoch in record.epochs if metric in epoch}


def _told_anew(
    past: "Past", record: TrialRecord | None, trial: Carried, old: Space, new: Space
) -> "Past":
    """What the new study is told of a trial; the record knows more than the old study.

    An open trial goes on only with exactly what it was trained with; otherwise it ends here.
    """
    config = past.params
    if record is not None:
        config = record.config
        past = replace(
            past,
            values=_objective_by_epoch(record, old.objective.metric),
            started=record.started,
            ended=record.ended,
        )
        if record.ended_for_good:
            past = replace(past, state=record.state, reason=record.reason)
    outside = trial.reason
    if record is None and past.outside is not None:
        outside = past.outside  # nobody knows any more with which dials it ran
    if past.state == "running" and outside is None:
        trained = {**DEFAULTS, **old.fixed, **config}
        goes_on = {**DEFAULTS, **new.fixed, **(trial.params or {})}
        differs = [name for name in DEFAULTS if trained[name] != goes_on[name]]
        if differs:
            outside = f"{differs[0]} {shown(trained[differs[0]])} is fixed otherwise"
    if outside is None:
        return replace(past, params=trial.params or {}, outside=None)
    if past.state == "running":
        past = replace(past, state="stopped", reason=f"left by the new space: {outside}")
    return replace(past, outside=outside)


def _between(old: Dimension, new: Dimension) -> Change | None:
    name, before, after = old.name, described(old), described(new)
    text = f"from {before} to {after}"
    if isinstance(old, ChoiceDimension) and isinstance(new, ChoiceDimension):
        removed, added = (set(a.choices) - set(b.choices) for a, b in ((old, new), (new, old)))
        if removed and added:
            return Change(name, "moved", text)
        if removed or added:
            return Change(name, "narrowed" if removed else "widened", text)
    elif isinstance(old, ChoiceDimension) or isinstance(new, ChoiceDimension):
        return Change(name, "changed", text)
    elif (old.low, old.high) != (new.low, new.high):
        if old.low <= new.low and new.high <= old.high:
            return Change(name, "narrowed", text)
        inside = new.low <= old.low and old.high <= new.high
        return Change(name, "widened" if inside else "moved", text)
    if before != after:
        return Change(name, "changed", text)  # another scale or grid
    if dict(old.when) != dict(new.when):
        return Change(name, "changed", "in when it is active")
    return None


def _otherwise(space: Space, name: str) -> Any:
    """A dial's value in trials that do not suggest it."""
    return space.fixed.get(name, DEFAULTS[name])


def _can_be_active(dimension: Dimension, space: Space) -> bool:
    """Whether the conditions of a dial that has left the space could still hold there."""
    domains = {name: (value,) for name, value in space.fixed.items()}
    domains |= {d.name: domain(d) or () for d in space.dimensions}
    return all(
        bool(set(domains.get(name, ())) & set(allowed)) for name, allowed in dimension.when.items()
    )
