"""The plan of the house: who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "siamtune"
# From top to bottom; a room imports only rooms on lower floors. Rooms on one floor never see
# each other.
FLOORS = [
    {"cli"},
    {"launch"},
    {"report"},
    {"shipping"},
    {"training"},
    {"verification"},
    {"models", "losses", "data"},
    {"search"},
    {"config", "errors", "folders"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
# On the ground floor the configuration raises errors; the faults themselves know nothing.
GROUND = {("config", "errors")}
ONLY = {"ray": {"launch"}, "torch.distributed": {"training", "launch"}}
NO_TORCH = {"search", "config", "errors", "folders", "cli"}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "siamtune")
FILES += [PACKAGE / f"{name}.py" for name in ("config", "errors", "folders")]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, at_top_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in FILES} <= set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_room_looks_up(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "siamtune" or parts[1] == "__version__":
            continue
        other = parts[1]
        allowed = other == room or FLOOR[other] > FLOOR[room] or (room, other) in GROUND
        assert allowed, f"{room} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_their_rooms_import_ray_and_torch_distributed(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        for package, rooms in ONLY.items():
            if name == package or name.startswith(f"{package}."):
                assert room in rooms, f"{room} must not import {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room_of(path) in NO_TORCH],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_ground_floor_and_the_command_line_import_no_torch_at_the_top(path: Path) -> None:
    for name in imports(path, at_top_only=True):
        assert name.split(".")[0] not in {"torch", "ray", "cv2", "dlib", "sklearn"}, name
        if room_of(path) == "cli" and path.name != "main.py":
            assert not name.startswith(
                (
                    "siamtune.training",
                    "siamtune.data",
                    "siamtune.launch",
                    "siamtune.models",
                    "siamtune.shipping",
                )
            ), name
