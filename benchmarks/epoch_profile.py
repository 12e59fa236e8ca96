"""Where the seconds of one epoch of each architecture go, on one thread.

    python benchmarks/epoch_profile.py --data-home DIR          # LFW; without it the demo
    python benchmarks/epoch_profile.py --only hani resnet

A line for each architecture: seconds of an epoch as a search trains it, the median of three after
one to warm up, and of them the shares of each part, in percent.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from trainer import ARCHITECTURES

from siamtune.config import trial_config
from siamtune.launch.job import DataSpec
from siamtune.launch.worker import prepare_faces
from siamtune.training import trainer

EPOCHS = 3
PARTS = (
    "gathering", "augmentation", "normalization", "forward", "loss", "backward", "optimizer",
    "evaluation",
)  # fmt: skip


class Clock:
    """Seconds of each part; a part within another counts for the outer one alone."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.running: str | None = None

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        if self.running is not None:
            yield
            return
        self.running, began = part, perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += perf_counter() - began
            self.running = None

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            with self.timing(part):
                return function(*given, **named)

        return run

    def timed_method(self, part: str, build: Callable[..., Any], method: str) -> Callable[..., Any]:
        """As `build`, but of what it makes one method is timed."""

        def built(*given: Any, **named: Any) -> Any:
            made = build(*given, **named)
            object.__setattr__(made, method, self.timed(part, getattr(made, method)))
            return made

        return built

    def timed_feed(self, build: Callable[..., Any]) -> Callable[..., Any]:
        """As `build`, but each batch that its feed hands out is timed."""

        def built(*given: Any) -> Callable[..., Iterator[torch.Tensor]]:
            feed = build(*given)

            def fed(batches: Any) -> Iterator[torch.Tensor]:
                pictures = feed(batches)
                for _ in batches:
                    with self.timing("gathering"):
                        batch = next(pictures)
                    yield batch

            return fed

        return built


def profile(architecture: str, data: DataSpec) -> tuple[float, dict[str, float]]:
    """Seconds of the median epoch, and of each part of it."""
    config = trial_config({"model.architecture": architecture, "epochs": EPOCHS + 1})
    faces = prepare_faces(data, config.data)
    clock = Clock()
    faces.normalization.forward = clock.timed("normalization", faces.normalization.forward)
    measured = []
    wrapped = {
        "augment": clock.timed("augmentation", trainer.augment),
        "build_model": clock.timed_method("forward", trainer.build_model, "forward"),
        "build_loss": clock.timed_method("loss", trainer.build_loss, "forward"),
        "build_optimizer": clock.timed_method("optimizer", trainer.build_optimizer, "step"),
        "plan_evaluation": clock.timed_method("evaluation", trainer.plan_evaluation, "run"),
        "picture_feed": clock.timed_feed(trainer.picture_feed),
    }
    backward = clock.timed("backward", torch.Tensor.backward)
    with patch.multiple(trainer, **wrapped), patch.object(torch.Tensor, "backward", backward):
        for epoch in trainer.epochs(config, faces):
            measured.append((epoch.metrics["seconds"], clock.seconds))
            clock.seconds = dict.fromkeys(PARTS, 0.0)
    seconds = median(took for took, _ in measured[1:])
    return next(one for one in measured[1:] if one[0] == seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-home", type=Path, help="folder that holds lfw_home")
    parser.add_argument("--only", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    given = parser.parse_args()
    data = DataSpec("lfw", str(given.data_home.resolve())) if given.data_home else DataSpec("demo")
    torch.set_num_threads(1)
    print(f"| architecture | seconds | {' | '.join(PARTS)} | rest |")
    print("| --- " + "| --: " * (len(PARTS) + 2) + "|")
    for architecture in given.only:
        seconds, parts = profile(architecture, data)
        shares = [*parts.values(), seconds - sum(parts.values())]
        told = " | ".join(f"{100 * share / seconds:.1f}" for share in shares)
        print(f"| {architecture} | {seconds:.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
