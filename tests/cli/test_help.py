"""Every verb's help begins with examples, and each is a command that siamtune understands."""

import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from siamtune.cli.help import split_examples
from siamtune.cli.main import app
from siamtune.verification.scorers import SCORERS

ROOT: Any = typer.main.get_command(app)
ESCAPE = "\x1b"


def verbs(group: Any = ROOT, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from verbs(command, (*words, name))


EVERY = list(verbs())


@pytest.mark.parametrize(("words", "verb"), EVERY, ids=[" ".join(words) for words, _ in EVERY])
def test_help_begins_with_examples(words: tuple[str, ...], verb: Any) -> None:
    shown = CliRunner().invoke(app, [*words, "-h"]).stdout
    first, *examples = shown[: shown.index("Usage:")].strip().splitlines()
    assert first == "Examples:"
    assert [example.strip() for example in examples] == verb.examples
    for example in verb.examples:
        name, *rest = shlex.split(example.partition(" > ")[0])
        found, root = ROOT, typer.Context(ROOT, info_name=name)
        while rest and hasattr(found, "resolve_command"):
            name, found, rest = found.resolve_command(root, rest)
        found.make_context(name, list(rest), parent=root)
        if words:
            assert example.split()[1 : 1 + len(words)] == list(words)


def test_a_docstring_is_taken_apart() -> None:
    assert split_examples("Do it: siamtune do\n\n    siamtune do --twice\n\nMore.") == (
        ["siamtune do", "siamtune do --twice"],
        "Do it.\n\nMore.",
    )
    assert split_examples("Do it now:\nsiamtune do\n--so") == (["siamtune do --so"], "Do it now.")
    assert split_examples("Without any.") == ([], "Without any.")


@pytest.mark.parametrize("verb", ["evaluate", "rescore"])
def test_the_help_names_every_scorer(verb: str) -> None:
    (option,) = (each for each in ROOT.commands[verb].params if each.name == "scorer")
    named = re.findall(r"\w+", option.help.partition(".")[0].replace(" or ", " "))
    assert set(named) == set(SCORERS)


def test_the_shell_is_told_how_to_complete() -> None:
    shown = " ".join(CliRunner().invoke(app, ["-h"]).stdout.split())
    assert "siamtune --install-completion" in shown


def command(words: str, folder: Path, **environment: str) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    return {
        "args": [sys.executable, "-m", "siamtune", *words.split()],
        "cwd": folder,
        "env": {**clean, "TERM": "xterm-256color", **environment},
    }


def on_a_terminal(words: str, folder: Path, **environment: str) -> str:
    """What a pseudo-terminal gets to see."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        **command(words, folder, **environment), stdin=there, stdout=there, stderr=there
    )
    os.close(there)
    parts = []
    try:
        while part := os.read(here, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(here)
        process.wait()
    return b"".join(parts).decode()


def test_a_terminal_gets_colours_unless_it_wants_none(trained_run: Path) -> None:
    where = trained_run.parent
    words = f"top {trained_run}"
    assert f"{ESCAPE}[" in on_a_terminal(words, where)
    plain = on_a_terminal(words, where, NO_COLOR="1")
    assert "complete" in plain
    assert not re.search(rf"{ESCAPE}\[[0-9;]*(3[0-7]|9[0-7]|38|4[0-7])[0-9;]*m", plain)


@pytest.mark.parametrize("words", ["-h", "show {0} 0", "ls --output {1}"])
def test_a_pipe_gets_no_escape_codes(words: str, trained_run: Path) -> None:
    done = subprocess.run(
        **command(words.format(trained_run, trained_run.parent), trained_run.parent),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout
    assert ESCAPE not in done.stdout + done.stderr
