"""Ways to say how alike two embeddings are, fitted on people who take no part in the evaluation.

A scorer costs no training of a network: many can be tried on the embeddings of one.
"""

# N pictures · I identities · P pairs · D numbers of an embedding · K dimensions kept of them

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

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
# On View 1 it is the same from 20 to 200 of 3,800 people; with all of them it is worse than none.
NEIGHBOURS, NEIGHBOUR_SHARE = 50, 0.1
CHUNK_NUMBERS = 1 << 22  # of embeddings gathered on each side at a time: 32 MiB


class Scorer(ABC):
    """Scores pairs of embeddings: large when alike, the same either way round."""

    holds_people: ClassVar[bool] = False  # enough of training people to recognise them by

    @abstractmethod
    def place(self, embeddings: Floats) -> Floats:
        """What of each embedding `(N, D)` is compared, `(N, ...)`: once a picture, not a pair."""

    @abstractmethod
    def compare(self, a: Floats, b: Floats) -> Floats:
        """Scores `(P,)` of pairs of places."""

    def score(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Scores `(P,)` of pairs of embeddings `(P, D)`."""
        left, right = (self.place(np.asarray(side, np.float64)) for side in (a, b))
        return self.compare(left, right)


@dataclass(frozen=True)
class DistanceScorer(Scorer):
    """Minus a distance; nothing is fitted."""

    distance: str

    def place(self, embeddings: Floats) -> Floats:
        """The embeddings themselves."""
        return embeddings

    def compare(self, a: Floats, b: Floats) -> Floats:
        """`-distance(a, b)`, `(P,)`."""
        return -DISTANCES[self.distance](torch.from_numpy(a), torch.from_numpy(b)).numpy()


@dataclass(frozen=True, eq=False)
class DifferenceScorer(Scorer):
    """A weighted sum of the absolute differences."""

    weights: Floats  # (D,)
    intercept: float

    def place(self, embeddings: Floats) -> Floats:
        """The embeddings themselves."""
        return embeddings

    def compare(self, a: Floats, b: Floats) -> Floats:
        """`weights · |a - b| + intercept`, `(P,)`: the log-odds of "same" on balanced pairs."""
        return np.abs(a - b) @ self.weights + self.intercept


@dataclass(frozen=True, eq=False)
class ProjectionScorer(Scorer):
    """The cosine of the angle between two projected embeddings."""

    mean: Floats  # (D,)
    projection: Floats  # (D, K)

    def place(self, embeddings: Floats) -> Floats:
        """Directions `(N, K)`, or 0 where an embedding is the mean of them all."""
        return _unit((embeddings - self.mean) @ self.projection)

    def compare(self, a: Floats, b: Floats) -> Floats:
        """Cosines `(P,)`."""
        return (a * b).sum(1)


@dataclass(frozen=True, eq=False)
class JointBayesianScorer(Scorer):
    """Two Gaussian covariances, of people and of one person's pictures, made diagonal together.

    In the coordinates `(x - mean) @ basis` a person lies at a draw of variance `between` and each
    picture about it at one of variance 1, independently in every coordinate.
    """

    mean: Floats  # (D,)
    basis: Floats  # (D, K)
    between: Floats  # (K,), 0 or more

    def place(self, embeddings: Floats) -> Floats:
        """In those coordinates, `(N, K)`."""
        return (embeddings - self.mean) @ self.basis

    def compare(self, a: Floats, b: Floats) -> Floats:
        """Log of how much likelier the two are as pictures of one person than of two, `(P,)`."""
        # The sum and the difference of two pictures are independent: of variance 2 + 4 between and
        # 2 if they show one person, both 2 + 2 between if they show two.
        total, apart = (a + b) ** 2, (a - b) ** 2
        one, two = 2 + 4 * self.between, 2 + 2 * self.between
        constant = np.log(two).sum() - (np.log(one) + np.log(2.0)).sum() / 2
        return constant + (total @ (1 / two - 1 / one) + apart @ (1 / two - 1 / 2)) / 2


@dataclass(frozen=True, eq=False)
class NeighbourhoodScorer(Scorer):
    """The cosine, less how near both pictures come to strangers.

    Some faces are near to many: an angle that is small for one of them says little. Cross-domain
    similarity local scaling (Conneau et al. 2018, "Word translation without parallel data"), with
    people of the training for neighbours.
    """

    holds_people: ClassVar[bool] = True

    people: Floats  # (I, D), of unit length
    neighbours: float  # so many of them, the nearest, count

    def place(self, embeddings: Floats) -> Floats:
        """Directions `(N, D)`, and in one more column the mean cosine of the nearest people."""
        directions = _unit(embeddings)
        count = int(self.neighbours)
        nearness = np.empty((len(directions), 1))
        size = max(1, CHUNK_NUMBERS // len(self.people))
        for start in range(0, len(directions), size):
            cosines = directions[start : start + size] @ self.people.T
            nearest = np.partition(cosines, len(self.people) - count, axis=1)[:, -count:]
            nearness[start : start + size] = nearest.mean(1, keepdims=True)
        return np.hstack([directions, nearness])

    def compare(self, a: Floats, b: Floats) -> Floats:
        """`cosine - (nearness of a + nearness of b) / 2`, `(P,)`."""
        return (a[:, :-1] * b[:, :-1]).sum(1) - (a[:, -1] + b[:, -1]) / 2


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
    places = scorer.place(np.asarray(embeddings, np.float64))
    first, second = np.asarray(left), np.asarray(right)
    scores = np.empty(len(first))
    size = max(1, CHUNK_NUMBERS // places.shape[1])
    for start in range(0, len(first), size):
        chunk = slice(start, start + size)
        scores[chunk] = scorer.compare(places[first[chunk]], places[second[chunk]])
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
    from sklearn.covariance import ledoit_wolf_shrinkage
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    several = (np.bincount(identities) > 1)[identities]  # the others show no spread of a person
    # As they are: in white coordinates the shrunk covariance would favour noise.
    mean = embeddings.mean(0)
    vectors, people = embeddings[several] - mean, identities[several]
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    try:
        try:
            model.fit(vectors, people)
        except np.linalg.LinAlgError:
            # Two pictures of each person are never shrunk one person at a time, and are singular
            # where people are fewer than dimensions; all their spreads together say how much.
            centres = _sums(vectors, people) / np.maximum(np.bincount(people), 1)[:, None]
            shrinkage = float(
                ledoit_wolf_shrinkage(vectors - centres[people], assume_centered=True)
            )
            model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage)
            model.fit(vectors, people)
    except np.linalg.LinAlgError as error:
        raise InvalidInput(
            "lda needs people whose pictures differ, but they have equal embeddings; choose "
            "another scorer"
        ) from error
    return ProjectionScorer(mean, model.scalings_[:, : len(model.classes_) - 1])


def _joint_bayesian(embeddings: Floats, identities: Integers, seed: int) -> Scorer:
    """Joint Bayesian faces (Chen et al. 2012): both covariances by EM, everybody counts.

    Each step makes the two covariances diagonal together, whereupon the expectation is a division
    (the two-covariance model of Brümmer and de Villiers 2010).
    """
    counts = np.bincount(identities).astype(np.float64)
    mean, basis = _white(embeddings, 1.0)
    vectors = (embeddings - mean) @ basis
    centres = _sums(vectors, identities) / counts[:, None]
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


def _csls(embeddings: Floats, identities: Integers, seed: int) -> Scorer:
    """One direction a person, the mean of the person's pictures, for neighbours."""
    people = _unit(_sums(_unit(embeddings), identities))
    share = max(1, int(NEIGHBOUR_SHARE * len(people)))
    return NeighbourhoodScorer(people, float(min(NEIGHBOURS, share)))


def _sums(vectors: Floats, identities: Integers) -> Floats:
    """Of each person's vectors, `(I, D)`."""
    sums = np.zeros((identities.max() + 1, vectors.shape[1]))
    np.add.at(sums, identities, vectors)
    return sums


def _unit(vectors: Floats) -> Floats:
    """Of length 1, or 0 as it was."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float64).tiny)


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
    "csls": _csls,
}
FITTED: dict[str, Callable[..., Scorer]] = {
    "logistic": DifferenceScorer,
    "whitening": ProjectionScorer,
    "lda": ProjectionScorer,
    "joint_bayesian": JointBayesianScorer,
    "csls": NeighbourhoodScorer,
}
