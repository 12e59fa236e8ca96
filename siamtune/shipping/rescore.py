"""Other ways to score the embeddings of a trained network, compared on validation people.

A network is trained once; which score its embeddings are compared with, and whether a picture is
averaged with its mirror image, can be tried afterwards in seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siamtune.config import trial_config
from siamtune.data.prepare import Faces
from siamtune.errors import InvalidInput
from siamtune.shipping.verifier import restore
from siamtune.training.checkpoint import read_checkpoint, write_checkpoint
from siamtune.training.evaluation import embed, plan_evaluation, shipped_threshold
from siamtune.verification.calibration import Calibration, fit_calibration
from siamtune.verification.metrics import verification_metrics
from siamtune.verification.scorers import (
    DistanceScorer,
    Scorer,
    fit_scorer,
    score_pairs,
    scorer_arrays,
)
from siamtune.verification.thresholds import fit_threshold


@dataclass(frozen=True, eq=False)
class Scored:
    """A network's validation pairs under one scorer.

    Attributes:
        metrics: "auc", "f1", "accuracy", "eer", ...
        threshold: of the metrics, fitted on pairs of training people, or the trained distance's
            own where the configuration fixes it.
        shipped_threshold: fitted on pairs of validation people, unless it is fixed.
        calibration: fitted on pairs of validation people.
    """

    name: str
    flip: bool
    scorer: Scorer
    metrics: dict[str, float]
    threshold: float
    shipped_threshold: float
    calibration: Calibration


def try_scorers(
    checkpoint: Path, faces: Faces, scorers: Sequence[str], flips: Sequence[bool]
) -> Iterator[Scored]:
    """Every scorer with and without flips; each is fitted on all pictures of training people.

    A scorer that these embeddings do not suit is left out.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    verifier = restore(read_checkpoint(checkpoint), checkpoint, device)
    config = trial_config(verifier.facts["config"])
    train = faces.indices("train")
    plan = plan_evaluation(faces, train, config, device)
    pictures = np.union1d(train, plan.pictures)
    taught, asked = (np.searchsorted(pictures, some) for some in (train, plan.pictures))
    for flip in flips:
        vectors = embed(
            verifier.model, verifier.normalization, faces.images, pictures, device, flip=flip
        )
        numbers = vectors.cpu().double().numpy()
        for name in scorers:
            try:
                scorer = fit_scorer(
                    name, numbers[taught], faces.identities[train], faces.split.seed
                )
            except InvalidInput:
                continue
            seen = numbers[asked]
            pairs = plan.threshold
            fixed = plan.fixed_threshold if name == config.loss.distance else None
            threshold = fixed
            if threshold is None:
                taught_scores = score_pairs(scorer, seen, pairs.left, pairs.right)
                threshold = fit_threshold(taught_scores, pairs.same)
            pairs = plan.validation
            scores = score_pairs(scorer, seen, pairs.left, pairs.right)
            yield Scored(
                name,
                flip,
                scorer,
                verification_metrics(scores, pairs.same, threshold),
                threshold,
                shipped_threshold(scores, pairs.same, fixed),
                fit_calibration(scores, pairs.same),
            )


def ship_scored(
    checkpoint: Path, scored: Scored, to: Path, of: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the checkpoint's model so that it scores as it was `scored`; returns its facts.

    `of` tells the "trial" and the "replica" whose checkpoint it is, which need not be the winner's.
    """
    trained = read_checkpoint(checkpoint)
    facts = {name: value for name, value in trained.facts.items() if name != "progress"}
    # What is not measured anew was measured by another score.
    others = {name: v for name, v in facts["metrics"].items() if not name.startswith("val/")}
    metrics = {f"val/{name}": value for name, value in scored.metrics.items()}
    facts["metrics"] = {**others, **metrics, "threshold": scored.threshold}
    facts["threshold"] = scored.shipped_threshold
    facts["config"] = {**facts["config"], "verification.flip": scored.flip}
    facts["calibration"] = asdict(scored.calibration)
    facts["rescored"] = dict(of)
    parts = {name: trained.parts.get(name, {}) for name in ("model", "normalization")}
    facts.pop("scorer", None)
    if scored.name != facts["config"]["loss.distance"]:
        facts["scorer"] = scored.name
        arrays = {} if isinstance(scored.scorer, DistanceScorer) else scorer_arrays(scored.scorer)
        parts["scorer"] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    write_checkpoint(to, parts, facts)
    return facts
