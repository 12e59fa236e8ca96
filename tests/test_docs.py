"""README and docs hold: commands parse, the cheap ones run, Python runs, additions train."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
README = PAGES["README.md"].read_text()
PICTURE_BYTES, PICTURES_BYTES = 150_000, 1_000_000
# What these commands do costs a moment and no Ray; the others are parsed.
CHEAP = {"ls", "top", "show", "diff", "report", "export", "predict", "embed", "spaces", "data",
         "figures"}  # fmt: skip
# What a stranger has: one run of one trial.
ONLY_TRIAL = re.compile(r"^(show|export|diff|figures)\b.* \d+$")


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    joined = [block.replace("\\\n", " ") for block in code_blocks(text, "sh")]
    lines = [line for block in joined for line in block.splitlines()]
    parts = [
        shlex.split(part.split(" > ")[0], comments=True)
        for line in lines
        for part in line.split("&&")
    ]
    return [part for part in parts if part and part[0].endswith("siamtune")]


def all_commands() -> list[tuple[str, list[str]]]:
    return [(page, c) for page, path in PAGES.items() for c in commands(path.read_text())]


@pytest.mark.parametrize("command", all_commands(), ids=lambda c: f"{c[0]}: {' '.join(c[1][1:])}")
def test_every_command_is_one_that_siamtune_understands(command: tuple[str, list[str]]) -> None:
    from siamtune.cli.main import app

    found = typer.main.get_command(app)
    root = typer.Context(found, info_name="siamtune")  # type: ignore[arg-type]
    name, rest = "siamtune", command[1][1:]
    while rest and hasattr(found, "resolve_command"):
        name, found, rest = found.resolve_command(root, rest)
    found.make_context(name, list(rest), parent=root)


@pytest.fixture
def stranger(
    trained_run: Path, pattern_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder in which somebody has trained, with pictures named as the docs name them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SIAMTUNE_DATA", str(pattern_people))
    for name in ("tour", "full-1124-101500"):
        shutil.copytree(trained_run, tmp_path / "runs" / name)
    pictures = sorted(pattern_people.glob("*/*.png"))
    for name, picture in zip(("a.jpg", "b.jpg"), pictures, strict=False):
        shutil.copy(picture, tmp_path / name)
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "people").symlink_to(pattern_people)
    (tmp_path / "photographs").symlink_to(pattern_people / "person 00")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "pairs.csv").write_text("left,right\na.jpg,b.jpg\n")
    (tmp_path / "wider.yaml").write_text(code_blocks(README, "yaml")[0])
    return tmp_path


def cheap(page: str) -> Iterator[list[str]]:
    for command in commands(PAGES[page].read_text()):
        words = " ".join(command[1:])
        if command[1] in CHEAP and not ONLY_TRIAL.search(words) and "fetch" not in words:
            # Forty negative pairs of the stranger's tell no rate below a fortieth.
            yield ["0.1" if word == "1e-2" else word for word in command]


@pytest.mark.parametrize("page", [page for page in PAGES if any(cheap(page))])
def test_cheap_commands_and_python_run_in_the_order_of_the_page(page: str, stranger: Path) -> None:
    from siamtune.cli.main import app

    for command in cheap(page):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            app(command[1:], standalone_mode=False)
        assert said.getvalue().strip(), command
    space: dict[str, object] = {}
    for block in code_blocks(PAGES[page].read_text(), "python"):
        exec(compile(block, page, "exec"), space)


def test_the_first_screen_has_the_two_commands() -> None:
    first, second = code_blocks(README, "sh")[:2]
    assert len(first.strip().splitlines()) == len(second.strip().splitlines()) == 1
    assert "siamtune search --space spaces/full.yaml" in first
    assert first.count("pip install -c constraints.txt") == 1
    assert second.strip().endswith("pytest")


def spaces() -> list[tuple[str, str]]:
    return [
        (page, block)
        for page, path in PAGES.items()
        if page != "extend.md"  # whose dial is not there yet
        for block in code_blocks(path.read_text(), "yaml")
        if "version: 1" in block
    ]


@pytest.mark.parametrize(("page", "block"), spaces())
def test_every_whole_space_is_a_space(page: str, block: str, tmp_path: Path) -> None:
    from siamtune.search.space import load_space

    (tmp_path / "space.yaml").write_text(block)
    assert load_space(str(tmp_path / "space.yaml")).dimensions


def test_the_tree_in_the_readme_is_the_one_on_disk() -> None:
    rooms = set(re.findall(r"^siamtune/(\w+)  ", README, re.MULTILINE))
    assert rooms == {path.parent.name for path in ROOT.glob("siamtune/*/__init__.py")}


@pytest.mark.parametrize(
    ("room", "dial"),
    [("architecture", "model.architecture"), ("loss", "loss.name"), ("distance", "loss.distance"),
     ("crop", "data.crop"), ("normalization", "data.normalization")],
)  # fmt: skip
def test_the_readme_names_every_choice(room: str, dial: str) -> None:
    from siamtune.config import choices

    (row,) = re.findall(rf"^\| {room} \| (.*) \|$", README, re.MULTILINE)
    assert set(choices(dial) or ()) <= set(re.findall(r"`([^`]+)`", row))


def test_the_readme_names_every_shipped_space() -> None:
    from siamtune.search.shipped import shipped_spaces

    table = README.split("| shipped space |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(shipped_spaces())


def test_numbers_and_spaces_name_every_objective() -> None:
    from siamtune.search.settings import METRICS

    for page in ("numbers.md", "spaces.md"):
        text = PAGES[page].read_text()
        assert [metric for metric in METRICS if f"`{metric}`" not in text] == [], page


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        found = page.parent / target if target else page
        assert found.exists(), link
        assert not anchor or anchor in headings(found), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)", README))
    assert {page for page in PAGES if page != "README.md"} <= linked


def test_contributing_says_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    checks = re.findall(r"^(?:ruff|mypy|bandit|pytest)\b.*$", script, re.MULTILINE)
    block = (ROOT / "CONTRIBUTING.md").read_text().split("exactly what CI runs:\n\n")[1]
    told = block.split("\n\n")[0].replace("&&", "\n")
    assert sorted(line.strip() for line in told.splitlines()) == sorted(checks)


def test_pictures_are_small_and_all_of_them_are_shown() -> None:
    shown = "".join(path.read_text() for path in PAGES.values())
    pictures = [path for path in (ROOT / "docs").iterdir() if path.suffix in (".jpg", ".png")]
    for picture in pictures:
        assert picture.name in shown, picture
        assert picture.stat().st_size < PICTURE_BYTES, picture
    assert sum(picture.stat().st_size for picture in pictures) < PICTURES_BYTES


def test_every_exit_code_of_the_errors_is_documented() -> None:
    from siamtune import errors

    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.SiamtuneError)
    }
    listed = README[README.index("Exit codes:") : README.index("stdout carries")]
    assert codes <= {int(code) for code in re.findall(r"\b\d+\b", listed)}


EXTEND = PAGES["extend.md"].read_text()
TRAIN_WITH_WHAT_WAS_ADDED = """
import sys
import torch
from torch import nn
from siamtune.cli.main import app
from siamtune.config import LossConfig, ModelConfig
from siamtune.losses import build_loss
from siamtune.models import build_model
from siamtune.search.space import load_space

