"""An installed wheel carries what it needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_a_wheel_carries_the_spaces_and_their_schema(tmp_path: Path) -> None:
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), ROOT],
        capture_output=True,
        text=True,
    )
    if build.returncode and "hatchling" in build.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "search_spaces").rglob("*.*"):
        assert f"siamtune/search_spaces/{path.relative_to(ROOT / 'search_spaces')}" in names
    assert "siamtune/cli/main.py" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]
