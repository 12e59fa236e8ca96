"""docs/tour.ipynb runs from end to end, and what is committed is what running it gave."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "tour.ipynb"


@pytest.mark.ray
def test_the_notebook_runs_from_end_to_end(
    tmp_path: Path, ray_here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_ADDRESS", ray_here)  # starting another one takes its time
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    committed = [kinds(cell) for cell in notebook.cells]
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert (tmp_path / "runs/notebook/best/model.safetensors").is_file()
    assert [kinds(cell) for cell in notebook.cells] == committed


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    """What a cell shows: text, a table, a picture. A command's text may come in several parts."""
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", ["text"])}


def test_the_notebook_shows_no_place_of_a_machine_and_is_small() -> None:
    text = NOTEBOOK.read_text()
    assert not re.findall(r"(?:/home|/root|/tmp|/work|/Users)/\w+", text)
    assert len(text) < 400_000
    notebook = nbformat.validator.validate(nbformat.read(NOTEBOOK, as_version=4))
    assert notebook is None
