"""A trial's checkpoint as a folder that can be given away.

model.safetensors   network, normalization and, in its header, all that `siamtune.load` needs
model.json          the same facts for other programs, with the measured numbers
config.yaml         the configuration, as `siamtune train --config` reads it
README.md           the model card
model.onnx          on demand: normalization and network
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siamtune import __version__
from siamtune.config import TrialConfig, trial_config
from siamtune.data.prepare import Faces
from siamtune.errors import DataError, InvalidInput, UsageError
from siamtune.search.config_file import config_yaml
from siamtune.search.runs import MODEL
from siamtune.shipping.card import model_card
from siamtune.shipping.measure import measured, score_pairs
from siamtune.shipping.verifier import Verifier, restore
from siamtune.training.checkpoint import read_checkpoint, write_checkpoint
from siamtune.training.evaluation import validation_pairs
from siamtune.training.trainer import training_pictures
from siamtune.verification.bootstrap import LEAST_PEOPLE
from siamtune.verification.pairs import VerificationPairs
from siamtune.verification.thresholds import threshold_at_far

SCHEMA = "siamtune.model/1"
ONNX = "model.onnx"


@dataclass(frozen=True)
class Wish:
    """What a person asked of an export besides the model.

    Attributes:
        far: set the threshold for this false accept rate on the validation pairs.
        test: pairs of test people to measure on, too.
        onnx: write `model.onnx`.
    """

    far: float | None = None
    test: VerificationPairs | None = None
    onnx: bool = False


def export_model(
    checkpoint_path: Path,
    to: Path,
    origin: Mapping[str, Any],
    *,
    faces: Faces | None,
    why_no_faces: str | None = None,
    wish: Wish = Wish(),
) -> dict[str, Any]:
    """Make the folder `to`, whole or not at all, and return the content of its `model.json`.

    Args:
        origin: "run" and "trial" that the checkpoint is of.
        faces: what it was trained on; without it nothing is measured anew.
        why_no_faces: where `faces` is None, for the card.

    Raises:
        UsageError: `to` exists and is not empty, or is the current folder.
        CheckpointError: the checkpoint cannot be read.
        DataError: a wish that needs the faces, without them.
        InvalidInput: so small a `far` cannot be told from none with the validation pairs.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"--to must be a new or an empty folder, but {to} is not; choose another")
    if to.resolve() == Path.cwd():
        raise UsageError(
            "--to must be another folder than the current one, which would be replaced; choose one"
        )
    if wish.onnx:
        from siamtune.shipping.onnx_file import require_packages

        require_packages()
    checkpoint = read_checkpoint(checkpoint_path)
    verifier = restore(checkpoint, checkpoint_path, torch.device("cpu"))
    facts = {name: value for name, value in verifier.facts.items() if name != "progress"}
    config = trial_config(facts["config"])
    if faces is not None and faces.split.digest != facts["split"]["digest"]:
        why_no_faces = (
            f"the data is no longer that of the training: split {faces.split.digest} instead of "
            f"{facts['split']['digest']}"
        )
        faces = None
    if faces is None and (wish.far is not None or wish.test is not None):
        option = "--test" if wish.far is None else "--far"
        raise DataError(f"{option} needs the data of the run, but {why_no_faces}")

    document = _document(verifier, config, origin)
    if faces is None:
        document["missing"].append(f"intervals and the false accept rate: {why_no_faces}")
        if verifier.threshold != facts["metrics"]["threshold"]:
            document["missing"].append(
                "accuracy and F1 at this threshold: those above are at one of training people"
            )
    else:
        _measure(document, verifier, faces, wish)
    unfinished = to.with_name(f".{to.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        if wish.onnx:
            from siamtune.shipping.onnx_file import write_onnx

            document["onnx"] = write_onnx(verifier, unfinished / ONNX)
        threshold = document["threshold"]["score"]
        write_checkpoint(
            unfinished / MODEL,
            {name: checkpoint.parts.get(name, {}) for name in ("model", "normalization", "scorer")},
            {**facts, "threshold": threshold, "exported": document},
        )
        comment = f"trial {origin['trial']} of {origin['run']}"
        (unfinished / "config.yaml").write_text(config_yaml(facts["config"], comment), "utf-8")
        (unfinished / "model.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (unfinished / "README.md").write_text(model_card(document, to.name), "utf-8")
        # safetensors makes files for their owner alone; these are to be given away.
        shutil.copymode(unfinished / "model.json", unfinished / MODEL)
        unfinished.rename(to)
    except OSError as error:
        raise InvalidInput(f"{to} cannot be written: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return document


def _document(verifier: Verifier, config: TrialConfig, origin: Mapping[str, Any]) -> dict[str, Any]:
    facts = verifier.facts
    metrics = facts["metrics"]
    # A model of an older version knows the threshold of training people alone.
    of = "validation" if "threshold" in facts else "training"
    threshold_from = f"highest accuracy on pairs of {of} people"
    # A fixed one is a distance, which other scores are not.
    if config.verification.distance_threshold is not None and "scorer" not in facts:
        threshold_from = "configuration"
    return {
        "schema": SCHEMA,
        "siamtune": __version__,
        **origin,
        "epoch": int(metrics["epoch"]),
        "data": facts["data"],
        "protocol": facts["split"]["protocol"],
        "split": facts["split"]["digest"],
        "architecture": config.model.architecture,
        "parameters": sum(parameter.numel() for parameter in verifier.model.parameters()),
        "loss": config.loss.name,
        "embedding_size": verifier.embedding_size,
        "distance": verifier.distance,
        "scorer": verifier.scorer_name,
        "scorer_holds_people": verifier.scorer is not None and verifier.scorer.holds_people,
        "normalization": config.data.normalization,
        "crop": {name: v for name, v in asdict(verifier.recipe).items() if v is not None},
        "flip": verifier.flip,
        "threshold": {
            "score": verifier.threshold,
            "far_set": None,
            "from": threshold_from,
        },
        "calibration": {
            **asdict(verifier.calibration),
            "from": "pairs of validation people, half of them same",
        },
        "validation": {
            name.removeprefix("val/"): {"value": value, "low": None, "high": None}
            for name, value in metrics.items()
            if name.startswith("val/")
        },
        "missing": [],
    }


def _measure(document: dict[str, Any], verifier: Verifier, faces: Faces, wish: Wish) -> None:
    """Set the threshold that was wished for and replace recorded numbers by measured ones."""
    pairs = score_pairs(verifier, faces, validation_pairs(faces), "validation")
    threshold = verifier.threshold
    if wish.far is not None:
        threshold = threshold_at_far(pairs.scores, pairs.same, wish.far)
        document["threshold"] = {
            "score": threshold,
            "far_set": wish.far,
            "from": f"a false accept rate of at most {wish.far:g} on pairs of validation people",
        }
    document["validation"] = measured(pairs, threshold)
    if wish.test is not None:
        document["test"] = measured(score_pairs(verifier, faces, wish.test, "test"), threshold)
    if document["validation"]["auc"]["low"] is None:
        document["missing"].append(
            f"intervals: fewer than {LEAST_PEOPLE} validation people have two pictures or more"
        )
    taught = training_pictures(trial_config(verifier.facts["config"]), faces)
    people = np.unique(faces.identities[taught])
    document["trained_on"] = {"people": len(people), "pictures": len(taught)}
