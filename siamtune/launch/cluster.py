"""The machines: join the Ray cluster there is or start one here, quietly, behind a token."""

import logging
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from siamtune.errors import ClusterError, InvalidInput

# Set before Ray is imported: most of Ray reads its environment once.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the search drains by itself
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
    # Tune's snapshots of its own state are not read by anybody: the study is the truth.
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # On a busy machine a group's start passes Train's minute, which would restart it for ever.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",  # and so does a dashboard's
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}

# Where Ray looks for a token that the environment does not name.
DEFAULT_TOKEN = Path("~/.ray/auth_token")


@dataclass(frozen=True)
class TrialResources:
    """What one trial holds; None stands for one GPU a worker where the cluster has so many.

    Raises:
        InvalidInput: GPUs cannot be shared out like that.
    """

    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float | None = None

    @property
    def threads(self) -> int:
        """Of each worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def gpus_where_there_are(self) -> float:
        """Of a trial on a cluster that has GPUs: one a worker unless something else was said."""
        return self.workers * (self.gpus_per_worker or 1.0)

    def __post_init__(self) -> None:
        gpus = self.gpus_per_worker or 0.0
        if gpus > 1 and gpus != int(gpus):  # Ray shares out one GPU, or whole ones
            raise InvalidInput(
                "a worker must have a part of one GPU or whole GPUs, got --gpus-per-worker "
                f"{gpus:g}"
            )
        if self.workers > 1 and 0 < gpus < 1:  # NCCL refuses two ranks on one GPU
            raise InvalidInput(
                f"each of the {self.workers} workers of a trial must have a GPU of its own, got "
                f"--gpus-per-worker {gpus:g}; say 1, or let one worker a trial share a GPU"
            )


def prepare_environment(address: str | None = None) -> None:
    """Make Ray quiet and guarded; a variable that the person has set stays.

    A cluster at `address`, or RAY_ADDRESS, has a token already, which Ray finds where it lies.
    """
    starts_here = (address or os.environ.get("RAY_ADDRESS") or "local") == "local"
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
    own_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if starts_here and os.environ["RAY_AUTH_MODE"] == "token" and not own_token:
        # A token for this cluster alone: in the environment of its processes, never on disk.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def check_token_file() -> None:
    """Refuse a token that every user of this machine can read; Ray itself writes such files.

    Raises:
        InvalidInput: it is one; the message says how to shut it.
    """
    if "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT_TOKEN).expanduser()
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever needs it says so
    if mode & 0o007:
        raise InvalidInput(
            f"the cluster's token must be readable by you alone, but others can read {path}; "
            f"shut it with: chmod 600 {path}"
        )


def connect(address: str | None, resources: TrialResources, *, verbose: bool) -> None:
    """Join the cluster at `address` (or RAY_ADDRESS), else start a local one for this process.

    Raises:
        ClusterError: the cluster cannot be reached.
        InvalidInput: its token lies open.
    """
    import ray

    if ray.is_initialized():
        return  # a program that searches twice keeps its cluster
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address != "local":
        check_token_file()
    try:
        ray.init(
            address=address,
            # The dashboard's state service is what frees a dead group's resources.
            include_dashboard=resources.workers > 1 if address == "local" else None,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
        )
        if not verbose:
            # What Ray guesses of a process that has died it prints on stdout, where data belong.
            ray._private.worker.print_to_stdstream = lambda *_, **__: None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"a Ray cluster must answer at {address}, but {error}; "
            "check the address, or leave it out to run on this machine"
        ) from error
    except Exception as error:  # as Ray raises it, without a class of its own
        if "timed out during startup" not in str(error):
            raise
        raise ClusterError(
            "Ray must start on this machine within thirty seconds, but did not; the machine may "
            "be too busy: try again, or join a running cluster with --address"
        ) from error


def resolved(resources: TrialResources) -> TrialResources:
    """The same with a number of GPUs, as the cluster that was joined suggests.

    Ray hides GPUs from a process that has not asked for any, so they must be asked for.
    """
    import ray

    if resources.gpus_per_worker is not None:
        return resources
    enough = ray.cluster_resources().get("GPU", 0.0) >= resources.workers
    return replace(resources, gpus_per_worker=1.0 if enough else 0.0)


def _on_gpus(gpus: float, each: float) -> float:
    """How many workers GPUs hold; a part of a GPU is of one, never of two."""
    return int(gpus) * int(1 / each + 1e-6) if each < 1 else gpus / each


def concurrent_trials(resources: TrialResources) -> int:
    """How many trials the cluster can hold at once if nobody else uses it.

    Raises:
        ClusterError: not even one.
    """
    import ray

    total = ray.cluster_resources()
    workers = 0.0
    for node in ray.nodes():
        if node["Alive"]:
            have = node["Resources"]
            fits = have.get("CPU", 0.0) / resources.cpus_per_worker
            if resources.gpus_per_worker:
                fits = min(fits, _on_gpus(have.get("GPU", 0.0), resources.gpus_per_worker))
            workers += int(fits + 1e-6)
    count = int(workers // resources.workers)
    if count < 1:
        needs = f"{resources.workers} x {resources.cpus_per_worker:g} CPU"
        if resources.gpus_per_worker:
            needs += f" and {resources.gpus_per_worker:g} GPU"
        raise ClusterError(
            f"one trial needs {needs}, but the cluster has {total.get('CPU', 0):g} CPU and "
            f"{total.get('GPU', 0):g} GPU; ask for less with --workers-per-trial, "
            "--cpus-per-worker or --gpus-per-worker"
        )
    return count
