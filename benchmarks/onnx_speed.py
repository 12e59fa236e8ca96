"""ONNX against PyTorch: the largest difference and the speed of a model's embeddings.

    python benchmarks/onnx_speed.py                       # siamtune's default network, untrained
    python benchmarks/onnx_speed.py --model my-model      # an exported folder or a run

Needs the extra `onnx`. One thread each; the best of several rounds, since other programs only slow
them down.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import torch

from siamtune.config import DEFAULTS, trial_config
from siamtune.data.normalization import fit_normalization
from siamtune.data.recipe import Recipe
from siamtune.models import build_model
from siamtune.shipping.onnx_file import write_onnx
from siamtune.shipping.verifier import Verifier, load
from siamtune.verification.calibration import Calibration

BATCHES = (1, 16, 128)
ROUNDS, ROUND_S = 5, 0.5


def untrained() -> Verifier:
    """The default network with the weights it starts from."""
    config = trial_config({})
    data, model = config.data, config.model
    recipe = Recipe(data.crop, data.crop_factor, data.resolution_px, data.grayscale, 0.5)
    torch.manual_seed(0)
    network = build_model(model, channels=recipe.channels, resolution_px=recipe.resolution_px)
    images = np.zeros((2, recipe.channels, recipe.resolution_px, recipe.resolution_px), np.uint8)
    return Verifier(
        model=network.eval(),
        normalization=fit_normalization(data.normalization, images).eval(),
        recipe=recipe,
        flip=config.verification.flip,
        distance=config.loss.distance,
        embedding_size=model.embedding_size,
        threshold=0.0,
        calibration=Calibration(1.0, 0.0),
        path=Path("untrained"),
        facts={"config": DEFAULTS, "data": "nothing"},
        device=torch.device("cpu"),
    )


def images_per_s(embed: Callable[[np.ndarray], object], faces: np.ndarray) -> float:
    """The best of some rounds, each as many calls as take half a second."""
    embed(faces)
    best = 0.0
    for _ in range(ROUNDS):
        started, calls = perf_counter(), 0
        while perf_counter() - started < ROUND_S:
            embed(faces)
            calls += 1
        best = max(best, calls * len(faces) / (perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="an exported folder or a run")
    model = parser.parse_args().model
    torch.set_num_threads(1)
    verifier = load(model, device="cpu") if model else untrained()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        facts = write_onnx(verifier, path)
        session = onnxruntime.InferenceSession(str(path), options)

    def by_onnx(faces: np.ndarray) -> object:
        return session.run(None, {"images": faces.astype(np.float32)})

    print(f"model: {verifier.title}, faces {facts['input'][1:]}")
    print(f"largest difference: {facts['largest_difference']:.2g} of an embedding's length")
    print(f"{'batch':>6} {'PyTorch':>10} {'ONNX':>10}  images/s, one thread")
    rng = np.random.default_rng(0)
    for batch in BATCHES:
        faces = rng.integers(0, 256, (batch, *facts["input"][1:]), np.uint8)
        speeds = images_per_s(verifier.embed_faces, faces), images_per_s(by_onnx, faces)
        print(f"{batch:>6} {speeds[0]:>10.0f} {speeds[1]:>10.0f}  {speeds[1] / speeds[0]:.2f}x")


if __name__ == "__main__":
    main()