space, *commands = sys.argv[1:]
for command in commands:
    app(command.split()[1:], standalone_mode=False)

network = build_model(ModelConfig(architecture="linear"), channels=1, resolution_px=16)
assert sum(p.numel() for p in network.parameters()) == 256 * 128 + 128

loss = build_loss(LossConfig(name="logit", distance="l2"), embedding_size=1, identities=2)
at = torch.tensor([[0.0], [1.0], [4.0]])  # the first two are one person; the margin is 2
near, far = torch.tensor([-1.0]).exp().log1p(), torch.tensor([-2.0, -1.0]).exp().log1p().mean()
torch.testing.assert_close(loss(at, torch.tensor([0, 0, 1]), None), (near + far).mean() / 2)

assert [dial.name for dial in load_space(space).dimensions] == ["optim.clip_norm"]
"""


def applied(text: str, hunks: str) -> str:
    """`text` with each hunk in place of its old lines, which must be there exactly once."""
    for hunk in hunks.split("...\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        new = "".join(line[1:] for line in lines if line[0] != "-")
        assert f"\n{text}".count(f"\n{old}") == 1, hunk
        text = f"\n{text}".replace(f"\n{old}", f"\n{new}")[1:]
    return text


def additions(text: str) -> list[tuple[str, str]]:
    """The file that a line begins with, and the next block of changes."""
    return re.findall(r"^`(siamtune/[\w/]+\.py)`.*?^```diff\n(.*?)^```", text, re.M | re.S)


def section(heading: str) -> str:
    return EXTEND.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("heading", ["An architecture", "A loss", "A dial"])
def test_an_addition_takes_five_lines_at_most(heading: str) -> None:
    lines = [line for _, hunks in additions(section(heading)) for line in hunks.splitlines()]
    assert 1 <= sum(line.startswith("+") for line in lines) <= 5
    assert len(additions(section(heading))) == len(code_blocks(section(heading), "diff"))


def test_what_the_docs_add_to_a_copy_of_the_package_trains(
    tmp_path: Path, pattern_people: Path
) -> None:
    copy = tmp_path / "siamtune"
    shutil.copytree(ROOT / "siamtune", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, hunks in additions(EXTEND):
        file = tmp_path / name
        file.write_text(applied(file.read_text(), hunks))
    (space,) = code_blocks(EXTEND, "yaml")
    (tmp_path / "space.yaml").write_text(space)
    lines = [
        f"{' '.join(command)} --epochs 1 --set data.resolution_px=24 --name run{number} --threads 1"
        for number, command in enumerate(c for c in commands(EXTEND) if c[1] == "train")
    ]
    assert len(lines) == 3
    # The same training without the new dial.
    small = "siamtune train --epochs 1 --set data.resolution_px=24 --threads 1 --name default"
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "SIAMTUNE_DATA": str(pattern_people),
        "SIAMTUNE_CACHE": str(tmp_path / "cache"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN_WITH_WHAT_WAS_ADDED, "space.yaml", *lines, small],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.count("best: epoch 1") == 4
    configurations = [(tmp_path / f"runs/run{n}/best.yaml").read_text() for n in range(3)]
    for word, configuration in zip(("linear", "logit", "clip_norm"), configurations, strict=True):
        assert word in configuration
    assert epoch_line(tmp_path / "runs/run2") != epoch_line(tmp_path / "runs/default")


def epoch_line(run: Path) -> str:
    """The training loss of a run's only epoch."""
    (found,) = re.findall(r'"train/loss": ([0-9.]+)', (run / "trials.jsonl").read_text())
    return str(found)


