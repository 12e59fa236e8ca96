"""Ways to say how alike two embeddings are, fitted on people who take no part in the evaluation.

A scorer costs no training of a network: many can be tried on the embeddings of one.
"""

# N pictures · I identities · P pairs · D numbers of an embedding · K dimensions kept of them

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamtune.errors import InvalidInput
from siamtune.losses.distances import DISTANCES
from siamtune.verification.pairs import verification_pairs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Directions in which training pictures differ less than this share of the most are rounding.
NEGLIGIBLE_VARIANCE = 1e-9
# Whitening makes all directions equally important, those of noise as well: they are left out. On
# LFW's View 1 a small network had an AUC of 0.833 with 0.99 of the variance, 0.870 with 0.9.
VARIANCE_WHITENED = 0.9
# Every step raises the likelihood, each by less than the one before.
EM_STEPS = 50
CHUNK_NUMBERS = 1 << 22  # of embeddings gathered on each side at a time: 32 MiB


class Scorer(Protocol):
    """Scores `(P,)` of pairs of embeddings `(P, D)`: large when alike, either way round."""

    def score(self, a: ArrayLike, b: ArrayLike) -> Floats: ...


@dataclass(frozen=True)
class DistanceScorer:
    """Minus a distance; nothing is fitted."""

    distance: str

    def score(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """`-distance(a, b)`, `(P,)`."""
        left, right = (torch.from_numpy(np.asarray(side, np.float64)) for side in (a, b))
        return -DISTANCES[self.distance](left, right).numpy()


@dataclass(frozen=True, eq=False)
class DifferenceScorer:
    """A weighted sum of the absolute differences."""

    weights: Floats  # (D,)
    intercept: float

    def score(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """`weights · |a - b| + intercept`, `(P,)`: the log-odds of "same" on balanced pairs."""
        difference = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        return difference @ self.weights + self.intercept


@dataclass(frozen=True, eq=False)
class ProjectionScorer:
    """The cosine of the angle between two projected embeddings."""

    mean: Floats  # (D,)
    projection: Floats  # (D, K)

    def score(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Cosines `(P,)`; 0 for an embedding that is the mean of them all."""
        left, right = (
            (np.asarray(side, np.float64) - self.mean) @ self.projection for side in (a, b)
        )
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        return (left * right).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class JointBayesianScorer:
    """Two Gaussian covariances, of people and of one person's pictures, made diagonal together.

    In the coordinates `(x - mean) @ basis` a person lies at a draw of variance `between` and each
    picture about it at one of variance 1, independently in every coordinate.
    """

    mean: Floats  # (D,)
    basis: Floats  # (D, K)
    between: Floats  # (K,), 0 or more

    def score(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Log of how much likelier the two are as pictures of one person than of two, `(P,)`."""
        left, right = ((np.asarray(side, np.float64) - self.mean) @ self.basis for side in (a, b))
        # The sum and the difference of two pictures are independent: of variance 2 + 4 between and
        # 2 if they show one person, both 2 + 2 between if they show two.
        total, apart = (left + right) ** 2, (left - right) ** 2
        one, two = 2 + 4 * self.between, 2 + 2 * self.between
        constant = np.log(two).sum() - (np.log(one) + np.log(2.0)).sum() / 2
        return constant + (total @ (1 / two - 1 / one) + apart @ (1 / two - 1 / 2)) / 2


def fit_scorer(name: str, embeddings: ArrayLike, identities: ArrayLike, seed: int) -> Scorer:
    """The scorer `name` of `SCORERS`, fitted on `embeddings` (N, D) of `identities` (N,).

    `seed` chooses the pairs that `logistic` is fitted on; the others need none.

    Raises:
        InvalidInput: there is no such scorer, an embedding is not finite, all are equal, or fewer
            than two people have two pictures.
    """
    if name not in SCORERS:
        raise InvalidInput(f"scorer must be one of {', '.join(SCORERS)}, but got {name!r}")
    vectors = np.asarray(embeddings, np.float64)
    people = np.unique(np.asarray(identities), return_inverse=True)[1].astype(np.int64)
    if vectors.ndim != 2 or len(vectors) != len(people):
        raise InvalidInput(
            "embeddings must be (N, D) and identities (N,), but got shapes "
            f"{vectors.shape} and {people.shape}"
        )
    if not np.isfinite(vectors).all():
        raise InvalidInput("embeddings must be finite to fit a scorer on; train anew")
    if (np.bincount(people) > 1).sum() < 2:
        raise InvalidInput("a scorer is fitted on two people or more with two pictures or more")
    if not vectors.std(0).any():
        raise InvalidInput("a scorer needs embeddings that differ, but all are equal; train anew")
    return SCORERS[name](vectors, people, seed)


def scorer_arrays(scorer: Scorer) -> dict[str, Floats]:
    """What was fitted, by name; `restore_scorer` is the inverse."""
    values = {field.name: getattr(scorer, field.name) for field in fields(scorer)}  # type: ignore[arg-type]
    return {
        name: np.asarray(value, np.float64)
        for name, value in values.items()
        if not isinstance(value, str)
    }


def restore_scorer(name: str, arrays: Mapping[str, Floats]) -> Scorer:
    """The scorer `name` of `SCORERS`, as it was fitted.

    Raises:
        InvalidInput: there is no such scorer, or `arrays` are not its own.
    """
    if name in DISTANCES:
        return DistanceScorer(name)
    if name not in FITTED:
        raise InvalidInput(f"scorer must be one of {', '.join(SCORERS)}, but got {name!r}")
    try:
        return FITTED[name](**{key: value[()] for key, value in arrays.items()})
    except TypeError as error:
        raise InvalidInput(f"the scorer {name} is not whole: {error}") from None


def score_pairs(scorer: Scorer, embeddings: ArrayLike, left: ArrayLike, right: ArrayLike) -> Floats:
    """Scores `(P,)` of pairs of rows of `embeddings` (N, D), a bounded number at a time."""
    vectors = np.asarray(embeddings, np.float64)
    first, second = np.asarray(left), np.asarray(right)
    scores = np.empty(len(first))
    size = max(1, CHUNK_NUMBERS // vectors.shape[1])
    for start in range(0, len(first), size):
        chunk = slice(start, start + size)
        scores[chunk] = scorer.score(vectors[first[chunk]], vectors[second[chunk]])
    return scores


def _plain(distance: str) -> Callable[[Floats, Integers, int], Scorer]:
    return lambda embeddings, identities, seed: DistanceScorer(distance)


def _logistic(embeddings: Floats, identities: Integers, seed: int) -> Scorer:
    """Logistic regression on |difference|, as in 2016; its decision value instead of a yes or no.

    Coordinates are scaled to equal spread first, so that the same penalty suits long and short
    embeddings.
    """
    from sklearn.linear_model import LogisticRegression

    pairs = verification_pairs(np.arange(len(embeddings)), identities, seed=seed)
    differences = np.abs(embeddings[pairs.left] - embeddings[pairs.right])
    spread = differences.std(0)
    scale = np.where(spread > 0, spread, 1.0)
    model = LogisticRegression(max_iter=1000).fit(differences / scale, pairs.same)
    return DifferenceScorer(model.coef_[0] / scale, float(model.intercept_[0]))


def _whitening(embeddings: Floats, identities: Integers, seed: int) -> Scorer:
    """PCA to unit variance, then the cosine."""
    mean, basis = _white(embeddings, VARIANCE_WHITENED)
    return ProjectionScorer(mean, basis)


def _lda(embeddings: Floats, identities: Integers, seed: int) -> Scorer:
    """Fisher's discriminants, covariances shrunk by Ledoit and Wolf (2004), then the cosine."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    several = (np.bincount(identities) > 1)[identities]  # the others show no spread of a person
    # As they are: in white coordinates the shrunk covariance would favour noise.
    mean = embeddings.mean(0)
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    try:
        model.fit(embeddings[several] - mean, identities[several])
    except np.linalg.LinAlgError as error:
        raise InvalidInput(
            "lda needs people whose pictures differ, but they have equal embeddings; choose "
            "another scorer"
        ) from error
    people = len(model.classes_)
    return ProjectionScorer(mean, model.scalings_[:, : people - 1])


def _joint_bayesian(embeddings: Floats, identities: Integers, seed: int) -> Scorer:
    """Joint Bayesian faces (Chen et al. 2012): both covariances by EM, everybody counts.

    Each step makes the two covariances diagonal together, whereupon the expectation is a division
    (the two-covariance model of Brümmer and de Villiers 2010).
    """
    counts = np.bincount(identities).astype(np.float64)
    mean, basis = _white(embeddings, 1.0)
    vectors = (embeddings - mean) @ basis
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, identities, vectors)
    centres = sums / counts[:, None]
    spread = vectors - centres[identities]
    scatter = spread.T @ spread  # of pictures about their person's mean
    offset = centres.mean(0)  # a person with 530 pictures pulls no more than one with two
    centres -= offset

    # Of the whole variance, 1 in every direction, one half each to begin with.
    within = between = np.eye(vectors.shape[1]) / 2
    for _ in range(EM_STEPS):
        variances, axes = _diagonal_together(between, within)
        back = within @ axes  # the inverse of axes.T
        gain = counts[:, None] * variances
        places = (centres @ axes) * (gain / (1 + gain)) @ back.T
        left_over = variances / (1 + gain)  # (I, K) variance of each place
        away = centres - places
        between = places.T @ places / len(counts) + (back * left_over.mean(0)) @ back.T
        within = (scatter + (away * counts[:, None]).T @ away) / counts.sum() + (
            back * (counts @ left_over / counts.sum())
        ) @ back.T
        # Pictures of one person that are all equal would make it singular.
        within += NEGLIGIBLE_VARIANCE * np.eye(len(within))
    variances, axes = _diagonal_together(between, within)
    # The white coordinates' offset, taken back to where embeddings lie.
    centre = mean + np.linalg.pinv(basis).T @ offset
    return JointBayesianScorer(centre, basis @ axes, variances)


def _diagonal_together(between: Floats, within: Floats) -> tuple[Floats, Floats]:
    """Variances (K,) and axes (K, K) in which `within` is the identity and `between` diagonal."""
    root = np.linalg.cholesky(within)
    half = np.linalg.solve(root, between)
    variances, turned = np.linalg.eigh(np.linalg.solve(root, half.T))
    return np.maximum(variances, 0), np.linalg.solve(root.T, turned)


def _white(embeddings: Floats, variance: float) -> tuple[Floats, Floats]:
    """Mean (D,) and basis (D, K) of uncorrelated coordinates of unit variance.

    The fewest that hold so great a share of the `variance`, and none of mere rounding.
    """
    mean = embeddings.mean(0)
    _, singular, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    variances = singular**2
    kept = int((variances > NEGLIGIBLE_VARIANCE * variances[0]).sum())
    if variance < 1:
        held = np.cumsum(variances) / variances.sum()
        kept = min(kept, int(np.searchsorted(held, variance)) + 1)
    scale = np.sqrt(len(embeddings)) / singular[:kept]
    return mean, axes[:kept].T * scale


SCORERS: dict[str, Callable[[Floats, Integers, int], Scorer]] = {
    "cosine": _plain("cosine"),
    "l1": _plain("l1"),
    "l2": _plain("l2"),
    "logistic": _logistic,
    "whitening": _whitening,
    "lda": _lda,
    "joint_bayesian": _joint_bayesian,
}
FITTED: dict[str, Callable[..., Scorer]] = {
    "logistic": DifferenceScorer,
    "whitening": ProjectionScorer,
    "lda": ProjectionScorer,
    "joint_bayesian": JointBayesianScorer,
}
