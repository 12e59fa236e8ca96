"""The test people of a run: opened for its best model, when all is decided, and written down."""

import hashlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from siamtune.config import trial_config
from siamtune.data.prepare import Faces
from siamtune.errors import DataError
from siamtune.launch.evidence import data_spec
from siamtune.launch.job import DataSpec
from siamtune.launch.worker import data_folds, prepare_faces
from siamtune.search.history import History
from siamtune.search.openings import Opening, note_opening
from siamtune.search.runs import Run
from siamtune.shipping.find import best_model_of, trial_checkpoint
from siamtune.shipping.measure import measured, score_pairs
from siamtune.shipping.verifier import Verifier, load
from siamtune.verification.pairs import VerificationPairs
from siamtune.verification.protocols import refuse_seen_people

if TYPE_CHECKING:
    from siamtune.data.decode import Progress


def open_test(history: History, progress: "Progress | None" = None) -> str:
    """Ask the run's best model its protocol's test pairs; the line that tells a person of it.

    Raises:
        DataError: the pictures are gone or others, or the model was trained on test people.
        InvalidInput: the run has no model, or the opening cannot be written down.
    """
    number, path = trial_checkpoint(history, None)
    spec = data_spec(history)
    landmarks = Path(spec.landmarks) if spec.landmarks else None
    verifier = load(path, landmarks=landmarks)
    faces = prepare_faces(spec, trial_config(verifier.facts["config"]).data, progress)
    pairs = unseen_pairs(spec, faces, verifier, progress)
    found = measured(score_pairs(verifier, faces, pairs, "test"), verifier.threshold)
    _, replica = best_model_of(history) or (number, None)
    return note(history.run, verifier, number, replica, verifier.threshold, found)


def unseen_pairs(
    spec: DataSpec, faces: Faces, verifier: Verifier, progress: "Progress | None" = None
) -> VerificationPairs:
    """The test pairs of a run's protocol, for a model that has seen none of their people.

    Raises:
        DataError: the data are others than those of the training, or it has seen such people.
    """
    trained = verifier.facts["split"]["digest"]
    split = faces.split
    if split.digest != trained:
        raise DataError(
            f"{spec.source} must hold the pictures of the training (split {trained}), but got "
            f"split {split.digest}: the model may have seen test people"
        )
    fold = data_folds(spec, progress)[spec.fold - 1]
    asked = np.unique(faces.identities[np.concatenate([fold.pairs.left, fold.pairs.right])])
    taught = np.concatenate([split.train, split.validation])
    refuse_seen_people(
        (faces.names[identity] for identity in taught),
        (faces.names[identity] for identity in asked),
    )
    return fold.pairs


def note(
    run: Run,
    verifier: Verifier,
    trial: int,
    replica: int | None,
    threshold: float,
    found: Mapping[str, Any],
) -> str:
    """Write down that test people were opened for the model of a trial, or of a replica of it."""
    split = verifier.facts["split"]
    opening = Opening(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("siamtune", *sys.argv[1:]),
        trial=trial,
        replica=replica,
        model=_digest(verifier),
        threshold=threshold,
        data=str(verifier.facts["data"]),
        protocol=split["protocol"],
        split=split["digest"],
        measured=found,
    )
    return note_opening(run, opening)


def _digest(verifier: Verifier) -> str:
    """Over weights and scorer: what gives equal scores."""
    content = hashlib.sha256(f"{verifier.scorer_name}\0{verifier.flip}".encode())
    for name, tensor in sorted(verifier.model.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.detach().to("cpu", torch.float64).numpy().tobytes())
    return content.hexdigest()[:12]
