"""What a search would try, take and leave, before it spends anything."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, islice, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from siamtune.config import (
    DEFAULTS,
    BatchConfig,
    DataConfig,
    TrialConfig,
    check_shared_out,
    trial_config,
)
from siamtune.data.boxes import landmarks_digest
from siamtune.data.cache import cache_limit_bytes
from siamtune.data.decode import available_threads
from siamtune.data.prepare import Faces, boxes_path, variant_path
from siamtune.data.sample import sample_faces
from siamtune.errors import ConfigError, DataError
from siamtune.folders import default_cache_folder
from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.launch.keep import KEEP_BEST
from siamtune.launch.probe import Data, Measured, Probers, Progress
from siamtune.search.dimensions import ChoiceDimension
from siamtune.search.forecast import Course, TrialCost, imagine
from siamtune.search.space import (
    Space,
    combination_list,
    complete,
    first_trials,
    random_combinations,
    random_trials,
)
from siamtune.training.probe import Load, epoch_load

# Configurations that stand for all that a search may draw, and searches that are imagined.
POOL, ROUNDS = 400, 200
MOST_IMAGINED_TRIALS = 40_000
MOST_VARIANTS = 100_000
# A convolution's work grows with the square of its channels; narrow ones are handled less well.
WIDTH_EXPONENT = 1.5
# What the hand-over of a trial to a living slot takes: proposing it, its records, its boards.
HAND_OVER_S = 0.1
ARCHITECTURE = "model.architecture"
SMOKED = (ARCHITECTURE, "loss.name", "data.normalization")
VARIANT = ("data.crop", "data.crop_factor", "data.resolution_px", "data.grayscale")
SMOKE_DRAWS = 2000


@dataclass(frozen=True)
class Span:
    """What lies in the middle, and what four of five lie between."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class ArchitectureTime:
    """Trials of one architecture, in seconds on one slot."""

    architecture: str
    measured: int
    epoch_s: Span
    images_per_s: float
    trial_s: float  # of all epochs, on average


@dataclass(frozen=True)
class SearchTime:
    """A search, in seconds."""

    slots: int
    wall_s: Span


@dataclass(frozen=True)
class Variants:
    """Ways to cut out and scale the pictures; each is prepared once on a machine."""

    possible: int | None  # None: countless
    expected: float  # in a search of these trials
    bytes: float  # of the expected ones
    seconds: float  # of processor time to prepare them, detectors included
    limit_bytes: float
    free_bytes: int
    folder: str


@dataclass(frozen=True)
class Checkpoints:
    middle_bytes: float  # of one
    largest_bytes: float
    most_bytes: float  # at once, if all were the largest


@dataclass(frozen=True)
class Times:
    """What the probe has found; here or on GPUs, whatever the cluster has."""

    device: str
    configurations: int
    failures: tuple[str, ...]
    architectures: tuple[ArchitectureTime, ...]
    here: SearchTime
    on_gpus: SearchTime | None
    variants: Variants
    checkpoints: Checkpoints


@dataclass(frozen=True)
class Stage:
    """Trials that end after so many epochs, on average over imagined searches."""

    epoch: int
    arrive: float
    go_on: float


def stages(space: Space, trials: int) -> list[Stage]:
    """How many trials reach each decision of the scheduler, the last epoch included."""
    epochs = _epochs(space)
    free = TrialCost(1.0)
    rounds = _rounds(trials)
    ended: Counter[int] = Counter()
    for seed in range(rounds):
        ended += imagine(space.study, epochs, trials, 1, lambda number, random: free, seed).ended_at
    left = float(trials)
    found = []
    for epoch in sorted({*ended, epochs}):
        stop = ended[epoch] / rounds if epoch < epochs else 0.0
        found.append(Stage(epoch, left, left - stop))
        left -= stop
    return found


