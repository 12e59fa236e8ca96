"""The README holds: siamtune understands its commands, its Python runs, its tree is there."""

import os
import re
import shlex
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in code_blocks("sh") for line in block.splitlines()]
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [part for part in parts if part and part[0].endswith("siamtune")]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_that_siamtune_understands(command: list[str]) -> None:
    from siamtune.cli.main import app

    found = typer.main.get_command(app)
    root = typer.Context(found, info_name="siamtune")  # type: ignore[arg-type]
    name, rest = "siamtune", command[1:]
    while rest and hasattr(found, "resolve_command"):
        name, found, rest = found.resolve_command(root, rest)
    found.make_context(name, list(rest), parent=root)


def test_the_first_screen_has_the_two_commands() -> None:
    first, second = code_blocks("sh")[:2]
    assert len(first.strip().splitlines()) == len(second.strip().splitlines()) == 1
    assert "siamtune search --space spaces/full.yaml" in first
    assert first.count("pip install -c constraints.txt") == 1
    assert second.strip().endswith("pytest")


def test_the_python_block_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path))
    (block,) = code_blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    assert [0 <= float(line) <= 1 for line in capsys.readouterr().out.split()] == [True, True]


def test_the_space_in_the_readme_is_a_space(tmp_path: Path) -> None:
    from siamtune.search.space import load_space

    (block,) = code_blocks("yaml")
    (tmp_path / "space.yaml").write_text(block)
    assert load_space(str(tmp_path / "space.yaml")).dimensions


def test_the_tree_in_the_readme_is_the_one_on_disk() -> None:
    rooms = set(re.findall(r"^siamtune/(\w+)  ", README, re.MULTILINE))
    there = {e.name for e in os.scandir(ROOT / "siamtune") if e.is_dir() and e.name[0] != "_"}
    assert rooms == there - {"search_spaces"}


def test_pictures_and_files_that_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_exit_code_of_the_errors_is_documented() -> None:
    from siamtune import errors

    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.SiamtuneError)
    }
    listed = README[README.index("Exit codes:") : README.index("stdout carries")]
    assert codes <= {int(code) for code in re.findall(r"\b\d+\b", listed)}