def test_the_measurement_of_2016_trains_and_keeps_its_bytes(
    pattern_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of benchmarks/mistakes_of_2016.py; the whole of it takes minutes and LFW."""
    import numpy as np
    import torch

    from siamtune.config import trial_config
    from siamtune.data.prepare import prepare
    from siamtune.data.sources import open_source
    from siamtune.verification.pairs import verification_pairs

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from mistakes_of_2016 import AsBytes, auc_of_distance, trained, two_of_each

    images = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    written = images.astype(int)  # -1 becomes 255 in a byte
    for picture in written:
        picture[:] = (picture - picture.min()) / np.ptp(picture) * 2 - 1
    bytes_of_2016 = AsBytes()(torch.from_numpy(images).float()).numpy()
    np.testing.assert_array_equal(bytes_of_2016, written.astype(np.uint8))

    pool, one_photograph = two_of_each(images, np.array([0, 1, 1]))
    assert pool.shape == (4, 1, 8, 8)
    assert one_photograph in (0.5, 1.0)  # the first person has one photograph only

    config = trial_config({"data.resolution_px": 16, "model.width": 0.25, "epochs": 2})
    faces = prepare(open_source(str(pattern_people)), config.data, cache_folder=tmp_path)
    pairs = verification_pairs(faces.indices("validation"), faces.identities, seed=0)
    first, last = trained(config, faces, "patterns")
    figures = [auc_of_distance(e, faces.images, faces.identities, pairs) for e in (first, last)]
    assert figures[0] != figures[1]
    assert all(0 <= float(figure.split()[0]) <= 1 for figure in figures)
