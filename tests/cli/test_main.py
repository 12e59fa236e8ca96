"""The command line as a shell sees it: exit codes, streams, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from siamtune.cli.main import app
from siamtune.errors import DataError

HEAVY = ("torch", "ray", "optuna", "cv2", "sklearn", "dlib")


def siamtune(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "siamtune", *words], capture_output=True, text=True, cwd=cwd
    )


@pytest.mark.parametrize("words", [["--help"], ["search", "-h"], ["spaces", "check", "full"]])
def test_help_and_checks_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from siamtune.cli.main import app\n"
        f"try: app({words!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_version_is_told() -> None:
    from siamtune import __version__

    assert siamtune("--version").stdout == f"siamtune {__version__}\n"


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        (["search"], 2, "Missing option '--space'"),
        (["serach"], 2, "No such command"),
        (["search", "--space", "full", "--trials", "0"], 2, "greater than or equal to 1"),
        (["search", "--space", "full", "--time-budget", "ten"], 2, "must be like 90s, 10m, 2h"),
        (["search", "--space", "full", "--set", "optim.lr"], 2, "--set must be key=value"),
        (["search", "--space", "ful"], 3, "full"),
        (["search", "--space", "full", "--set", "optim.lrr=1"], 3, "optim.lr"),
        (["search", "--space", "full", "--set", "optim.lr=fast"], 3, "optim.lr"),
        (["search", "--space", "quickstart", "--data", "nowhere"], 3, "nowhere"),
        (["search", "--space", "quickstart", "--data", "lfw", "--data-home", "."], 3, "lfw"),
        (["train", "--config", "absent.yaml"], 3, "absent.yaml: must be a configuration's file"),
        (["train", "--set", "model.architecture=chopra", "--set", "data.resolution_px=32"], 3,
         "chopra needs data.resolution_px >= 46, but got 32"),
        (["resume", "nothing"], 3, "must be a run folder or the name of a run"),
        (["board", "nothing"], 3, "must be a run folder or the name of a run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_fault_gives_one_message_and_its_exit_code(
    tmp_path: Path, words: list[str], code: int, phrase: str
) -> None:
    done = siamtune(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert phrase in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_v_shows_where_it_happened(tmp_path: Path) -> None:
    done = siamtune("train", "--config", "absent.yaml", "-v", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_the_environment_names_the_file_of_landmarks(tmp_path: Path, pattern_people: Path) -> None:
    words = ["train", "--data", str(pattern_people), "--set", "data.crop=aligned"]
    done = CliRunner().invoke(
        app, [*words, "--output", str(tmp_path)], env={"SIAMTUNE_LANDMARKS": "absent.dat"}
    )
    assert isinstance(done.exception, DataError)
    assert "absent.dat" in str(done.exception)


def test_a_configuration_is_trained_without_ray(tmp_path: Path, pattern_people: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(
        "model: {architecture: resnet, width: 0.5, embedding_size: 16}\n"
        "data: {crop: haar, resolution_px: 16}\nbatch: {images: 16}\noptim: {lr: 1e-3}\nepochs: 2\n"
    )
    code = (
        "import sys; from siamtune.cli.main import run\n"
        "sys.argv[1:] = ['train', '--config', 'tiny.yaml', '--data', sys.argv[1], '--name', 'one',"
        " '--json']\nrun(); assert 'ray' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(pattern_people)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "haar found no face in 200 of 200 pictures" in done.stderr  # patterns are no faces
    document = json.loads(done.stdout)
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2]
    assert Path(tmp_path / document["model"]).exists()
    again = siamtune(
        "train",
        "--config",
        "runs/one/best.yaml",
        "--data",
        str(pattern_people),
        "--json",
        cwd=tmp_path,
    )
    assert json.loads(again.stdout)["best"]["val/auc"] == document["best"]["val/auc"]
    listed = json.loads(siamtune("ls", "--json", cwd=tmp_path).stdout)
    assert "one" in json.dumps(listed)
