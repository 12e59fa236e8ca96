"""A slot: one long-lived Tune actor through which trials stream.

Starting an actor and importing torch costs five seconds; handing the next configuration to a living
one costs milliseconds. With one worker the slot trains by itself, with several it owns a gang.
"""

from collections.abc import Generator
from typing import Any

from ray import tune

from siamtune.launch.cluster import TrialResources
from siamtune.launch.gang import Gang, GangDied
from siamtune.launch.job import TrialJob, from_plain
from siamtune.launch.watch import run_watched


class Slot(tune.Trainable):
    """`config` holds "job" (a plain `TrialJob`) and "size" (the fields of `TrialResources`)."""

    def setup(self, config: dict[str, Any]) -> None:
        self._gang: Gang | None = None
        self._results: Generator[dict[str, Any], None, None] | None = None
        self._take(config)

    def step(self) -> dict[str, Any]:
        """One epoch; the result with "state" is the trial's last."""
        if self._results is None:
            self._results = self._start(self._job)
        result = next(self._results)
        if "state" in result:
            result["done"] = True
        return result

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._stop_trial()
        self._take(new_config)
        return True  # False would make Tune blame the next, innocent trial

    def cleanup(self) -> None:
        self._stop_trial()
        if self._gang is not None:
            self._gang.close()

    def _take(self, config: dict[str, Any]) -> None:
        self._job = from_plain(config["job"])
        self._size = TrialResources(**config["size"])

    def _start(self, job: TrialJob) -> Generator[dict[str, Any], None, None]:
        if self._size.workers == 1:
            return run_watched(job)
        if self._gang is None:
            self._gang = Gang(self._size)
        return self._gang.run(job)

    def _stop_trial(self) -> None:
        results, self._results = self._results, None
        if results is not None:
            try:
                results.close()
            except GangDied:
                self._gang = None  # the next trial gets a new one
