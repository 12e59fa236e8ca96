"""What a run folder tells afterwards: its space and its trials, read and never written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamtune.config import DEFAULTS
from siamtune.errors import InvalidInput
from siamtune.search.records import TrialRecord, ranked, read_records
from siamtune.search.runs import Run, find_run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space, load_space


@dataclass(frozen=True)
class History:
    """A run as it stands at one moment; the search may still go on."""

    run: Run
    facts: Mapping[str, Any]  # run.json
    space: Space
    records: Mapping[int, TrialRecord]

    @property
    def ranked(self) -> list[TrialRecord]:
        objective = self.space.objective
        return ranked(self.records.values(), objective.metric, objective.mode)

    @property
    def winner(self) -> TrialRecord | None:
        return next(iter(self.ranked), None)

    def trial(self, number: int) -> TrialRecord:
        """The trial of that number.

        Raises:
            InvalidInput: the run has none.
        """
        if number in self.records:
            return self.records[number]
        known = f"{min(self.records)} to {max(self.records)}" if self.records else "none yet"
        raise InvalidInput(
            f"TRIAL must be the number of a trial of {self.run.name} ({known}), but got {number}"
        )

    def config(self, record: TrialRecord) -> dict[str, Any]:
        """Every dial of a trial: suggested, fixed, or left at its default."""
        return {**DEFAULTS, **self.space.fixed, **record.config}


def read_history(name_or_path: str, output: Path) -> History:
    """Read a run; one that was trained alone has no space file, only what it was trained with.

    Raises:
        InvalidInput: there is no such run, or a file of it is damaged.
    """
    run = find_run(name_or_path, output)
    facts = run.facts()
    records = read_records(run.trials_path)
    if run.space_path.exists():
        return History(run, facts, load_space(str(run.space_path)), records)
    alone = Space(
        objective=Objective(*run.objective()),
        study=StudySettings(trials=1),
        fixed=_trained_with(facts, records),
        start=(),
        dimensions=(),
    )
    return History(run, facts, alone, records)


def _trained_with(facts: Mapping[str, Any], records: Mapping[int, TrialRecord]) -> dict[str, Any]:
    """The configuration of a training alone, or of an evaluation's folds; {} of an ensemble's."""
    if 0 in records:
        return dict(records[0].config)
    config = facts.get("config")
    return dict(config) if isinstance(config, Mapping) and config.keys() <= DEFAULTS.keys() else {}
