"""The frame of the benchmarks: a result file, its table, and a regression that shows."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([2.0, 2.1, 2.2], [2.6, 2.7, 2.8], "worse"),
        ([2.0, 2.1, 2.2], [1.0, 1.1, 1.2], "better"),
        ([2.0, 2.1, 2.9], [2.6, 2.7, 2.8], ""),  # within the spread
    ],
)
@pytest.mark.parametrize("better", ["less", "more"])
def test_a_regression_beyond_the_spread_is_marked(
    before: list[float],
    after: list[float],
    said: str,
    better: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from measuring import Figure, read_result, table, write_result

    if better == "more":
        said = {"worse": "better", "better": "worse", "": ""}[said]
    files = tmp_path / "before.json", tmp_path / "after.json"
    for path, ratios in zip(files, (before, after), strict=True):
        ours = [ratio * 4 for ratio in ratios]
        write_result(path, [Figure("S0 what", "theirs", "s", ours, [4.0] * 3, better, goal=2.15)])
    conditions, figures = read_result(files[0])
    assert conditions["versions"]["python"] == sys.version.split()[0]
    reached = "yes" if better == "less" else "no"  # 2.1 is less than 2.15
    assert table(figures).splitlines()[-1].endswith(f"[{before[0]:g}, {before[-1]:g}], 3x "
                                                    f"| {'<=' if better == 'less' else '>='} 2.15 "
                                                    f"| {reached} |")  # fmt: skip
    told = subprocess.run(
        [sys.executable, BENCHMARKS / "compare", *files], capture_output=True, text=True
    )
    assert told.returncode == (said == "worse"), told.stderr
    (line,) = [line for line in told.stdout.splitlines() if "S0 what" in line]
    assert line.endswith(f"| {said} |")