def _to_measure(
    start: Sequence[dict[str, Any]], pool: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Start points, then every architecture in turn."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for config in pool:
        groups[_architecture(config)].append(config)
    in_turn = (
        groups[name][row]
        for row in range(max(map(len, groups.values())))
        for name in groups
        if row < len(groups[name])
    )
    return chain(start, in_turn)


def forecast(
    space: Space,
    spec: DataSpec,
    data: Data,
    resources: TrialResources,
    probers: Probers,
    *,
    slots: int,
    probe_s: float,
    ready_s: float,
    gpus: int | None,
    gpu_speed: float,
    progress: Progress,
) -> Times | None:
    """Measure trials for `probe_s` seconds and imagine whole searches; None if all failed.

    Args:
        ready_s: what Ray took to start; the slots' own start is measured.
    """
    trials = space.study.trials
    start = first_trials(space, resources.workers)
    pool = list(islice(random_trials(space, 0, resources.workers), POOL))
    architectures = {_architecture(config) for config in pool}
    measured, failures = probers.measure(
        _to_measure(start, pool),
        lambda known: len(architectures - {_architecture(each.config) for each in known}),
        probe_s,
        progress,
    )
    if not measured:
        return None
    reckoner = _Reckoner(spec, data, resources, probers, measured, slots, _epochs(space))
    known = [reckoner.drawn(config) for config in start]
    others = [reckoner.drawn(config) for config in pool]

    def cost(number: int, random: Random) -> TrialCost:
        which = known[number] if number < len(known) else random.choice(others)
        return reckoner.cost(which, random)

    device = Counter(each.cost.device for each in measured).most_common(1)[0][0]
    ready_s += probers.start_s
    here = _search_time(space, trials, slots, cost, ready_s)
    on_gpus = None
    if gpus is not None:
        faster = 1.0 if device != "cpu" else gpu_speed
        on_gpus = _search_time(
            space,
            trials,
            min(trials, int(gpus / resources.gpus_where_there_are + 1e-6)),
            lambda number, random: _faster(cost(number, random), faster),
            ready_s,
        )
    sizes = np.array([each.cost.checkpoint_bytes for each in measured], float)
    return Times(
        device=device,
        configurations=len(measured),
        failures=tuple(failures),
        architectures=tuple(reckoner.architectures(others)),
        here=here,
        on_gpus=on_gpus,
        variants=reckoner.variants(space, trials, known, others),
        checkpoints=Checkpoints(
            float(np.median(sizes)),
            float(sizes.max()),
            # Of a running trial its last and its best; of the best their best; and the winner's.
            float(sizes.max()) * (2 * slots + KEEP_BEST + 1),
        ),
    )


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A configuration that the search may run."""

    flat: Mapping[str, Any]
    config: TrialConfig
    load: Load
    boxes: str | None  # of a detector that has not looked at the pictures yet: its name
    variant: str | None  # the name of its faces' file, if that must be made

    @property
    def architecture(self) -> str:
        return self.config.model.architecture


class _Reckoner:
    """What any trial of the space costs, from those that were measured."""

    def __init__(
        self,
        spec: DataSpec,
        data: Data,
        resources: TrialResources,
        probers: Probers,
        measured: Sequence[Measured],
        slots: int,
        epochs: int,
    ) -> None:
        self._data, self._workers, self._epochs = data, resources.workers, epochs
        self._measured = [(each, trial_config(dict(each.config))) for each in measured]
        self._folder = default_cache_folder()
        self._landmarks = Path(spec.landmarks) if spec.landmarks else None
        # Work on pictures spreads over all processors, which the other slots use, too.
        self._share = min(1.0, slots * max(1.0, resources.cpus_per_worker) / available_threads())
        self._everybody = _without_pictures(data)
        self._detect_s = cache(probers.detect)
        self._load = cache(self._load_of)

    def drawn(self, flat: Mapping[str, Any]) -> _Drawn:
        config = trial_config(dict(flat))
        data, source = config.data, self._data.source
        model = landmarks_digest(data.crop, self._landmarks)
        boxes = boxes_path(source, data.crop, model, self._folder)
        variant = variant_path(source, data, model, self._folder)
        return _Drawn(
            flat,
            config,
            self._load(config.batch, data.images_per_person),
            None if data.crop in ("none", "center") or boxes.exists() else data.crop,
            None if variant.exists() else variant.name,
        )

    def cost(self, drawn: _Drawn, random: Random) -> TrialCost:
        like, theirs = self._like(drawn, random)
        return TrialCost(
            self._epoch_s(drawn, like, theirs),
            like.cost.start_s + like.open_s + HAND_OVER_S,
            tuple(self._shared(drawn, like, self._share)),
        )

    def architectures(self, others: Sequence[_Drawn]) -> Iterator[ArchitectureTime]:
        """Of all that may be drawn, in the order in which they were."""
        random = Random(0)
        seconds: dict[str, list[float]] = defaultdict(list)
        speed: dict[str, list[float]] = defaultdict(list)
        for drawn in others:
            if not drawn.load.training_images:
                continue
            epoch_s = self._epoch_s(drawn, *self._like(drawn, random))
            seconds[drawn.architecture].append(epoch_s)
            speed[drawn.architecture].append(drawn.load.training_images / epoch_s)
        for name in sorted(seconds):
            yield ArchitectureTime(
                name,
                sum(config.model.architecture == name for _, config in self._measured),
                _span(seconds[name]),
                float(np.median(speed[name])),
                float(np.mean(seconds[name])) * self._epochs,
            )

    def variants(
        self, space: Space, trials: int, known: Sequence[_Drawn], others: Sequence[_Drawn]
    ) -> Variants:
        random = Random(0)
        count = len(self._data.pictures)
        sizes, numbers, seconds = [], [], []
        for _ in range(max(1, min(50, MOST_IMAGINED_TRIALS // trials))):
            once: dict[str, float] = {}
            made: dict[str, int] = {}
            for number in range(trials):
                drawn = known[number] if number < len(known) else random.choice(others)
                once |= dict(self._shared(drawn, self._like(drawn, random)[0]))
                if drawn.variant is not None:
                    made[drawn.variant] = _variant_bytes(drawn.config.data, count)
            sizes.append(sum(made.values()))
            numbers.append(len(made))
            seconds.append(sum(once.values()))
        disk = os.statvfs(_existing(self._folder))
        return Variants(
            possible=possible_variants(space),
            expected=float(np.mean(numbers)),
            bytes=float(np.mean(sizes)),
            seconds=float(np.mean(seconds)),
            limit_bytes=cache_limit_bytes(),
            free_bytes=disk.f_bavail * disk.f_frsize,
            folder=str(self._folder),
        )

    def _like(self, drawn: _Drawn, random: Random) -> tuple[Measured, TrialConfig]:
        """A measured configuration that stands for this one: itself, or one of its kind."""
        alike = [
            each for each in self._measured if each[1].model.architecture == drawn.architecture
        ]
        same = [each for each in alike if each[0].config == drawn.flat]
        return random.choice(same or alike or self._measured)

    def _epoch_s(self, drawn: _Drawn, like: Measured, theirs: TrialConfig) -> float:
        growth = 1.0
        if like.cost.device == "cpu":  # a GPU hardly notices
            mine = drawn.config
            growth = (mine.model.width / theirs.model.width) ** WIDTH_EXPONENT
            growth *= (mine.data.resolution_px / theirs.data.resolution_px) ** 2
        pictures_s = replace(like.cost, save_s=0.0).epoch_s(drawn.load) * growth
        return pictures_s / self._workers + like.cost.save_s

    def _shared(
        self, drawn: _Drawn, like: Measured, share: float = 1.0
    ) -> Iterator[tuple[str, float]]:
        """What the first trial of its kind must prepare, and how long: processor seconds, or a
        `share` of those that spread over all processors."""
        count = len(self._data.pictures)
        if drawn.boxes is not None:
            yield drawn.boxes, self._detect_s(drawn.boxes) * count * share
        if drawn.variant is None:
            return
        yield drawn.variant, like.cut_s * count * share
        name = drawn.config.data.normalization
        fits = [m.fit_s for m, config in self._measured if config.data.normalization == name]
        yield f"{drawn.variant} {name}", max(fits, default=0.0)

    def _load_of(self, batch: BatchConfig, images_per_person: int | None) -> Load:
        config = TrialConfig(batch=batch, data=DataConfig(images_per_person=images_per_person))
        try:
            return epoch_load(config, self._everybody)
        except DataError:  # such a trial fails at once
            return Load(0, 0)


def possible_variants(space: Space) -> int | None:
    """How many ways of cutting out the pictures the space holds; None if countless."""
    by_name = {dimension.name: dimension for dimension in space.dimensions}
    needed = {name for name in VARIANT if name in by_name}
    while True:
        more = {t for name in needed for t in by_name[name].when if t in by_name} - needed
        if not more:
            break
        needed |= more
    part = replace(space, dimensions=tuple(d for d in space.dimensions if d.name in needed))
    if not part.dimensions:
        return 1
    combinations = part.combinations
    if combinations is None or combinations > MOST_VARIANTS:
        return None
    return len(
        {
            tuple({**DEFAULTS, **values}[name] for name in VARIANT)
            for values in combination_list(part)
        }
    )


@dataclass(frozen=True)
class Trio:
    """One architecture with one loss and one normalization."""

    name: str
    config: dict[str, Any] | None  # None: nothing with these three can be built
    why_not: str = ""


def trios(space: Space, workers: int) -> list[Trio]:
    """Every architecture x loss x normalization of the space, each with what is nearest to the
    defaults and can be built."""
    axes = [_values(space, name) for name in SMOKED]
    wanted = list(product(*axes))
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    reasons = dict.fromkeys(wanted, "the space never combines these")

    def take(values: dict[str, Any]) -> None:
        key = tuple({**DEFAULTS, **values}[name] for name in SMOKED)
        if key in reasons and key not in found:
            try:
                check_shared_out(trial_config(values), workers)
            except ConfigError as error:
                reasons[key] = str(error).replace("\n", "; ")
            else:
                found[key] = values

    for key in wanted:
        take(complete(space, dict(zip(SMOKED, key, strict=True))))
    for values in islice(random_combinations(space, 0), SMOKE_DRAWS):
        take(values)
    return [
        Trio(" x ".join(key), found.get(key), "" if key in found else reasons[key])
        for key in wanted
    ]


def smoke(probers: Probers, chosen: Sequence[Trio], progress: Progress) -> dict[str, str]:
    """Why each trio that can be built fails in its first step, "" if it does not, by name."""
    names = {id(trio.config): trio.name for trio in chosen if trio.config is not None}
    configs = [trio.config for trio in chosen if trio.config is not None]
    return {names[id(config)]: why for config, why in probers.one_step(configs, progress)}


def _search_time(
    space: Space,
    trials: int,
    slots: int,
    cost: Callable[[int, Random], TrialCost],
    ready_s: float,
) -> SearchTime:
    epochs = _epochs(space)
    courses: list[Course] = [
        imagine(space.study, epochs, trials, slots, cost, seed, ready_s)
        for seed in range(_rounds(trials))
    ]
    return SearchTime(slots, _span([course.wall_s for course in courses]))


def _faster(cost: TrialCost, times: float) -> TrialCost:
    return replace(cost, epoch_s=cost.epoch_s / times)


def _rounds(trials: int) -> int:
    return max(10, min(ROUNDS, MOST_IMAGINED_TRIALS // trials))


def _span(values: Sequence[float]) -> Span:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return Span(float(middle), float(low), float(high))


def _epochs(space: Space) -> int:
    return int(space.fixed.get("epochs", DEFAULTS["epochs"]))


def _architecture(flat: Mapping[str, Any]) -> str:
    return str(flat.get(ARCHITECTURE, DEFAULTS[ARCHITECTURE]))


def _values(space: Space, name: str) -> tuple[Any, ...]:
    for dimension in space.dimensions:
        if dimension.name == name and isinstance(dimension, ChoiceDimension):
            always = not dimension.when
            default = DEFAULTS[name]
            return dimension.choices if always else (*dimension.choices, default)
    return (space.fixed.get(name, DEFAULTS[name]),)


def _without_pictures(data: Data) -> Faces:
    """Everybody of the source, with no pixels: enough to count what there is to do."""
    sample = sample_faces(data.source, data.pictures, data.split, DataConfig(resolution_px=16), 4)
    return replace(sample, images=sample.images[:0], identities=data.identities)


def _variant_bytes(data: DataConfig, count: int) -> int:
    return count * (1 if data.grayscale else 3) * data.resolution_px**2


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
