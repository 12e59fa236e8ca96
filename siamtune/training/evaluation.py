"""Verification of people that the network has never seen, after every epoch.

The pairs are chosen once a search, by the split's seed: every trial is measured on the same ones.
The threshold comes from training identities, so accuracy and F1 owe nothing to validation people.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from siamtune.config import TrialConfig
from siamtune.data.prepare import Faces
from siamtune.errors import TrialCollapsed
from siamtune.models import SiameseNet, unit_length
from siamtune.training import distributed
from siamtune.verification.calibration import Calibration, fit_calibration
from siamtune.verification.metrics import verification_metrics
from siamtune.verification.pairs import VerificationPairs, verification_pairs
from siamtune.verification.scores import pair_scores
from siamtune.verification.thresholds import fit_threshold

BATCH = 256
# The threshold is one number: so many people, with so many pictures each, fix it well enough.
THRESHOLD_PEOPLE = 200
THRESHOLD_PICTURES_PER_PERSON = 4
# Embeddings whose spread is below this share of their length are equal but for rounding.
COLLAPSED_SPREAD = 1e-4


@dataclass(frozen=True)
class Result:
    metrics: dict[str, float]  # "auc", "f1", "accuracy", "eer"
    threshold: float  # scores at or above it mean "same"
    calibration: Calibration  # fitted on the validation pairs; it orders no pair anew


@dataclass(frozen=True)
class Evaluation:
    """What does not change from epoch to epoch."""

    images: np.ndarray  # (N, C, R, R) uint8, all pictures
    pictures: np.ndarray  # indices of the pictures that occur in a pair, sorted
    validation: VerificationPairs  # positions in `pictures`
    threshold: VerificationPairs
    distance: str
    flip: bool
    fixed_threshold: float | None
    device: torch.device

    def run(self, model: SiameseNet, normalization: nn.Module) -> Result:
        """Embed each picture once, in evaluation mode, and score all pairs.

        Raises:
            TrialCollapsed: the network gives every picture the same embedding.
        """
        embeddings = embed(
            model, normalization, self.images, self.pictures, self.device, flip=self.flip
        )
        spread = float(embeddings.std(0).norm())
        length = float(embeddings.norm(dim=1).mean())
        if not spread > COLLAPSED_SPREAD * length:  # also true of NaN
            raise TrialCollapsed(
                f"all embeddings are equal (spread {spread:.2g} at length {length:.2g})"
            )
        threshold = self.fixed_threshold
        if threshold is None:
            pairs = self.threshold
            scores = pair_scores(embeddings, pairs.left, pairs.right, self.distance)
            threshold = fit_threshold(scores, pairs.same)
        pairs = self.validation
        scores = pair_scores(embeddings, pairs.left, pairs.right, self.distance)
        return Result(
            verification_metrics(scores, pairs.same, threshold),
            threshold,
            fit_calibration(scores, pairs.same),
        )


def plan_evaluation(
    faces: Faces, training_pictures: np.ndarray, config: TrialConfig, device: torch.device
) -> Evaluation:
    """Choose the verification pairs of validation people and those that fit the threshold.

    Raises:
        DataError: the validation people have no two photographs of one person.
    """
    seed = faces.split.seed
    validation = verification_pairs(faces.indices("validation"), faces.identities, seed=seed)
    fitted = verification_pairs(
        _few_of_each(training_pictures, faces.identities, seed), faces.identities, seed=seed
    )
    pictures = np.unique(
        np.concatenate([validation.left, validation.right, fitted.left, fitted.right])
    )
    distance_threshold = config.verification.distance_threshold
    return Evaluation(
        images=faces.images,
        pictures=pictures,
        validation=_positions(validation, pictures),
        threshold=_positions(fitted, pictures),
        distance=config.loss.distance,
        flip=config.verification.flip,
        fixed_threshold=None if distance_threshold is None else -distance_threshold,
        device=device,
    )


@torch.inference_mode()
def embed(
    model: SiameseNet,
    normalization: nn.Module,
    images: np.ndarray,
    pictures: np.ndarray,
    device: torch.device,
    *,
    flip: bool,
) -> Tensor:
    """Embeddings `(len(pictures), D)` on every rank, in evaluation mode; each rank does a share.

    Args:
        flip: see `embedding`.
    """
    model.eval()
    shares = np.array_split(pictures, distributed.world_size())
    parts = [
        embedding(
            model, normalization, torch.from_numpy(images[chunk]).to(device).float(), flip=flip
        )
        for chunk in _chunks(shares[distributed.rank()])
    ]
    return distributed.gather_uneven(torch.cat(parts), [len(share) for share in shares])


def embedding(model: SiameseNet, normalization: nn.Module, images: Tensor, *, flip: bool) -> Tensor:
    """Embeddings `(B, D)` of pictures `(B, C, R, R)` of floats in [0, 255].

    Args:
        flip: the mean of a picture's embedding and its mirror image's, as long as the network
            makes embeddings: a face looks to the left or to the right, its owner stays the same.
    """
    embeddings = model(normalization(images))
    if not flip:
        return embeddings
    mean = (embeddings + model(normalization(images.flip(-1)))) / 2
    return unit_length(mean) if model.unit_length else mean


def _chunks(pictures: np.ndarray) -> list[np.ndarray]:
    return np.array_split(pictures, -(-len(pictures) // BATCH))


def _few_of_each(pictures: np.ndarray, identities: np.ndarray, seed: int) -> np.ndarray:
    """A few pictures each of a few people who have two or more."""
    shuffled = np.random.default_rng(seed).permutation(pictures)
    people, first, counts = np.unique(identities[shuffled], return_index=True, return_counts=True)
    several = people[counts >= 2]
    chosen = several[np.argsort(first[counts >= 2])][:THRESHOLD_PEOPLE]
    kept = [
        shuffled[identities[shuffled] == person][:THRESHOLD_PICTURES_PER_PERSON]
        for person in chosen
    ]
    return np.sort(np.concatenate(kept)) if kept else pictures


def _positions(pairs: VerificationPairs, pictures: np.ndarray) -> VerificationPairs:
    return VerificationPairs(
        np.searchsorted(pictures, pairs.left), np.searchsorted(pictures, pairs.right), pairs.same
    )
