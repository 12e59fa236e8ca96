from pathlib import Path

import pytest
import torch

from siamtune.errors import CheckpointError
from siamtune.training.checkpoint import (
    load_optimizer_tensors,
    optimizer_tensors,
    read_checkpoint,
    ship_model,
    write_checkpoint,
)


def write(path: Path) -> None:
    write_checkpoint(
        path,
        {"model": {"w": torch.arange(3.0)}, "optimizer": {"0.step": torch.tensor(2.0)}},
        {"config": {"epochs": 3}, "progress": {"epoch": 1}},
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "last.safetensors")
    checkpoint = read_checkpoint(tmp_path / "last.safetensors")
    assert torch.equal(checkpoint.parts["model"]["w"], torch.arange(3.0))
    assert checkpoint.facts["config"] == {"epochs": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_file_cut_anywhere_is_refused_with_one_message(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    write(path)
    whole = path.read_bytes()
    for cut in (0, 1, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="must be a checkpoint written by siamtune"):
            read_checkpoint(path)


def test_foreign_files_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit('a pickle was loaded')",))

    pickled = tmp_path / "model.pkl"
    torch.save({"w": torch.ones(1), "trap": Trap()}, pickled)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(pickled)
    with pytest.raises(CheckpointError, match="there is no"):
        read_checkpoint(tmp_path / "absent.safetensors")


def test_a_shipped_model_leaves_the_training_state_behind(tmp_path: Path) -> None:
    write(tmp_path / "best.safetensors")
    ship_model(tmp_path / "best.safetensors", tmp_path / "out" / "model.safetensors")
    shipped = read_checkpoint(tmp_path / "out" / "model.safetensors")
    assert set(shipped.parts) == {"model"}
    assert shipped.facts == {"format": 1, "config": {"epochs": 3}}


def test_an_optimizer_goes_on_where_it_was() -> None:
    def run(steps: int, optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter) -> None:
        for step in range(steps):
            weight.grad = torch.full((1,), 1.0 + step)
            optimizer.step()

    straight = torch.nn.Parameter(torch.zeros(1))
    first = torch.optim.AdamW([straight], 0.1)
    run(2, first, straight)

    copy = torch.nn.Parameter(straight.detach().clone())
    second = torch.optim.AdamW([copy], 0.1)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(first).items()}
    load_optimizer_tensors(second, saved)
    run(2, first, straight)
    run(2, second, copy)
    assert torch.equal(copy, straight)
