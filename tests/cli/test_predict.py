"""`siamtune predict` and `siamtune embed` on files, through the functions that the verbs are."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from siamtune.cli.embed import embed
from siamtune.cli.export import export
from siamtune.cli.main import app
from siamtune.cli.predict import predict, read_pairs
from siamtune.errors import CheckpointError, DataError, InvalidInput, UsageError
from siamtune.shipping import verifier as verifier_module
from siamtune.shipping.verifier import Verifier, load


@pytest.fixture(scope="module")
def verifier(trained_run: Path) -> Verifier:
    return load(trained_run)


def picture(people: Path, person: int, number: int) -> Path:
    return people / f"person {person:02d}" / f"{number}.png"


def test_two_pictures_get_a_verdict(
    verifier: Verifier, trained_run: Path, pattern_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for a, b, words in (((0, 0), (0, 0), "same person"), ((0, 0), (1, 0), "different people")):
        files = [picture(pattern_people, *a), picture(pattern_people, *b)]
        predict(files, model=str(trained_run))
        first, *rest = capsys.readouterr().out.splitlines()
        expected = verifier.verify(*files)
        assert first == words
        *numbers, model = rest
        assert model == f"model        {verifier.path}, resnet trained on {pattern_people.name}"
        told = {line.split()[0]: float(line.split()[1]) for line in numbers}
        assert told == pytest.approx(
            {
                "score": expected.score,
                "threshold": expected.threshold,
                "probability": expected.probability,
            },
            abs=1e-4,
        )


def test_json_is_one_document(
    verifier: Verifier, trained_run: Path, pattern_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [picture(pattern_people, 0, 0), picture(pattern_people, 1, 1)]
    predict(files, model=str(trained_run), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "siamtune.predict/1"
    assert document["model"] == str(trained_run / "best" / "model.safetensors")
    assert document["trained_on"] == pattern_people.name
    expected = vars(verifier.verify(*files))
    assert document["pairs"] == [{"left": str(files[0]), "right": str(files[1]), **expected}]


def test_pairs_of_a_file_are_answered_in_order(
    verifier: Verifier,
    trained_run: Path,
    pattern_people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "near.png").write_bytes(picture(pattern_people, 2, 0).read_bytes())
    rng = np.random.default_rng(0)
    chosen = [
        [str(picture(pattern_people, *rng.integers((40, 5)))) for _ in range(2)] for _ in range(50)
    ]
    chosen.append(["near.png", str(picture(pattern_people, 2, 1))])  # beside the CSV file
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["left", "right"], *chosen])
    predict(pairs=path, model=str(trained_run))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [[row["left"], row["right"]] for row in rows] == chosen
    for row in rows:
        verdict = verifier.verify(tmp_path / row["left"], row["right"])
        assert float(row["score"]) == pytest.approx(verdict.score, abs=1e-3)
        assert row["same"] == str(float(row["score"]) >= float(row["threshold"]))
    order = np.argsort([float(row["score"]) for row in rows])
    probabilities = np.array([float(row["probability"]) for row in rows])[order]
    assert (np.diff(probabilities) >= 0).all()
    assert len(set(probabilities)) > 20


def test_unreadable_pictures_leave_gaps_and_an_exit_code(
    trained_run: Path, pattern_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = picture(pattern_people, 0, 0)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    path = tmp_path / "pairs.csv"
    path.write_text(f"{good},bad.jpg\n{good},{good}\n")
    with pytest.raises(DataError, match="1 of 2 pairs have no answer"):
        predict(pairs=path, model=str(trained_run))
    captured = capsys.readouterr()
    _, gap, answer = captured.out.splitlines()
    assert gap == f"{good},bad.jpg,,,,"
    assert answer.startswith(f"{good},{good},True,")
    assert "bad.jpg cannot be read" in captured.err
    path.write_text(f"{good},absent.jpg\n")
    with pytest.raises(DataError, match=r"absent.jpg must be pictures, but do not exist"):
        predict(pairs=path, model=str(trained_run))


@pytest.mark.parametrize("text", ["", "left,right\n", "a.jpg\n", "a.jpg,b.jpg\nc.jpg,\n", "\0,\n"])
def test_files_without_pairs_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="two paths"):
        read_pairs(path)
    with pytest.raises(InvalidInput, match="must be a CSV file of two paths a line"):
        read_pairs(tmp_path / "absent.csv")


def test_what_is_asked_must_be_clear(tmp_path: Path) -> None:
    for pictures, pairs in ((None, None), ([Path("a")], None), ([Path("a"), Path("b")], Path("c"))):
        with pytest.raises(UsageError, match="give two pictures"):
            predict(pictures, pairs)


def test_the_model_is_named_by_option_or_environment_and_else_built_in(
    trained_run: Path,
    pattern_people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [picture(pattern_people, 0, 0), picture(pattern_people, 1, 0)]
    output = tmp_path / "runs"
    output.mkdir()
    (output / "tiny").symlink_to(trained_run)
    monkeypatch.setattr(verifier_module, "BUILT_IN", tmp_path / "built_in")
    with pytest.raises(CheckpointError, match="no built-in model: name one with --model"):
        predict(files, output=output)
    with pytest.raises(CheckpointError, match="no built-in model"):
        load()
    for name in ("tiny", "latest"):
        predict(files, model=name, output=output)
    *_, model = capsys.readouterr().out.splitlines()
    assert model.startswith(f"model        {output / 'tiny' / 'best' / 'model.safetensors'}, ")
    with pytest.raises(CheckpointError, match=r"--model must be.*runs there: tiny"):
        predict(files, model="tin", output=output)
    predict(files, model="lfw", output=output)  # by its name it is there all the same
    assert "resnet trained on lfw" in capsys.readouterr().out

    export(str(trained_run), tmp_path / "built_in")
    capsys.readouterr()
    predict(files, output=output)
    answer = capsys.readouterr().out
    assert f"model        built-in, resnet trained on {pattern_people.name}\n" in answer
    assert load().verify(*files) == load(trained_run).verify(*files)
    monkeypatch.setenv("SIAMTUNE_MODEL", str(trained_run))
    result = CliRunner().invoke(app, ["predict", *map(str, files), "--output", str(tmp_path)])
    assert result.exit_code == 0
    assert f"model        {trained_run}" in result.output


def test_a_folder_becomes_one_file_without_pickles(
    verifier: Verifier,
    trained_run: Path,
    pattern_people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    places = ["b.png", "deep/er/é.PNG", ".hidden/c.png", "deep/.d.png", "notes.txt"]
    for number, place in enumerate(places):
        (folder / place).write_bytes(picture(pattern_people, number, 0).read_bytes())
    (folder / "a.jpg").write_bytes(b"no picture")
    to = tmp_path / "embeddings.npz"
    embed(folder, to, str(trained_run), as_json=True)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["schema"] == "siamtune.embed/1"
    assert document["unreadable"] == [str(folder / "a.jpg")]
    assert "a.jpg cannot be read; it is left out" in captured.err
    with np.load(to, allow_pickle=False) as saved:
        assert saved["names"].tolist() == ["b.png", "deep/er/é.PNG"]
        files = [picture(pattern_people, number, 0) for number in (0, 1)]
        assert np.allclose(saved["embeddings"], verifier.embed(files), atol=1e-6)
        assert saved["embeddings"].dtype == np.float32
        assert str(saved["distance"]) == "l2"
        assert float(saved["threshold"]) == verifier.threshold
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embeddings.npz", "photos"]


def test_folders_and_files_that_cannot_be_used_are_refused(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    model = str(trained_run)
    with pytest.raises(UsageError, match=r"must name an .npz file"):
        embed(pattern_people, tmp_path / "out.npy", model)
    with pytest.raises(DataError, match="must be a folder of pictures"):
        embed(tmp_path / "absent", tmp_path / "out.npz", model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="but has none"):
        embed(tmp_path / "empty", tmp_path / "out.npz", model)
    (tmp_path / "empty" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="none of 1 can be read"):
        embed(tmp_path / "empty", tmp_path / "out.npz", model)
    with pytest.raises(InvalidInput, match="cannot be written"):
        embed(pattern_people, tmp_path / "absent" / "out.npz", model)
