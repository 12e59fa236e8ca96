"""What trials cost on this cluster: a few steps of drawn configurations, where trials would run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import ActorDiedError, RayError

from siamtune.config import DataConfig, TrialConfig, trial_config
from siamtune.data.boxes import find_faces
from siamtune.data.decode import Pictures, decode, listing
from siamtune.data.normalization import fit_normalization, sampled_pictures
from siamtune.data.prepare import Faces
from siamtune.data.sample import fewer, sample_faces
from siamtune.data.sources import Source, open_source
from siamtune.data.split import Split, split_identities
from siamtune.errors import ClusterError, SiamtuneError
from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.training.probe import FEW, MORE, Cost, measure, one_step

Progress = Callable[[str, int, int], None]

MOST_PROBERS = 16  # enough to feel what side by side costs
# Whitening costs what it keeps: with few pictures it would keep few directions.
WHITENED = 2048
# How the time of a whitening fit grows with its pictures, up to as many as there are pixels.
WHITENING_EXPONENT = 2.5
# A process that imports from a network disk takes its time; on a cluster in use none may find room.
PLACED_S, OTHERS_PLACED_S = 300.0, 60.0
DETECTED = 24  # pictures to time a detector on
MOST_FAILURES = 20  # of configurations, when the time is up


@dataclass(frozen=True)
class Measured:
    """One configuration that was tried."""

    config: Mapping[str, Any]  # flat; what the space names
    cost: Cost
    cut_s: float  # a picture cut out, on one processor
    fit_s: float  # the normalization's fit, reckoned up to all the pictures that it takes
    open_s: float  # opening the prepared pictures and splitting them, as every trial does


@dataclass(frozen=True)
class Data:
    """The pictures of a search, decoded and split."""

    source: Source
    pictures: Pictures
    split: Split

    @property
    def identities(self) -> np.ndarray:
        return self.source.identities[self.pictures.positions]


def open_data(spec: DataSpec, progress: Progress | None = None) -> Data:
    """What every trial needs; decoded into the cache unless it is there.

    Raises:
        DataError: too few people, or pictures that cannot be read.
    """
    source = open_source(spec.source, Path(spec.data_home) if spec.data_home else None)
    return _opened(source, spec, progress)


def _opened(source: Source, spec: DataSpec, progress: Progress | None = None) -> Data:
    pictures = decode(source, progress=progress)
    identities = source.identities[pictures.positions]
    split = split_identities(
        identities, source.names, seed=spec.split_seed, pictures=listing(source, pictures)
    )
    return Data(source, pictures, split)


class Prober:
    """A process of the cluster that holds what a trial would hold."""

    def __init__(self, data: Mapping[str, Any], threads: int) -> None:
        import siamtune.launch.slot  # noqa: F401  # a slot takes seconds to load what it needs

        torch.set_num_threads(threads)
        self._spec = DataSpec(**data)
        self._samples: dict[tuple[int, bool, str], tuple[Faces, float, float]] = {}

    def here(self) -> None:
        """Answer as soon as the cluster has given this process what it holds."""

    @cached_property
    def _data(self) -> Data:
        return open_data(self._spec)

    @cached_property
    def _open_s(self) -> float:
        source = self._data.source
        began = perf_counter()
        _opened(source, self._spec)
        return perf_counter() - began

    def warm_up(self) -> None:
        """The first training of a process imports what the others find."""
        tiny = {"data.resolution_px": 16, "model.width": 0.25, "batch.images": 16}
        self.one_step(tiny)

    def measure(self, flat: dict[str, Any]) -> dict[str, Any]:
        """`Measured` as plain data, or the reason why there is none under "failure"."""
        config = trial_config(flat)
        try:
            faces, cut_s, fit_s = self._sample(config)
            cost = measure(config, lambda most: fewer(faces, most))
        except Exception as error:  # one configuration that cannot run spoils no plan
            return {"failure": _reason(error)}
        return {"cost": asdict(cost), "cut_s": cut_s, "fit_s": fit_s, "open_s": self._open_s}

    def one_step(self, flat: dict[str, Any]) -> str:
        """Why the configuration fails in its first step, "" if it does not."""
        config = trial_config(flat)
        try:
            one_step(config, fewer(self._sample(config)[0], FEW))
        except Exception as error:
            return _reason(error)
        return ""

    def detect(self, style: str) -> float:
        """Seconds that a detector takes for a picture on one processor."""
        data, count = self._data, min(DETECTED, len(self._data.pictures))

        def first(count: int) -> Pictures:
            names = ("offsets", "heights", "widths", "positions")
            cut = {name: getattr(data.pictures, name)[:count] for name in names}
            return replace(data.pictures, **cut)

        landmarks = Path(self._spec.landmarks) if self._spec.landmarks else None
        # A detector is built once a process; a search pays for that once, not once in 24 pictures.
        find_faces(first(1), style, landmarks)
        began = perf_counter()
        find_faces(first(count), style, landmarks)
        return (perf_counter() - began) / count

    def _sample(self, config: TrialConfig) -> tuple[Faces, float, float]:
        """Faces, seconds a picture cut, and seconds of the whole normalization's fit."""
        data = config.data
        key = data.resolution_px, data.grayscale, data.normalization
        if key not in self._samples:
            most = WHITENED if data.normalization == "zca" else MORE
            began = perf_counter()
            faces = sample_faces(
                self._data.source, self._data.pictures, self._data.split, data, most
            )
            cut = perf_counter()
            training = faces.indices("train")
            fit_normalization(data.normalization, faces.images, training)
            fit_s = perf_counter() - cut
            self._samples[key] = (
                faces,
                max(0.0, cut - began - fit_s) / len(faces.images),
                fit_s * self._fit_growth(data, len(training), faces.images[0].size),
            )
        return self._samples[key]

    def _fit_growth(self, data: DataConfig, fitted: int, values: int) -> float:
        training = int(np.isin(self._data.identities, self._data.split.train).sum())
        growth = max(1.0, min(training, sampled_pictures(values)) / fitted)
        return growth**WHITENING_EXPONENT if data.normalization == "zca" else growth


