import pytest

from siamtune.config import DEFAULTS, choices, trial_config
from siamtune.errors import ConfigError
from siamtune.search.dials import description, dial_schema, dial_value, kind

CANDIDATES = [
    None, True, False, 0, 1, 2, 3, 16, 64, 100, 128, 3000, -1, 0.0, 0.1, 0.95, 1.0, 2.5, 150.0,
    float("nan"), float("inf"), "resnet", "relu", "minmax", "supcon", "cosine", "1", "",
]  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_dial_allows_what_the_whole_configuration_allows(name: str) -> None:
    for value in CANDIDATES:
        try:
            trial_config({name: value})
            allowed = True
        except ConfigError as error:
            # Only faults of the value itself begin with its name; others speak of combinations.
            allowed = not str(error).startswith(f"{name}: ")
        if allowed:
            dial_value(name, value)
        else:
            with pytest.raises(ValueError, match=f"^{name} must be "):
                dial_value(name, value)


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_dial_is_described_and_holds_its_default(name: str) -> None:
    assert description(name)
    assert dial_value(name, DEFAULTS[name]) == DEFAULTS[name]
    assert dial_schema(name)


def test_whole_numbers_become_fractions_where_the_dial_is_one() -> None:
    assert isinstance(dial_value("optim.lr", 1), float)
    assert isinstance(dial_value("batch.images", 4), int)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_kind_follows_the_default(name: str) -> None:
    if choices(name) is not None:
        assert kind(name) == "choice"
    elif DEFAULTS[name] is not None:
        assert kind(name) == type(DEFAULTS[name]).__name__


def test_a_dial_that_may_be_null_has_the_kind_of_its_numbers() -> None:
    assert kind("data.images_per_person") == "int"
    assert kind("verification.distance_threshold") == "float"
