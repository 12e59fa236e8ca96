import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from siamtune.config import DEFAULTS
from siamtune.search.dials import description
from siamtune.search.schema import space_schema
from siamtune.search.shipped import shipped_folder, shipped_spaces
from siamtune.search.space import load_space, to_yaml

VALIDATOR = Draft202012Validator(space_schema())


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(space_schema())


def test_the_shipped_schema_is_the_current_one() -> None:
    """Write it anew with: siamtune spaces schema > search_spaces/schema.json"""
    shipped = (shipped_folder() / "schema.json").read_text()
    assert json.loads(shipped) == space_schema()


@pytest.mark.parametrize("name", ["full", "lfw", "quickstart", "seed2016"])
def test_shipped_spaces_satisfy_the_schema(name: str) -> None:
    VALIDATOR.validate(plain(shipped_spaces()[name].read_text()))
    VALIDATOR.validate(plain(to_yaml(load_space(name))))


def test_every_dial_is_there_with_its_meaning() -> None:
    properties = space_schema()["properties"]["space"]["properties"]
    assert set(properties) == set(DEFAULTS) - {"epochs"}
    for name, schema in properties.items():
        assert description(name) in schema["description"]


@pytest.mark.parametrize(
    "text",
    [
        "version: 2\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1",
        "version: 1\nspace: {}",
        "version: 1\nspace: {optim.lrr: {float: [1, 2]}}",
        "version: 1\nspace: {optim.lr: {float: [1]}}",
        "version: 1\nspace: {optim.lr: {float: [0, 2]}}",
        "version: 1\nspace: {optim.lr: {float: [1, 2], int: [1, 2]}}",
        "version: 1\nspace: {optim.lr: {float: [1, 2], lgo: true}}",
        "version: 1\nspace: {optim.lr: {choice: [1, 2], log: true}}",
        "version: 1\nspace: {model.embedding_size: {float: [16, 32]}}",
        "version: 1\nspace: {model.embedding_size: {int: [16, 4096]}}",
        "version: 1\nspace: {model.activation: {choice: [rleu]}}",
        "version: 1\nspace: {model.activation: {choice: []}}",
        "version: 1\nspace: {model.activation: {choice: [relu, relu]}}",
        "version: 1\nspace: {data.grayscale: {choice: ['true']}}",
        "version: 1\nspace: {epochs: {int: [1, 2]}}",
        "version: 1\nspace: {optim.lr: {float: [1, 2], when: {loss.nam: supcon}}}",
        "version: 1\nspace: {optim.lr: {float: [1, 2], when: {loss.name: supco}}}",
        "version: 1\nfixed: {model.dropout: 2}\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nstart: {}\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nobjective: {metric: val/eer, mode: max}\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nstudy: {scheduler: hyperband}\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nstudy: {scheduler: {asha: {eta: 1}}}\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nstudy: {sampler: {tpe: {seed: 1}}}\nspace: {optim.lr: {float: [1, 2]}}",
    ],
)
def test_broken_spaces_do_not_satisfy_the_schema(text: str) -> None:
    assert not VALIDATOR.is_valid(plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nstudy: {scheduler: none, sampler: random}\nspace: {optim.lr: {float: [1, 2]}}",
        "version: 1\nstudy: {scheduler: {asha: }}\nspace: {optim.lr: {choice: [1, 2]}}",
        "version: 1\nobjective: {metric: val/eer}\nspace: {optim.warmup_epochs: {int: [1, 2]}}",
        "version: 1\nstart: [{}]\nspace: {data.images_per_person: {choice: [2, null]}}",
    ],
)
def test_sound_spaces_satisfy_the_schema(text: str) -> None:
    VALIDATOR.validate(plain(text))
