import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import siamtune
from siamtune.config import DEFAULTS, trial_config
from siamtune.errors import SpaceError
from siamtune.search.config_file import read_config
from siamtune.search.dimensions import ChoiceDimension, IntDimension, is_active
from siamtune.search.settings import Objective, Scheduler, StudySettings
from siamtune.search.shipped import about, find_config, find_space, shipped_spaces
from siamtune.search.space import (
    Space,
    buildable,
    combination_list,
    complete,
    load_space,
    parse_value,
    to_yaml,
)

SMALL = """\
version: 1
objective: {metric: val/eer}
study: {trials: 9, scheduler: {asha: {min_epochs: 2}}, sampler: random, seed: 7}
fixed:
  epochs: 6
  data.images_per_person: null
start:
  - {}
  - {loss.name: triplet, loss.mining: hard}
  - {loss.name: contrastive, loss.margin: 1}
space:
  loss.name: {choice: [supcon, triplet, contrastive]}
  loss.mining: {choice: [all, hard], when: {loss.name: triplet}}
  loss.margin: {float: [0.5, 1.5], step: 0.5, when: {loss.name: [contrastive]}}
  batch.images: {int: [64, 128], step: 64}
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def reloaded(space: Space, folder: Path) -> Space:
    path = folder / "resolved.yaml"
    path.write_text(to_yaml(space))
    return load_space(str(path))


def test_a_space_file_is_read_as_it_is_written(small: str) -> None:
    space = load_space(small)
    assert space.path == Path(small)
    assert space.objective == Objective("val/eer", "min")
    assert space.study == StudySettings(9, Scheduler("asha", 2, 3), "random", 7)
    assert space.fixed == {"epochs": 6, "data.images_per_person": None}
    assert space.start[2] == {"loss.name": "contrastive", "loss.margin": 1.0}
    assert [dimension.name for dimension in space.dimensions] == [
        "loss.name",
        "loss.mining",
        "loss.margin",
        "batch.images",
    ]
    assert space.dimensions[1].when == {"loss.name": ("triplet",)}
    assert space.dimensions[3] == IntDimension("batch.images", 64, 128, step=64)


def test_what_a_file_leaves_out_has_defaults(tmp_path: Path) -> None:
    path = tmp_path / "least.yaml"
    path.write_text("version: 1\nspace: {model.activation: {choice: [relu]}}\nfixed:\nstart:\n")
    space = load_space(str(path))
    assert space.objective == Objective("val/auc", "max")
    assert space.study == StudySettings(64, Scheduler("asha", 1, 3), "tpe", 0)
    assert space.fixed == {}
    assert space.start == ()
    assert space.dimensions == (ChoiceDimension("model.activation", ("relu",)),)


@pytest.mark.parametrize(
    ("written", "scheduler"),
    [
        ("none", Scheduler("none")),
        ("{none: }", Scheduler("none")),
        ("asha", Scheduler("asha", 1, 3)),
        ("{asha: {}}", Scheduler("asha", 1, 3)),
        ("{asha: {min_epochs: 4, eta: 2}}", Scheduler("asha", 4, 2)),
        ("{median: {min_epochs: 4}}", Scheduler("median", 4)),
    ],
)
def test_schedulers(written: str, scheduler: Scheduler, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    study = f"study: {{scheduler: {written}, sampler: {{qmc: }}}}"
    path.write_text(f"version: 1\n{study}\nspace: {{optim.lr: {{float: [1, 2]}}}}\n")
    space = load_space(str(path))
    assert space.study.scheduler == scheduler
    assert space.study.sampler == "qmc"
    assert reloaded(space, tmp_path) == space


def test_combinations_are_those_of_a_plain_enumeration(small: str) -> None:
    space = load_space(small)
    values: dict[str, list[Any]] = {
        "loss.name": ["supcon", "triplet", "contrastive"],
        "loss.mining": ["all", "hard"],
        "loss.margin": [0.5, 1.0, 1.5],
        "batch.images": [64, 128],
    }
    distinct = set()
    for chosen in product(*values.values()):
        trial = dict(zip(values, chosen, strict=True))
        if trial["loss.name"] != "triplet":
            del trial["loss.mining"]
        if trial["loss.name"] != "contrastive":
            del trial["loss.margin"]
        distinct.add(tuple(sorted(trial.items(), key=lambda item: item[0])))
    assert space.combinations == len(distinct) == 12


def test_a_continuous_dial_makes_combinations_countless() -> None:
    assert load_space("quickstart").combinations is None


# Overrides


def test_an_override_fixes_a_dial_and_drops_what_it_makes_unreachable(
    small: str, tmp_path: Path
) -> None:
    space = load_space(small, overrides={"loss.name": "triplet", "batch.images": 96})
    assert space.fixed == {
        "epochs": 6,
        "data.images_per_person": None,
        "loss.name": "triplet",
        "batch.images": 96,
    }
    assert [dimension.name for dimension in space.dimensions] == ["loss.mining"]
    # Three start points have become two: the third named only what is gone.
    assert space.start == ({}, {"loss.mining": "hard"})
    assert reloaded(space, tmp_path) == space


def test_an_override_drops_what_depends_on_what_it_drops(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nspace:\n"
        "  loss.name: {choice: [supcon, triplet]}\n"
        "  loss.mining: {choice: [all, hard], when: {loss.name: triplet}}\n"
        "  loss.triplet_margin: {float: [0.1, 0.2], when: {loss.mining: hard}}\n"
        "  optim.lr: {float: [1e-4, 1e-2]}\n"
    )
    space = load_space(str(path), overrides={"loss.name": "supcon"})
    assert [dimension.name for dimension in space.dimensions] == ["optim.lr"]


def test_an_override_may_fix_what_the_space_does_not_name(small: str) -> None:
    space = load_space(small, overrides={"model.dropout": 0})
    assert space.fixed["model.dropout"] == 0.0
    assert isinstance(space.fixed["model.dropout"], float)
    assert len(space.dimensions) == 4


def test_a_shorter_trial_lowers_the_first_rung(small: str, tmp_path: Path) -> None:
    space = load_space(small, overrides={"epochs": 1}, trials=2, seed=5)
    assert space.study == StudySettings(2, Scheduler("asha", 1, 3), "random", 5)
    assert reloaded(space, tmp_path) == space


def test_start_points_that_an_override_makes_impossible_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nstart: [{model.architecture: chopra}, {model.architecture: resnet}]\n"
        "space:\n  model.architecture: {choice: [chopra, resnet]}\n"
        "  data.resolution_px: {choice: [32, 64]}\n"
    )
    space = load_space(str(path), overrides={"data.resolution_px": 32})
    assert space.start == ({"model.architecture": "resnet"},)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"optim.lrr": 1e-3},
            "--set optim.lrr=0.001: there is no dial 'optim.lrr'; did you mean 'optim.lr'?",
        ),
        (
            {"loss.name": "tripplet"},
            "--set loss.name='tripplet': loss.name must be 'contrastive', 'hadsell', 'chopra', "
            "'triplet', 'multisimilarity', 'supcon', 'ntxent', 'circle', 'arcface', "
            "'cosface', 'joint' or 'semi_siamese', but got 'tripplet'; did you mean 'triplet'?",
        ),
        ({"epochs": 2.5}, "--set epochs=2.5: epochs must be a whole number, but got 2.5"),
        ({"batch.images": [1]}, "--set batch.images=[1]: batch.images must be a whole number, but "
         "got [1]"),
    ],
)  # fmt: skip
def test_faulty_overrides_are_told_without_a_line(
    overrides: dict[str, Any], message: str, small: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space(small, overrides=overrides)
    assert str(caught.value) == f"{small}: 1 fault\n{message}"


def test_faults_of_overrides_and_of_the_file_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("version: 1\nspace:\n  optim.lr: {float: [2, 1]}\n")
    with pytest.raises(SpaceError) as caught:
        load_space(str(path), overrides={"nonsense": 1})
    first, override, line = str(caught.value).splitlines()
    assert first.endswith("2 faults")
    assert override.startswith("--set nonsense=1: ")
    assert line.startswith(f"{path}:3: ")


def test_overrides_that_leave_nothing_are_refused(small: str) -> None:
    with pytest.raises(SpaceError, match="nothing is left to search; run it with: siamtune train"):
        load_space(small, overrides={"loss.name": "supcon", "batch.images": 64})
    with pytest.raises(SpaceError, match=r"batch\.images must be even, but got 65"):
        load_space(small, overrides={"batch.images": 65})


def test_values_of_the_command_line_are_read_as_a_file_reads_them() -> None:
    assert [parse_value(text) for text in ("1e-3", "true", "null", "lcn-", "'3'", "[1", "7")] == [
        1e-3, True, None, "lcn-", "3", "[1", 7,
    ]  # fmt: skip


# Where spaces are found


@pytest.mark.parametrize("name", ["full", "full.yaml", "spaces/full.yaml", "no/such/full.yml"])
def test_a_shipped_space_is_found_by_its_name(name: str, tmp_path: Path) -> None:
    path = find_space(name)
    assert path == shipped_spaces()["full"]
    assert load_space(name).path == path


def test_a_file_comes_before_a_shipped_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full.yaml").write_text(SMALL)
    Path("quickstart").mkdir()
    assert load_space("full.yaml").study.trials == 9
    assert load_space("full").study.trials == 64
    assert find_space("quickstart") == shipped_spaces()["quickstart"]


@pytest.mark.parametrize(
    "name", ["fulll.yaml", "nowhere/fill", "full.json", "x" * 5000, "a\0b", ""]
)
def test_an_unknown_space_names_those_there_are(name: str) -> None:
    with pytest.raises(SpaceError, match="one of full, lfw, quickstart, seed2016"):
        find_space(name)


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(SpaceError) as caught:
        find_space("spaces/fulll.yaml")
    assert str(caught.value) == (
        "spaces/fulll.yaml: must be a space file or one of full, lfw, quickstart, seed2016, but "
        "there is nothing there; did you mean 'full'?"
    )


def test_a_folder_is_no_space(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="but there is a folder"):
        load_space(str(tmp_path))


def test_a_list_of_two_metrics_asks_for_both_and_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nobjective: [val/eer, images_per_second]\n"
        "study: {scheduler: {asha: {min_epochs: 2}}}\nspace: {optim.lr: {float: [1e-4, 1e-2]}}\n"
    )
    space = load_space(str(path))
    assert space.objective == Objective("val/eer", "min", Objective("images_per_second", "max"))
    assert space.study.scheduler.name == "none"
    assert reloaded(space, tmp_path) == space


# What can be built


def test_all_combinations_of_a_small_space_are_tried(small: str) -> None:
    space = load_space(small)
    listed = list(combination_list(space))
    batches, margins = (64, 128), (0.5, 1.0, 1.5)
    assert len(listed) == space.combinations == 2 * (1 + 2 + len(margins))
    assert {v["loss.margin"] for v in listed if v["loss.name"] == "contrastive"} == set(margins)
    assert {v["batch.images"] for v in listed} == set(batches)
    assert len({json.dumps(values) for values in listed}) == len(listed)


def test_what_cannot_be_built_is_counted_by_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nfixed: {loss.distance: cosine}\nspace:\n"
        "  model.architecture: {choice: [hani, chopra, resnet]}\n"
        "  data.resolution_px: {int: [32, 48], step: 8}\n"
    )
    space = load_space(str(path))
    found = buildable(space, every_up_to=9)
    assert (found.tried, found.built, found.every) == (9, 6, True)
    assert found.reasons == {
        "hani needs data.resolution_px >= 36, but got 32": 1,
        "chopra needs data.resolution_px >= 46, but got 32": 1,
        "chopra needs data.resolution_px >= 46, but got 40": 1,
    }
    sampled = buildable(space, 600, every_up_to=8)
    assert (sampled.tried, sampled.every) == (600, False)
    assert sampled.built / 600 == pytest.approx(found.built / 9, abs=0.06)
    shared = buildable(space, every_up_to=9, workers=3)
    assert shared.built == 0
    assert "must be a multiple of the 3 workers" in next(iter(shared.reasons))


# The shipped spaces


@pytest.mark.parametrize("name", ["full", "lfw", "quickstart", "seed2016"])
def test_a_shipped_space_is_sound(name: str, tmp_path: Path) -> None:
    space = load_space(name)
    assert reloaded(space, tmp_path) == space
    found = buildable(space, 500)
    assert found.built == found.tried == 500, found.reasons
    assert about(shipped_spaces()[name])
    text = shipped_spaces()[name].read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_full_space_names_every_dial() -> None:
    space = load_space("full")
    named = {dimension.name for dimension in space.dimensions} | set(space.fixed)
    assert set(DEFAULTS) - named == {"seed", "verification.distance_threshold"}


def test_the_best_configuration_lies_in_its_space_and_made_the_model_that_comes_along() -> None:
    shipped = read_config(find_config(Path("lfw")))
    assert find_config(Path("lfw.yaml")) == Path("lfw.yaml")  # a path is a path
    space = load_space("lfw")
    # A file of before may know fewer dials than there are now.
    assert trial_config(complete(space, space.start[0])) == trial_config(shipped)
    model = Path(siamtune.__file__).parent / "pretrained" / "lfw" / "config.yaml"
    assert read_config(model) == shipped


def test_the_configurations_for_lfw_are_of_its_space() -> None:
    space = load_space("lfw")
    best, aligned, colour, joint = (
        trial_config(read_config(find_config(Path(name))))
        for name in ("lfw", "lfw-aligned", "lfw-colour", "lfw-joint")
    )
    assert joint == trial_config(complete(space, space.start[2]))
    changed = best.data.model_copy(update={"crop_factor": 1.125, "grayscale": False})
    assert colour == best.model_copy(update={"data": changed})
    changed = best.data.model_copy(update={"crop": "aligned", "grayscale": False})
    assert aligned == best.model_copy(update={"data": changed})


def test_the_quick_space_is_small() -> None:
    space = load_space("quickstart")
    assert 5 <= len(space.dimensions) <= 7
    assert space.study.trials * space.fixed["epochs"] < 150


def test_the_space_of_2016_begins_with_its_defaults() -> None:
    space = load_space("seed2016")
    (start,) = space.start
    assert set(start) == {dimension.name for dimension in space.dimensions}
    config = trial_config({**space.fixed, **start})
    assert config.model.architecture == "hani"
    assert config.model.embedding_size == 40
    assert not config.model.unit_length
    assert (config.loss.name, config.loss.margin, config.loss.distance) == (
        "contrastive",
        2.0,
        "l2",
    )
    assert (config.optim.name, config.optim.lr) == ("adam", 1e-4)
    assert (config.data.crop, config.data.crop_factor) == ("none", 1.0)
    assert (config.data.resolution_px, config.data.images_per_person) == (64, 2)
    assert (config.batch.images, config.batch.sampling) == (100, "pairs")
    assert config.verification.distance_threshold == 5.0
    assert config.epochs == 5


def test_every_dial_of_a_loss_is_searched_only_with_it() -> None:
    owners = {
        "loss.triplet_margin": {"triplet"},
        "loss.mining": {"triplet"},
        "loss.temperature": {"supcon", "ntxent", "joint"},
        "loss.scale": {"arcface", "cosface", "circle", "joint", "semi_siamese"},
        "loss.margin": {"contrastive", "hadsell", "chopra"},
    }
    space = load_space("full")
    names = next(d for d in space.dimensions if d.name == "loss.name")
    assert isinstance(names, ChoiceDimension)
    for dimension in space.dimensions:
        if dimension.name in owners:
            active = {name for name in names.choices if is_active(dimension, {"loss.name": name})}
            assert active == owners[dimension.name]


def test_a_space_is_checked_without_heavy_imports() -> None:
    program = (
        "import json, sys; from siamtune.cli import spaces; "
        "from siamtune.search.space import load_space; import siamtune.search.suggest; "
        "spaces.check(['full']); print(json.dumps(sorted(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    modules = set(json.loads(output.splitlines()[-1]))
    assert not modules & {"torch", "ray", "optuna", "numpy", "cv2", "dlib", "sklearn"}
