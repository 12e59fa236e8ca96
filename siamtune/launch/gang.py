"""A Ray Train group that lives as long as its slot: trials stream through it as messages.

Starting a TorchTrainer costs tens of seconds and eight processes; one group for all trials of
a slot pays that once. Stopping a trial is a message too: no process is killed, nothing leaks.
"""

import json
import secrets
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import ray
import torch.distributed as dist
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from siamtune.errors import ClusterError, SiamtuneError
from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import TrialJob, from_plain, to_plain
from siamtune.launch.watch import FIRST_REPORT_S, run_watched
from siamtune.training.distributed import rank

START_TIMEOUT_S = 600.0
POLL_S = 1.0


class GangDied(SiamtuneError):
    """The group has ended or cannot be reached; its trial may be run again on a new one."""


class Gang:
    """The slot's end: starts the group and hands it one trial after another."""

    def __init__(self, size: TrialResources) -> None:
        key = secrets.token_bytes(32)
        self._listener = Listener((ray.util.get_node_ip_address(), 0), authkey=key)
        self._error: BaseException | None = None
        self._storage = tempfile.TemporaryDirectory(prefix="siamtune-gang-")
        resources = {"CPU": size.cpus_per_worker}
        if size.gpus_per_worker:
            resources["GPU"] = size.gpus_per_worker
        trainer = TorchTrainer(
            serve,
            train_loop_config={"address": list(self._listener.address), "key": key.hex()},
            # Ranks wait for the one that prepares the pictures; the watchdog knows for how long.
            torch_config=TorchConfig(timeout_s=int(FIRST_REPORT_S) + 600),
            scaling_config=ScalingConfig(
                num_workers=size.workers,
                use_gpu=bool(size.gpus_per_worker),
                resources_per_worker=resources,
            ),
            run_config=RunConfig(  # type: ignore[call-arg]  # Ray's types are those of Train V1
                name="gang",
                storage_path=self._storage.name,
                # A dead group is rebuilt by its slot, which knows the trial; never by Train.
                failure_config=FailureConfig(  # type: ignore[call-arg]
                    max_failures=0, controller_failure_limit=0
                ),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        self._fit = threading.Thread(target=self._run, args=(trainer.fit,), daemon=True)
        self._fit.start()
        self._connection = self._accept()

    def run(self, job: TrialJob) -> Generator[dict[str, Any], None, None]:
        """Results of one trial, one an epoch; closing the iterator stops the trial.

        Raises:
            GangDied: the group ended in the midst of the trial.
        """
        self._send({"run": to_plain(job)})
        while "state" not in (result := self._receive()):
            try:
                yield result
            except GeneratorExit:
                self._send({"continue": False})
                self._receive()  # wait until the group is free for the next trial
                raise
            self._send({"continue": True})
        yield result

    def close(self) -> None:
        """Let the group end; waits a little, then leaves the rest to Ray."""
        with suppress(GangDied):
            self._send({"exit": True})
        self._fit.join(20)
        self._connection.close()
        self._listener.close()
        self._storage.cleanup()

    def _run(self, fit: Callable[[], Any]) -> None:
        try:
            fit()
        except BaseException as error:
            self._error = error

    def _accept(self) -> Connection:
        """Wait for rank 0 to call, no longer than the group takes to fail or START_TIMEOUT_S."""
        accepted: list[Connection] = []
        waiter = threading.Thread(
            target=lambda: accepted.append(self._listener.accept()), daemon=True
        )
        waiter.start()
        waited_s = 0.0
        while not accepted:
            waiter.join(POLL_S)
            waited_s += POLL_S
            if not accepted and (not self._fit.is_alive() or waited_s > START_TIMEOUT_S):
                raise ClusterError(
                    "a trial's Ray Train group must start within "
                    f"{START_TIMEOUT_S:.0f} s, but it {self._ending()}"
                )
        return accepted[0]

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise GangDied(f"the trial's workers {self._ending()}") from error

    def _receive(self) -> dict[str, Any]:
        try:
            while not self._connection.poll(POLL_S):
                if not self._fit.is_alive():
                    raise GangDied(f"the trial's workers {self._ending()}")
            return json.loads(self._connection.recv_bytes())
        except (OSError, EOFError) as error:
            raise GangDied(f"the trial's workers {self._ending()}") from error

    def _ending(self) -> str:
        self._fit.join(POLL_S)
        if self._error is None:
            return "did not answer"
        return f"ended with {type(self._error).__name__}: {self._error}"


def serve(config: dict[str, Any]) -> None:
    """The group's end, on every rank: run the trials that the slot sends until it says exit."""
    connection = None
    if rank() == 0:
        host, port = config["address"]
        connection = Client((host, port), authkey=bytes.fromhex(config["key"]))
    device = get_device()

    def receive() -> dict[str, Any]:
        message: list[Any] = [None]
        if connection is not None:
            message = [json.loads(connection.recv_bytes())]
        if dist.is_initialized():
            dist.broadcast_object_list(message, src=0)
        return dict(message[0])

    def send(message: dict[str, Any]) -> None:
        if connection is not None:
            connection.send_bytes(json.dumps(message).encode())

    while "run" in (message := receive()):
        job = from_plain(message["run"])
        with closing(run_watched(job, device)) as results:
            for result in results:
                send(result)
                if "state" in result:
                    break
                answer = receive()
                if "exit" in answer:  # rank 0 could not write the run folder
                    return
                if not answer["continue"]:
                    results.close()
                    send({"state": "stopped"})
                    break
