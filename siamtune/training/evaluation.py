"""Verification of people that the network has never seen, after every epoch.

The pairs are chosen once a search, by the split's seed: every trial is measured on the same ones.
The threshold comes from training identities, so accuracy and F1 owe nothing to validation people.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from siamtune.config import TrialConfig
from siamtune.data.prepare import Faces
from siamtune.errors import DataError, TrialCollapsed
from siamtune.models import SiameseNet, unit_length
from siamtune.training import distributed
from siamtune.verification.calibration import Calibration, fit_calibration
from siamtune.verification.metrics import FARS, verification_metrics
from siamtune.verification.pairs import VerificationPairs, verification_pairs
from siamtune.verification.retrieval import retrieval_metrics
from siamtune.verification.scores import pair_scores
from siamtune.verification.thresholds import fit_threshold

BATCH = 256
# The threshold is one number: so many people, with so many pictures each, fix it well enough.
THRESHOLD_PEOPLE = 200
THRESHOLD_PICTURES_PER_PERSON = 4
# Who is searched for among whom grows with the square of their number; so many take a tenth of a
# second (a second by l1).
RETRIEVAL_PICTURES = 4000
# Embeddings whose spread is below this share of their length are equal but for rounding.
COLLAPSED_SPREAD = 1e-4


@dataclass(frozen=True)
class Result:
    metrics: dict[str, float]  # "auc", "precision@1" and so on, by the names after `val/`
    scores: np.ndarray  # (P,) of the validation pairs
    threshold: float  # of the metrics: scores at or above it mean "same"
    shipped_threshold: float  # of the model in use
    calibration: Calibration  # fitted on the validation pairs; it orders no pair anew


@dataclass(frozen=True)
class Evaluation:
    """What does not change from epoch to epoch."""

    images: np.ndarray  # (N, C, R, R) uint8, all pictures
    pictures: np.ndarray  # indices of the pictures that occur in a pair, sorted
    validation: VerificationPairs  # positions in `pictures`
    threshold: VerificationPairs
    retrieved: np.ndarray  # positions in `pictures` of those that are searched for each other
    retrieved_identities: np.ndarray
    distance: str
    flip: bool
    fixed_threshold: float | None
    device: torch.device

    def run(self, model: SiameseNet, normalization: nn.Module) -> Result:
        """Embed each picture once, in evaluation mode, and score all pairs.

        Raises:
            TrialCollapsed: the network gives every picture the same embedding, or none of numbers.
        """
        embeddings = embed(
            model, normalization, self.images, self.pictures, self.device, flip=self.flip
        )
        spread = float(embeddings.std(0).norm())
        length = float(embeddings.norm(dim=1).mean())
        if not math.isfinite(length):
            raise TrialCollapsed("the embeddings are not finite")
        if not spread > COLLAPSED_SPREAD * length:
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
        retrieval = retrieval_metrics(
            embeddings[torch.from_numpy(self.retrieved).to(embeddings.device)],
            torch.from_numpy(self.retrieved_identities),
            self.distance,
        )
        return Result(
            {**verification_metrics(scores, pairs.same, threshold), **retrieval},
            scores,
            threshold,
            shipped_threshold(scores, pairs.same, self.fixed_threshold),
            fit_calibration(scores, pairs.same),
        )


def shipped_threshold(scores: np.ndarray, same: np.ndarray, fixed: float | None) -> float:
    """The threshold that a model is used with, from scores `(P,)` of validation pairs.

    The people whom it meets in use are strangers to it, as these are. Training people it has
    learned by heart: a threshold of theirs is too strict, or with a scorer that was fitted on them
    too lax, but leaves the numbers of validation people without any luck of a choice.
    """
    return fit_threshold(scores, same) if fixed is None else fixed


def plan_evaluation(
    faces: Faces, training_pictures: np.ndarray, config: TrialConfig, device: torch.device
) -> Evaluation:
    """Choose the verification pairs of validation people and those that fit the threshold.

    Raises:
        DataError: the validation people have no two photographs of one person.
    """
    seed = faces.split.seed
    validation = validation_pairs(faces)
    retrieved = _whole_people(
        np.unique([validation.left, validation.right]), faces.identities, RETRIEVAL_PICTURES, seed
    )
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
        retrieved=np.searchsorted(pictures, retrieved),
        retrieved_identities=faces.identities[retrieved],
        distance=config.loss.distance,
        flip=config.verification.flip,
        fixed_threshold=None if distance_threshold is None else -distance_threshold,
        device=device,
    )


def validation_pairs(faces: Faces) -> VerificationPairs:
    """The pairs by which every trial on these people is judged; raises as `verification_pairs`."""
    return verification_pairs(faces.indices("validation"), faces.identities, seed=faces.split.seed)


def require_measurable(metrics: Iterable[str], faces: Faces) -> None:
    """Refuse an objective that the validation people cannot show, before anything is trained.

    Raises:
        DataError: they give too few negative pairs for a false accept rate, or no pairs at all.
    """
    negatives = int((~validation_pairs(faces).same).sum())
    for metric in metrics:
        far = FARS.get(metric.removeprefix("val/"))
        if far is not None and far * negatives < 1:
            raise DataError(
                f"{metric} needs {round(1 / far)} negative validation pairs or more, but these "
                f"people give {negatives}; choose another objective or bring more people"
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


def _whole_people(pictures: np.ndarray, identities: np.ndarray, most: int, seed: int) -> np.ndarray:
    """About `most` of the pictures: all of a person, or none; people with two or more first."""
    people, counts = np.unique(identities[pictures], return_counts=True)
    order = np.random.default_rng(seed).permutation(len(people))
    order = order[np.argsort(counts[order] < 2, kind="stable")]
    before = np.cumsum(counts[order]) - counts[order]
    return pictures[np.isin(identities[pictures], people[order[before < most]])]


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
