import pytest

from siamtune.config import (
    DEFAULTS,
    TrialConfig,
    choices,
    flatten,
    trial_config,
    unflatten,
    unknown_name_message,
)
from siamtune.errors import ConfigError


def test_flatten_and_unflatten_are_inverse() -> None:
    config = TrialConfig()
    assert TrialConfig.model_validate(unflatten(flatten(config))) == config


def test_names_are_dotted_and_unnamed_dials_keep_their_default() -> None:
    config = trial_config({"optim.lr": 0.01, "epochs": 3})
    assert config.optim.lr == 0.01
    assert flatten(config) == {**DEFAULTS, "optim.lr": 0.01, "epochs": 3}


def test_every_dial_is_described() -> None:
    for name in DEFAULTS:
        field = TrialConfig.model_fields[name.split(".")[0]]
        if "." in name:
            assert field.annotation is not None
            field = field.annotation.model_fields[name.split(".")[1]]
        assert field.description, name


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        trial_config({"optim.lr": -1.0, "epochs": 0, "model.dropout": 2.0})
    assert str(raised.value).splitlines() == [
        "model.dropout: input should be less than or equal to 0.9, but got 2.0",
        "optim.lr: input should be greater than 0, but got -1.0",
        "epochs: input should be greater than or equal to 1, but got 0",
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("optim.lrr", "optim.lr"), ("lr", "optim.lr"), ("loss.margn", "loss.margin")],
)
def test_unknown_dial_names_the_nearest(typed: str, meant: str) -> None:
    assert unknown_name_message(typed) == f"there is no dial {typed!r}; did you mean {meant!r}?"


@pytest.mark.parametrize("value", [True, "3", 3.0], ids=["a switch", "text", "a float"])
def test_a_number_of_epochs_is_an_integer_and_nothing_else(value: object) -> None:
    with pytest.raises(ConfigError, match="epochs: input should be a valid integer"):
        trial_config({"epochs": value})


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        (
            {"model.architecture": "chopra", "data.resolution_px": 32},
            "chopra needs data.resolution_px >= 46, but got 32",
        ),
        (
            {"model.spatial_transformer": True, "data.resolution_px": 20},
            "model.spatial_transformer needs data.resolution_px >= 28, but got 20",
        ),
        (
            {"loss.name": "arcface", "loss.distance": "l1"},
            "arcface measures angles: loss.distance must be cosine, but got l1",
        ),
        ({"batch.images": 33}, "batch.images must be even, but got 33"),
        (
            {"batch.images": 6, "batch.images_per_identity": 4},
            "batch.images must be a multiple of batch.images_per_identity and hold two people "
            "or more, but got 6 and 4",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_before_a_trial(
    dials: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        trial_config(dials)
    assert str(raised.value) == message


def test_choices_are_known_for_names_and_switches_only() -> None:
    assert choices("loss.distance") == ("l1", "l2", "cosine")
    assert choices("data.grayscale") == (False, True)
    assert choices("optim.lr") is None
