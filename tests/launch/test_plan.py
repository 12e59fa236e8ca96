"""`siamtune plan` on real Ray: it says what is true, and leaves nothing behind."""

import json
import os
from itertools import islice
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from siamtune.cli.main import app
from siamtune.config import trial_config
from siamtune.errors import ClusterError, SpaceError, UsageError
from siamtune.launch import probe
from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.launch.plan import HAND_OVER_S, _Reckoner, possible_variants, stages, trios
from siamtune.launch.probe import Measured, Probers, open_data
from siamtune.search.space import Space, load_space, random_trials
from siamtune.training.probe import Cost, epoch_load

pytestmark = [pytest.mark.ray]

# Single pictures cannot be dealt out in groups: every `triplet` fails in its first step.
SPACE = """
version: 1
study: {trials: 9, scheduler: {asha: {min_epochs: 1, eta: 3}}, sampler: {random: {}}, seed: 0}
fixed:
  epochs: 3
  data.crop: center
  model.width: 0.25
  model.embedding_size: 8
  batch.images: 16
start: [{}]
space:
  model.architecture: {choice: [resnet, deepid2]}
  data.resolution_px: {choice: [16, 32]}
  data.crop_factor: {choice: [1.0, 1.5]}
  loss.name: {choice: [supcon, triplet]}
  data.images_per_person: {choice: [1], when: {loss.name: triplet}}
  optim.lr: {choice: [1e-3, 1e-2]}
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(str(tmp_path / "space.yaml"))


def plan(folder: Path, people: Path, *words: str) -> Result:
    where = folder / "empty"
    where.mkdir()
    before = os.getcwd()
    os.chdir(where)
    try:
        return CliRunner().invoke(
            app, ["plan", "--space", str(folder / "space.yaml"), "--data", str(people), *words]
        )
    finally:
        os.chdir(before)
        assert not list(where.iterdir()), "nothing is left behind"


@pytest.fixture
def planned(
    space: Space, tmp_path: Path, pattern_people: Path, ray_here: str
) -> tuple[dict[str, Any], Result]:
    result = plan(
        tmp_path, pattern_people, "--probe-time", "1s", "--concurrent", "1", "--smoke", "--json",
        "--gpus", "4", "--gpu-speed", "8",
    )  # fmt: skip
    assert result.stdout, repr(result.exception)
    return json.loads(result.stdout), result


def test_the_plan_of_a_small_space(planned: tuple[dict[str, Any], Result]) -> None:
    document, result = planned
    assert (document["dials"], document["combinations"]) == (6, 32)
    built = document["buildable"]
    assert (built["tried"], built["built"], built["every"]) == (32, 24, True)
    assert built["reasons"] == {"deepid2 needs data.resolution_px >= 31, but got 16": 8}
    assert [stage["epoch"] for stage in document["stages"]] == [1, 3]
    assert document["slots"] == 1
    assert document["validation"]["people"] == 4

    times = document["times"]
    assert times["device"] == "cpu"
    assert {each["architecture"] for each in times["architectures"]} == {"resnet", "deepid2"}
    assert all(each["measured"] >= 1 for each in times["architectures"])
    assert all(each["trial_s"] > 0 for each in times["architectures"])
    assert times["here"]["slots"] == 1
    assert times["on_gpus"]["slots"] == 4
    assert times["on_gpus"]["wall_s"]["middle"] < times["here"]["wall_s"]["middle"]
    assert times["checkpoints"]["most_bytes"] == 8 * times["checkpoints"]["largest_bytes"]
    # resolution x crop factor; the defaults' own is prepared already.
    assert times["variants"]["possible"] == 4
    assert times["variants"]["bytes"] <= 200 * (16**2 + 2 * 32**2)
    # A triplet of single pictures cannot be measured, and that is said.
    assert any("two or more training pictures" in reason for reason in times["failures"])

    smoke = {each["name"]: each for each in document["smoke"]}
    assert set(smoke) == {
        f"{architecture} x {loss} x minmax"
        for architecture in ("resnet", "deepid2")
        for loss in ("supcon", "triplet")
    }
    assert not smoke["resnet x supcon x minmax"]["fault"]
    assert not smoke["deepid2 x supcon x minmax"]["fault"]  # although 16 px are too few for it
    assert isinstance(result.exception, SpaceError)
    assert "2 of 4 combinations fail in their first step" in str(result.exception)
    assert "resnet x triplet x minmax: batches of pk need two people" in str(result.exception)


def test_a_trial_that_fits_nowhere_is_told_after_the_rest(
    space: Space, tmp_path: Path, pattern_people: Path, ray_here: str
) -> None:
    result = plan(tmp_path, pattern_people, "--workers-per-trial", "8")
    assert "24 of 32 (75.0%; all tried) can be built" in result.stdout
    assert "epoch    1:     9.0 trials arrive" in result.stdout
    assert "two trials are tied" in result.stdout
    assert isinstance(result.exception, ClusterError)
    assert "one trial needs 8 x 1 CPU" in str(result.exception)


def test_gpus_that_hold_no_trial_are_refused(
    space: Space, tmp_path: Path, pattern_people: Path
) -> None:
    result = plan(tmp_path, pattern_people, "--gpus", "2", "--workers-per-trial", "4")
    assert isinstance(result.exception, UsageError)
    assert "one takes 4 GPUs, but got 2" in str(result.exception)


def test_a_cluster_that_others_use_is_told_and_not_waited_for_for_ever(
    pattern_people: Path, ray_here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(probe, "PLACED_S", 2.0)
    everything = ray.cluster_resources()["CPU"] - 0.25
    holder = ray.remote(num_cpus=everything)(
        type("Holder", (), {"here": lambda self: None})
    ).remote()
    ray.get(holder.here.remote())
    try:
        with pytest.raises(ClusterError, match="must find its place within 2 s, but none did"):
            Probers(DataSpec(str(pattern_people)), TrialResources(cpus_per_worker=1.0), 2)
    finally:
        ray.kill(holder)


def test_what_must_be_prepared_is_told_in_processor_seconds_and_timed_by_its_share(
    space: Space, pattern_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))  # nothing is prepared yet
    spec = DataSpec(str(pattern_people))
    values = next(v for v in islice(random_trials(space, 0), 200) if v["data.resolution_px"] == 32)
    measured = Measured(values, Cost(0.001, 0.0005, 0.25, 3.0, 1, "cpu"), 0.01, 0.0, 0.5)
    probers = SimpleNamespace(detect=lambda style: 0.0)
    reckoner = _Reckoner(spec, open_data(spec), TrialResources(), probers, [measured], 1, 3)  # type: ignore[arg-type]
    reckoner._share = 0.25
    drawn = reckoner.drawn(values)
    work_s = 0.01 * 200
    assert sum(s for _, s in reckoner.cost(drawn, Random(0)).shared_s) == pytest.approx(work_s / 4)
    assert reckoner.variants(space, 1, [drawn], []).seconds == pytest.approx(work_s)


def test_a_space_of_which_nothing_can_be_built_has_no_plan(
    space: Space, tmp_path: Path, pattern_people: Path
) -> None:
    result = plan(tmp_path, pattern_people, "--workers-per-trial", "3")
    assert isinstance(result.exception, SpaceError)
    assert (
        "none can be built, most of them because batch.images must be a multiple of the 3"
        in str(result.exception)
    )


def test_stages_add_up(space: Space) -> None:
    first, last = stages(space, 9)
    assert (first.epoch, first.arrive, last.epoch) == (1, 9.0, 3)
    assert first.go_on == last.arrive == last.go_on
    # One of the first, half a second, a third of a third, and so on: 4.1 go on of nine.
    expected = sum(max(1, i // 3) / i for i in range(1, 10))
    assert first.go_on == pytest.approx(expected, abs=0.3)


def test_variants_are_counted_where_they_differ(space: Space) -> None:
    assert possible_variants(space) == 4
    full = load_space("full")
    assert possible_variants(full) == len(
        {
            (crop, factor, side, gray)
            for crop in ("none", "center", "haar", "hog")
            for factor in ([1.0] if crop == "none" else np.arange(0.625, 2.3, 0.125))
            for side in (48, 64, 80, 96)
            for gray in (True, False)
        }
    )


def test_a_trio_that_the_space_never_joins_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(
        "version: 1\nspace:\n  model.architecture: {choice: [hani, resnet]}\n"
        "  data.normalization: {choice: [lcn, zca], when: {model.architecture: hani}}\n"
    )
    found = {trio.name: trio for trio in trios(load_space(str(tmp_path / "space.yaml")), 1)}
    assert found["hani x supcon x zca"].config is not None
    assert found["resnet x supcon x minmax"].config is not None
    assert found["resnet x supcon x zca"].config is None
    assert found["resnet x supcon x zca"].why_not == "the space never combines these"


def test_costs_are_reckoned_from_one_size_to_another(
    space: Space, pattern_people: Path, cache: Path
) -> None:
    spec = DataSpec(str(pattern_people))
    data = open_data(spec)
    small, large = (
        next(
            values
            for values in islice(random_trials(space, 0), 200)
            if values["model.architecture"] == "resnet"
            and values["data.resolution_px"] == side
            and values["loss.name"] == "supcon"
        )
        for side in (16, 32)
    )
    cost = Cost(0.001, 0.0005, 0.25, 3.0, 1, "cpu")

    class NoDetector:
        def detect(self, style: str) -> float:
            raise AssertionError("no crop of this space needs a detector")

    reckoner = _Reckoner(
        spec, data, TrialResources(), NoDetector(), [Measured(small, cost, 0.01, 2.0, 0.5)], 2, 3
    )  # type: ignore[arg-type]
    drawn = reckoner.drawn(small)
    assert reckoner.cost(drawn, Random(0)).epoch_s == pytest.approx(cost.epoch_s(drawn.load))
    assert reckoner.cost(drawn, Random(0)).start_s == pytest.approx(3 + 0.5 + HAND_OVER_S)
    four_times = reckoner.cost(reckoner.drawn(large), Random(0)).epoch_s
    assert four_times == pytest.approx(4 * (cost.epoch_s(drawn.load) - 0.25) + 0.25)
    config = trial_config(small)
    assert drawn.load.training_images % config.batch.images == 0
    assert drawn.load == epoch_load(config, reckoner._everybody)