class Probers:
    """As many probers as trials would run side by side; Ray must be connected."""

    def __init__(self, spec: DataSpec, resources: TrialResources, slots: int) -> None:
        self._arguments = asdict(spec), resources.threads
        self._actor = ray.remote(Prober).options(
            num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker or 0.0
        )
        began = time.monotonic()
        self._idle = self._placed([self._start() for _ in range(min(slots, MOST_PROBERS))])
        self.count = len(self._idle)
        try:
            ray.get([actor.warm_up.remote() for actor in self._idle])
        except ActorDiedError as error:
            self.close()
            raise ClusterError(
                "a process like a trial's died in its first training step, so a search would not "
                f"get far here; Ray says: {_reason(error)} (-v shows what the process printed)"
            ) from error
        self.start_s = time.monotonic() - began  # about what a slot takes to be ready

    def close(self) -> None:
        for actor in self._idle:
            ray.kill(actor)

    def detect(self, style: str) -> float:
        return float(ray.get(self._idle[0].detect.remote(style)))

    def measure(
        self,
        wanted: Iterator[dict[str, Any]],
        lacking: Callable[[Sequence[Measured]], int],
        seconds: float,
        progress: Progress,
    ) -> tuple[list[Measured], list[str]]:
        """Costs of configurations until the time is up, and reasons of those that failed.

        Args:
            lacking: of how many kinds nothing is known yet; they are waited for, within reason.
        """
        measured: list[Measured] = []
        failures: list[str] = []
        began = time.monotonic()

        def more() -> Iterator[dict[str, Any]]:
            for config in wanted:
                late = time.monotonic() - began > seconds
                if late and (not lacking(measured) or len(failures) >= MOST_FAILURES):
                    return
                yield config

        def tell() -> None:
            passed = min(seconds, time.monotonic() - began)
            progress("measuring trials", round(passed), round(seconds))

        for config, answer in self._ask("measure", more(), tell):
            if isinstance(answer, str) or "failure" in answer:
                failures.append(answer if isinstance(answer, str) else answer["failure"])
                continue
            cost = Cost(**answer.pop("cost"))
            measured.append(Measured(config, cost, **answer))
        return measured, failures

    def one_step(
        self, configs: Sequence[dict[str, Any]], progress: Progress
    ) -> Iterator[tuple[dict[str, Any], str]]:
        """Each configuration with the reason why it fails in its first step, "" if it does not."""
        done = 0

        def tell() -> None:
            progress("one step of each", done, len(configs))

        for config, reason in self._ask("one_step", iter(configs), tell):
            done += 1
            yield config, reason

    def _placed(self, actors: Sequence[Any]) -> list[Any]:
        """Those that the cluster has a place for; somebody else may use it, too."""
        waiting = {actor.here.remote(): actor for actor in actors}
        placed, _ = ray.wait(list(waiting), num_returns=1, timeout=PLACED_S)
        if placed:  # the others need not be waited for as long
            placed, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=OTHERS_PLACED_S)
        for reference, actor in waiting.items():
            if reference not in placed:
                ray.kill(actor)
        if not placed:
            raise ClusterError(
                f"a process like a trial's must find its place within {PLACED_S:.0f} s, but none "
                "did: others use the cluster; `ray status` tells who, or measure later"
            )
        return [waiting[reference] for reference in placed]

    def _start(self) -> Any:
        return self._actor.remote(*self._arguments)

    def _ask(
        self, method: str, configs: Iterator[dict[str, Any]], tell: Callable[[], None]
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """Each configuration with its answer, or why the process that was asked died."""
        at_work: dict[Any, tuple[Any, dict[str, Any]]] = {}

        def hand_out(actor: Any) -> None:
            for config in islice(configs, 1):
                at_work[getattr(actor, method).remote(config)] = actor, config

        for actor in self._idle:
            hand_out(actor)
        while at_work:
            tell()
            ready, _ = ray.wait(list(at_work), timeout=0.5)
            for reference in ready:
                actor, config = at_work.pop(reference)
                try:
                    answer = ray.get(reference)
                except RayError as error:
                    answer = _reason(error)
                    self._idle[self._idle.index(actor)] = actor = self._start()
                hand_out(actor)
                yield config, answer


def _reason(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return text if isinstance(error, SiamtuneError) else f"{type(error).__name__}: {text}"
