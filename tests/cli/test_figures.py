"""`siamtune figures`: files that are pictures, of the pairs and people that they claim."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from siamtune.cli.figures import figures
from siamtune.cli.main import app
from siamtune.errors import DataError, InvalidInput, UsageError
from siamtune.shipping.verifier import load
from siamtune.verification.calibration import Calibration

ALL = ["pair", "map", "layers", "saliency", "mosaic"]


def test_a_run_gives_every_figure_as_a_picture(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "deep" / "figures"
    figures(to, str(trained_run), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "siamtune.figures/1"
    assert list(document["files"]) == ALL
    for path in document["files"].values():
        picture = cv2.imread(path)
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
    right, wrong = document["pairs"][:2], document["pairs"][2:]
    assert [pair["same"] for pair in right] == [pair["truth"] for pair in right] == [True, False]
    for pair in wrong:
        assert pair["same"] != pair["truth"]
    for pair in document["pairs"]:
        people = [pair[side].partition("/")[0] for side in ("left", "right")]
        assert (people[0] == people[1]) == pair["truth"]


def test_own_photographs_get_the_verdict_of_predict(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    files = [str(pattern_people / "person 00" / f"{number}.png") for number in (0, 1)]
    arguments = ["figures", "--model", str(trained_run), "--to", str(tmp_path), "--pair", *files]
    result = CliRunner().invoke(app, [*arguments, "--format", "svg", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert list(document["files"]) == ["pair", "layers", "saliency"]  # nobody else to show
    (pair,) = document["pairs"]
    verdict = vars(load(trained_run).verify(*files))
    told = {name: pair[name] for name in verdict}
    assert told == pytest.approx(verdict, abs=1e-5)
    drawn = Path(document["files"]["pair"]).read_text()
    assert "<svg" in drawn
    assert "same person" in drawn  # matplotlib notes each text beside its letters
    again = tmp_path / "again"
    figures(again, model=str(trained_run), pair=(Path(files[0]), Path(files[1])), only="pair",
            format_="svg")  # fmt: skip
    assert (again / "pair.svg").read_text() == drawn


def test_only_what_is_asked_for_is_drawn_with_the_data_that_are_named(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    figures(tmp_path, model=str(trained_run), data=str(pattern_people), only="mosaic, map")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "mosaic.png"]


def test_what_cannot_be_drawn_is_refused(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    run, photograph = str(trained_run), pattern_people / "person 00" / "0.png"
    with pytest.raises(UsageError, match=r"--only must be some of pair,map,.* got 'pairs'"):
        figures(tmp_path, run, only="pairs")
    with pytest.raises(UsageError, match="--format must be png or svg, but got 'pdf'"):
        figures(tmp_path, run, format_="pdf")
    with pytest.raises(UsageError, match="give a run or --model"):
        figures(tmp_path, run, model=run)
    with pytest.raises(UsageError, match="say whom with --data"):
        figures(tmp_path, model=run, pair=(photograph, photograph), only="map")
    with pytest.raises(InvalidInput, match="must be the number of a trial"):
        figures(tmp_path, run, 7)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad.png cannot be read"):
        figures(tmp_path / "new", model=run, pair=(photograph, tmp_path / "bad.png"))
    with pytest.raises(InvalidInput, match="choose another --to"):
        figures(tmp_path / "bad.png", model=run, pair=(photograph, photograph), only="pair")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png"]


def test_a_name_is_text_and_no_formula(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    photograph = tmp_path / "$\\frac{$.png"
    photograph.write_bytes((pattern_people / "person 00" / "0.png").read_bytes())
    figures(tmp_path, model=str(trained_run), pair=(photograph, photograph), format_="svg")
    assert "$\\frac{$.png" in (tmp_path / "pair.svg").read_text()


def test_the_map_puts_near_embeddings_near_and_no_face_on_another() -> None:
    from siamtune.report.figures import _grid_cells, _on_grid

    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.normal(place, 0.1, (30, 2)) for place in ((0, 0), (9, 9))])
    columns, rows = _grid_cells(60)
    cells = _on_grid(plane, columns, rows)
    assert len({tuple(cell) for cell in cells}) == 60
    assert (cells >= 0).all()
    assert (cells < (columns, rows)).all()
    first, second = cells[:30].mean(0), cells[30:].mean(0)
    assert (first + 1 < second).all()  # there are seven rows


@pytest.mark.parametrize(("scorer", "threshold"), [(None, -0.3), (object(), 0.4), (object(), -0.3)])
def test_the_threshold_lies_on_the_axis_whatever_scores(
    scorer: object | None, threshold: float
) -> None:
    from matplotlib.figure import Figure

    from siamtune.report.figures import _calibration

    verifier = SimpleNamespace(
        scorer=scorer, scorer_name="cosine", threshold=threshold,
        calibration=Calibration(15.0, -15.0 * threshold),
    )  # fmt: skip
    pair = SimpleNamespace(
        verdict=SimpleNamespace(score=threshold - 0.3, probability=0.01, same=False)
    )
    axes = Figure().subplots()
    _calibration(axes, [pair], verifier)  # type: ignore[list-item, arg-type]
    low, high = axes.get_xlim()
    assert low < threshold - 0.3 < threshold < high
    if scorer is None:
        assert high <= 0.0  # a distance is never negative
