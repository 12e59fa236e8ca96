import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from siamtune.cli.spaces import app
from siamtune.errors import SpaceError
from siamtune.search.schema import space_schema
from siamtune.search.shipped import shipped_spaces
from siamtune.search.space import load_space


def spaces(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def broken(tmp_path: Path) -> str:
    path = tmp_path / "broken.yaml"
    path.write_text("version: 1\nspace:\n  optim.lr: {float: [2, 1]}\n  nope: {choice: [1]}\n")
    return str(path)


def test_list_names_every_shipped_space() -> None:
    result = spaces("list")
    assert result.exit_code == 0
    header, *rows = result.output.splitlines()
    assert header.split() == ["name", "dials", "trials", "epochs", "about"]
    assert [row.split()[0] for row in rows] == ["full", "lfw", "quickstart", "seed2016"]
    document = json.loads(spaces("list", "--json").output)
    assert document["schema"] == "siamtune.spaces.list/1"
    quick = document["spaces"][2]
    assert (quick["name"], quick["dials"], quick["trials"], quick["epochs"]) == (
        "quickstart", 7, 12, 9,
    )  # fmt: skip


def test_show_tells_what_is_tried() -> None:
    output = spaces("show", "full").output
    assert "64 trials of 30 epochs" in output
    assert "start 0: the defaults" in output
    (line,) = (line for line in output.splitlines() if line.startswith("loss.temperature"))
    assert line.split(maxsplit=1)[1].split("  ")[0] == "0.03 to 0.5, log"
    assert line.endswith("loss.name is supcon or ntxent or joint")


def test_show_takes_overrides() -> None:
    result = spaces("show", "full", "--set", "loss.name=triplet", "--epochs", "3", "--json")
    document = json.loads(result.output)
    assert document["schema"] == "siamtune.space/1"
    assert document["fixed"]["loss.name"] == "triplet"
    assert document["fixed"]["epochs"] == 3
    assert "loss.triplet_margin" in document["space"]
    assert "loss.temperature" not in document["space"]


def test_show_of_an_unknown_space_names_those_there_are() -> None:
    result = spaces("show", "ful")
    assert isinstance(result.exception, SpaceError)
    assert "did you mean 'full'?" in str(result.exception)


def test_check_of_sound_spaces_says_so() -> None:
    result = spaces("check", "full", str(shipped_spaces()["quickstart"]))
    assert result.exit_code == 0
    first, second = result.output.splitlines()
    path = shipped_spaces()["full"]
    dials = len(load_space("full").dimensions)
    assert first == f"{path}: no faults; {dials} dials, countless combinations, 100% can be built"
    assert "quickstart.yaml: no faults; 7 dials" in second


def test_check_of_a_broken_space_tells_all_faults(broken: str) -> None:
    result = spaces("check", "full", broken)
    assert isinstance(result.exception, SpaceError)
    assert result.exception.exit_code == 3
    assert str(result.exception).splitlines() == [
        f"{broken}: 2 faults",
        f"{broken}:3: optim.lr: low must be below high, but got [2, 1]; swap them",
        f"{broken}:4: there is no dial 'nope'",
    ]


def test_check_tells_of_a_file_that_is_not_there_and_of_the_others_faults(broken: str) -> None:
    result = spaces("check", broken, "nowhere.yaml")
    assert f"{broken}: 2 faults" in str(result.exception)
    assert "nowhere.yaml: must be a space file" in str(result.exception)
    result = spaces("check", "nowhere.yaml", "quickstart", "--json")
    assert result.exit_code == 3
    absent, sound = json.loads(result.output)["spaces"]
    assert "must be a space file" in absent["faults"][0]["message"]
    assert sound["faults"] == []


def test_check_tells_faults_as_json(broken: str) -> None:
    result = spaces("check", broken, "quickstart", "--json")
    assert result.exit_code == 3
    document = json.loads(result.output)
    faulty, sound = document["spaces"]
    assert [fault["line"] for fault in faulty["faults"]] == [3, 4]
    assert sound["faults"] == []
    assert sound["buildable"] == 1.0


def test_schema_is_the_one_of_the_format() -> None:
    assert json.loads(spaces("schema").output) == space_schema()
