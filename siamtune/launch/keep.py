"""Which checkpoints of a search stay on disk: those of running trials and of the few best.

The winner so far is shipped at once, so even a search that is killed leaves one behind.
"""

from collections.abc import Mapping

from siamtune.launch.job import BEST, LAST, trial_folder
from siamtune.search.config_file import config_yaml
from siamtune.search.records import TrialRecord, best_epoch, ranked
from siamtune.search.runs import Run, write_text
from siamtune.search.space import Space
from siamtune.training.checkpoint import ship_model

# Trials whose best checkpoint stays, for replication, ensembles and export.
KEEP_BEST = 5


class CheckpointKeeper:
    """Told of every trial's end, keeps the files of the best; at a cost that stays the same."""

    def __init__(self, run: Run, space: Space, records: Mapping[int, TrialRecord]) -> None:
        self._run = run
        self._space = space
        self._kept = self._best(list(records.values()))

    def ended(self, record: TrialRecord) -> None:
        """Keep or remove the checkpoints of a trial that has ended, and what it displaces."""
        winner_before = self._kept[:1]
        best = self._best([*self._kept, record])
        for dropped in (*self._kept, record):
            if dropped not in best:
                self._remove(dropped.number, BEST)
        self._kept = best
        self._remove(record.number, LAST)
        if best[:1] != winner_before:
            self._ship(best[0])

    def _best(self, records: list[TrialRecord]) -> list[TrialRecord]:
        objective = self._space.objective
        return ranked(records, objective.metric, objective.mode)[:KEEP_BEST]

    def _remove(self, number: int, name: str) -> None:
        folder = trial_folder(self._run.folder, number)
        (folder / name).unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _ship(self, winner: TrialRecord) -> None:
        text = winner_yaml(self._run, self._space, winner)
        write_text(self._run.folder / "best.yaml", text)
        checkpoint = trial_folder(self._run.folder, winner.number) / BEST
        if checkpoint.exists():
            ship_model(checkpoint, self._run.folder / "best" / "model.safetensors")


def winner_yaml(run: Run, space: Space, winner: TrialRecord) -> str:
    """The whole configuration of a trial, as `siamtune train --config` reads it."""
    measured = best_epoch(winner, space.objective.metric, space.objective.mode) or {}
    numbers = ", ".join(
        f"{name} {measured[name]:.4f}" for name in ("val/auc", "val/f1") if name in measured
    )
    facts = winner.facts
    return config_yaml(
        {**space.fixed, **winner.config},
        f"trial {winner.number} of {run.name}: {winner.state} at epoch {winner.epoch}\n"
        f"{numbers} on {facts.get('data')}, {facts.get('protocol')}, split {facts.get('split')}",
    )
