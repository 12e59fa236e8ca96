"""What a worker must know to run one trial; plain data that travels to any process."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# A trial's checkpoints in its folder: after every epoch, and after its best one.
LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class DataSpec:
    """Which pictures, split how. Machines and data are never part of a configuration."""

    source: str  # demo, lfw, olivetti or a folder
    data_home: str | None = None
    landmarks: str | None = None  # the file of dlib's predictor, for the crops that need it
    split_seed: int = 0
    protocol: str = "identity-holdout"
    fold: int = 1
    # Of the people whom a protocol names for training, who validate; None: its own share.
    validation_share: float | None = None


def data_spec_of(facts: Mapping[str, Any], trial: int | None = None) -> DataSpec | None:
    """Where the data of a run lie, by the facts of its run.json; None if that does not say.

    Of an evaluation each trial is a fold, with people of its own.
    """
    try:
        spec = DataSpec(**facts["data_spec"])
    except (KeyError, TypeError):
        return None
    if trial is None or facts.get("kind") != "evaluate":
        return spec
    return replace(spec, fold=trial)


@dataclass(frozen=True)
class TrialJob:
    number: int
    config: Mapping[str, Any]  # flat names, complete
    hparams: Mapping[str, Any]  # every dial of the space, as TensorBoard shows it
    run_folder: str
    data: DataSpec
    metric: str = "val/auc"  # that of the space; this where there is none
    mode: str = "max"  # or min
    threads: int = 1
    recorded_epochs: int = 0  # of an earlier life of this trial; later ones are told again
    retries: int = 0  # how often its process has vanished
    watchdog: float = 0.0  # usual epochs without a report until its process ends itself; 0: never
    store: str | None = None  # URL of the run, where it does not lie in a shared folder
    driver_host: str = ""
    versions: Mapping[str, str] | None = None  # of the driver's packages; None: any will do
    split: str | None = None  # digest of the one that the driver has seen; None: any will do
    gpus_per_worker: float = 0.0

    @property
    def folder(self) -> Path:
        return trial_folder(Path(self.run_folder), self.number)

    @property
    def tensorboard(self) -> Path:
        return Path(self.run_folder) / "tensorboard" / f"{self.number:04d}"


def trial_folder(run_folder: Path, number: int) -> Path:
    return run_folder / "trials" / f"{number:04d}"


def to_plain(job: TrialJob) -> dict[str, Any]:
    return asdict(job)


def from_plain(plain: Mapping[str, Any]) -> TrialJob:
    return TrialJob(**{**plain, "data": DataSpec(**plain["data"])})
