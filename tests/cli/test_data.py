"""`siamtune data`: what is there, in words and in JSON."""

import json
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import sklearn.datasets
from typer.testing import CliRunner

from siamtune.cli.data import app
from siamtune.errors import DataError


def lfw(home: Path) -> Path:
    folder = home / "lfw_home" / "lfw"
    for person in ("Ann_Lee", "Bo_Diaz"):
        (folder / person).mkdir(parents=True)
        for i in (1, 2):
            (folder / person / f"{person}_{i:04d}.jpg").write_bytes(b"picture")
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_list_says_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    folder = lfw(tmp_path)
    demo, found, missing = run("list", "--data-home", str(tmp_path)).splitlines()
    assert " ".join(demo.split()) == "demo 160 people 1,938 pictures rendered by siamtune"
    assert found.split() == ["lfw", "2", "people", "4", "pictures", str(folder)]
    assert "siamtune data fetch olivetti" in missing


def test_list_as_json_has_numbers(tmp_path: Path) -> None:
    document = run_json("list", "--data-home", str(lfw(tmp_path).parent))
    assert document["schema"] == "siamtune.data.list/1"
    rows = {row["name"]: row for row in document["sources"]}
    assert rows["demo"]["found"]
    assert rows["demo"]["folder"] is None
    assert rows["lfw"]["pictures"] == 4
    assert rows["lfw"]["people"] == 2
    assert rows["lfw"]["folder"] == str(tmp_path / "lfw_home" / "lfw")
    assert not rows["olivetti"]["found"]
    assert "--data-home" in rows["olivetti"]["fault"]


def test_fetch_shows_what_is_there_already(tmp_path: Path) -> None:
    folder = lfw(tmp_path)
    assert str(folder) in run("fetch", "lfw", "--data-home", str(tmp_path))
    document = run_json("fetch", "lfw", "--data-home", str(tmp_path))
    assert document["schema"] == "siamtune.data.fetch/1"
    assert document["people"] == 2


def test_fetch_that_fails_raises_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", fail)
    with pytest.raises(DataError, match="could not be downloaded"):
        run("fetch", "lfw", "--data-home", str(tmp_path))
