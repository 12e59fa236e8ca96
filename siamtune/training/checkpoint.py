"""A checkpoint is one safetensors file: tensors by prefixed name, all else as JSON in its header.

One file can be replaced atomically, holds no code, and is read back without unpickling.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from siamtune.errors import CheckpointError

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a file held.

    Attributes:
        parts: "model", "normalization", "loss" and "optimizer" to tensors by name; where "model"
            holds averaged weights also "trained", the weights themselves, and "averaging"; of a
            model whose scores are fitted also "scorer", of one with a gallery also "gallery".
        facts: the JSON of the header: configuration, epoch, threshold, data, ...
    """

    parts: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]


def write_checkpoint(
    path: Path, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]
) -> None:
    """Write `path` so that a reader finds the old file or the new one, never half of one."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        save_file(tensors, unfinished, {"siamtune": json.dumps({"format": FORMAT, **facts})})
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote.

    Raises:
        CheckpointError: the file is missing, truncated, or no checkpoint of siamtune.
    """
    tensors, facts = _read(path, with_tensors=True)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    return Checkpoint(parts, facts)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, from its header alone; raises as `read_checkpoint`."""
    return _read(path, with_tensors=False)[1]


def _read(path: Path, *, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: must be a checkpoint of siamtune, but there is no such file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if with_tensors else ()
            tensors = {name: file.get_tensor(name) for name in names}
        facts = json.loads(metadata["siamtune"])
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: must be a checkpoint written by siamtune, but it cannot be read "
            f"({type(error).__name__}: {error}); it may be cut short or come from elsewhere"
        ) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: must have checkpoint format {FORMAT}; use the siamtune that wrote it"
        )
    return tensors, facts


def ship_model(checkpoint: Path, to: Path) -> None:
    """Write what a user of the model needs: network, normalization, configuration, threshold."""
    trained = read_checkpoint(checkpoint)
    parts = {name: trained.parts.get(name, {}) for name in ("model", "normalization")}
    facts = {name: value for name, value in trained.facts.items() if name != "progress"}
    write_checkpoint(to, parts, facts)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: `<parameter's place>.<name>`."""
    return {
        f"{place}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for place, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; hyperparameters stay as the configuration set them."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
