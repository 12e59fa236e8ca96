"""`siamtune data check`: what it prints, and exit code 3 for a leak."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtune.cli.data import check_source
from siamtune.cli.search import tell_leaks
from siamtune.data.split import split_identities
from siamtune.errors import DataError
from siamtune.launch.job import DataSpec
from siamtune.launch.worker import _source, data_source


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for person in range(8):
        (tmp_path / "album" / f"p{person}").mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "album" / f"p{person}" / f"{number}.png"), pixels)
    return tmp_path / "album"


def test_a_clean_folder_is_told_with_protocol_and_split(
    album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_source(str(album), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["duplicates"] == []
    check_source(str(album))
    printed = capsys.readouterr().out
    assert f"identity-holdout, split {document['splits'][0]}: nobody is in two parts" in printed


def test_a_leak_is_refused_by_name(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for person in range(1, 8):  # in whatever part p0 is, somebody is in another
        (album / f"p{person}" / "copy.png").write_bytes((album / "p0" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"nearly equal pictures .* p0/0\.png = p\d/copy\.png"):
        check_source(str(album))
    assert DataError.exit_code == 3
    assert "leak: two people, one picture: p0/0.png = " in capsys.readouterr().out


def test_every_run_tells_of_a_leak_and_of_files_that_cannot_be_read(
    album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        spec = DataSpec(str(album))
        source = data_source(spec)
        split = split_identities(source.identities, source.names, seed=0)
        tell_leaks(spec, [split], lambda what, done, total: None)
        return capsys.readouterr().err.splitlines()

    assert told() == []
    for person in range(1, 8):
        (album / f"p{person}" / "copy.png").write_bytes((album / "p0" / "0.png").read_bytes())
    (album / "p4" / "1.png").write_bytes(b"")
    _source.cache_clear()
    leak, unreadable = told()
    assert leak.startswith("caution: ")
    assert "photographs are filed under two people who are in different parts, e.g. p" in leak
    assert leak.endswith(f"siamtune data check {album}")
    assert unreadable == "caution: 1 pictures cannot be read and are left out: p4/1.png"
