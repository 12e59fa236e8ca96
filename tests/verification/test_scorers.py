"""Scorers against slow loops, scikit-learn, and the Gaussian densities that they stand for."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from siamtune.errors import InvalidInput
from siamtune.verification.metrics import roc_auc
from siamtune.verification.pairs import all_pairs, verification_pairs
from siamtune.verification.scorers import (
    SCORERS,
    JointBayesianScorer,
    NeighbourhoodScorer,
    ProjectionScorer,
    fit_scorer,
    restore_scorer,
    score_pairs,
    scorer_arrays,
)

D = 6


def covariances(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    between, within = (rng.normal(size=(D, D)) for _ in range(2))
    return between @ between.T / D, 3 * within @ within.T / D


def crowd(people: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings drawn from the two-covariance model; some people have one picture."""
    rng = np.random.default_rng(seed)
    between, within = covariances()
    identities = np.repeat(np.arange(people), rng.integers(1, 8, size=people))
    centres = rng.multivariate_normal(np.full(D, 0.5), between, size=people)
    noise = rng.multivariate_normal(np.zeros(D), within, size=len(identities))
    return centres[identities] + noise, identities


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_finite_and_the_same_either_way_round(name: str) -> None:
    embeddings, identities = crowd(40)
    scorer = fit_scorer(name, embeddings, identities, seed=0)
    forward = scorer.score(embeddings[:30], embeddings[30:60])
    assert forward.shape == (30,)
    assert np.isfinite(forward).all()
    np.testing.assert_allclose(forward, scorer.score(embeddings[30:60], embeddings[:30]))


@pytest.mark.parametrize("name", SCORERS)
def test_a_fitted_scorer_is_restored_from_its_arrays(name: str) -> None:
    embeddings, identities = crowd(40)
    scorer = fit_scorer(name, embeddings, identities, seed=0)
    again = restore_scorer(name, scorer_arrays(scorer))
    pair = embeddings[:30], embeddings[30:60]
    assert np.array_equal(again.score(*pair), scorer.score(*pair))


def test_only_a_whole_scorer_is_restored() -> None:
    with pytest.raises(InvalidInput, match="scorer must be one of cosine, "):
        restore_scorer("euclid", {})
    with pytest.raises(InvalidInput, match="the scorer lda is not whole"):
        restore_scorer("lda", {"mean": np.zeros(3)})


@pytest.mark.parametrize("name", SCORERS)
def test_alike_scores_higher(name: str) -> None:
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(60), 4)
    embeddings = rng.normal(size=(60, D))[identities] + 0.3 * rng.normal(size=(240, D))
    scorer = fit_scorer(name, embeddings[:120], identities[:120], seed=0)
    pairs = all_pairs(np.arange(120, 240), identities)
    scores = score_pairs(scorer, embeddings, pairs.left, pairs.right)
    assert roc_auc(scores, pairs.same) > 0.93


@pytest.mark.parametrize(
    ("name", "slow"),
    [
        ("cosine", lambda a, b: cosine(a, b) - 1),
        ("l1", lambda a, b: -sum(abs(x - y) for x, y in zip(a, b, strict=True))),
        ("l2", lambda a, b: -(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)),
    ],
)
def test_plain_scores_are_minus_the_distances(name: str, slow) -> None:  # type: ignore[no-untyped-def]
    embeddings, identities = crowd(20)
    scores = fit_scorer(name, embeddings, identities, seed=0).score(
        embeddings[:9], embeddings[9:18]
    )
    expected = [slow(a, b) for a, b in zip(embeddings[:9], embeddings[9:18], strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_logistic_is_scikit_learns_decision_value() -> None:
    embeddings, identities = crowd(50)
    pairs = verification_pairs(np.arange(len(embeddings)), identities, seed=3)
    inputs = np.abs(embeddings[pairs.left] - embeddings[pairs.right])
    model = LogisticRegression(max_iter=1000).fit(inputs / inputs.std(0), pairs.same)
    a, b = embeddings[:20], embeddings[20:40]
    expected = model.decision_function(np.abs(a - b) / inputs.std(0))
    scores = fit_scorer("logistic", embeddings, identities, seed=3).score(a, b)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_whitening_is_scikit_learns() -> None:
    embeddings, identities = crowd(50)
    white = PCA(n_components=0.9, whiten=True, svd_solver="full").fit_transform(embeddings)
    scores = fit_scorer("whitening", embeddings, identities, seed=0).score(
        embeddings[:20], embeddings[20:40]
    )
    expected = [cosine(a, b) for a, b in zip(white[:20], white[20:40], strict=True)]
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_lda_is_scikit_learns_about_the_mean() -> None:
    embeddings, identities = crowd(50)
    centred = embeddings - embeddings.mean(0)
    several = (np.bincount(identities) > 1)[identities]
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    flat = model.fit(centred[several], identities[several]).transform(centred)
    scores = fit_scorer("lda", embeddings, identities, seed=0).score(
        embeddings[:20], embeddings[20:40]
    )
    expected = [cosine(a, b) for a, b in zip(flat[:20], flat[20:40], strict=True)]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_lda_learns_from_fewer_people_of_two_pictures_than_dimensions() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(rng.normal(size=(240, 79)), 2, axis=0)
    noise = np.r_[np.full(39, 2.0), np.full(40, 0.3)]  # the first dimensions say little
    pictures = people + noise * rng.normal(size=people.shape)
    train, left, right = pictures[:80], pictures[80::2], pictures[81::2]

    def auc(how: str) -> float:
        scorer = fit_scorer(how, train, np.repeat(np.arange(40), 2), seed=0)
        scores = [scorer.score(left, right), scorer.score(left, np.roll(right, 1, axis=0))]
        return roc_auc(np.concatenate(scores), np.repeat([True, False], len(left)))

    assert auc("lda") > auc("cosine") + 0.01


def test_the_joint_bayesian_score_is_a_ratio_of_gaussian_densities() -> None:
    from scipy.linalg import eigh

    between, within = covariances()
    mean = np.arange(D) / 10
    variances, axes = eigh(between, within)
    scorer = JointBayesianScorer(mean, axes, variances)
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 20, D))
    both = np.hstack([a, b])
    whole = between + within
    one = np.block([[whole, between], [between, whole]])
    two = np.block([[whole, np.zeros((D, D))], [np.zeros((D, D)), whole]])
    means = np.tile(mean, 2)
    expected = multivariate_normal(means, one).logpdf(both)
    expected -= multivariate_normal(means, two).logpdf(both)
    np.testing.assert_allclose(scorer.score(a, b), expected, rtol=1e-8)


def test_joint_bayesian_finds_the_covariances_that_the_people_were_drawn_from() -> None:
    embeddings, identities = crowd(5000)
    scorer = fit_scorer("joint_bayesian", embeddings, identities, seed=0)
    assert isinstance(scorer, JointBayesianScorer)
    between, within = covariances()
    back = np.linalg.inv(scorer.basis)
    np.testing.assert_allclose(back.T @ back, within, atol=0.1 * np.abs(within).max())
    np.testing.assert_allclose(
        back.T @ np.diag(scorer.between) @ back, between, atol=0.1 * np.abs(between).max()
    )
    np.testing.assert_allclose(scorer.mean, 0.5, atol=0.1)


def test_csls_is_the_cosine_less_the_nearness_of_training_people() -> None:
    embeddings, identities = crowd(45)
    people = [
        np.mean([x / np.sqrt(x @ x) for x in embeddings[identities == person]], axis=0)
        for person in range(45)
    ]

    def nearness(x: np.ndarray) -> float:
        return float(np.mean(sorted(cosine(x, person) for person in people)[-4:]))  # a tenth

    scores = fit_scorer("csls", embeddings, identities, seed=0).score(
        embeddings[:20], embeddings[20:40]
    )
    expected = [
        cosine(a, b) - (nearness(a) + nearness(b)) / 2
        for a, b in zip(embeddings[:20], embeddings[20:40], strict=True)
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_csls_counts_fifty_people_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, identities = crowd(600)
    scorer = fit_scorer("csls", embeddings, identities, seed=0)
    assert isinstance(scorer, NeighbourhoodScorer)
    assert scorer.neighbours == 50
    whole = scorer.place(embeddings)
    monkeypatch.setattr("siamtune.verification.scorers.CHUNK_NUMBERS", 7 * 600)
    np.testing.assert_allclose(scorer.place(embeddings), whole)


def likelihood(
    embeddings: np.ndarray, identities: np.ndarray, scorer: JointBayesianScorer
) -> float:
    """Of all pictures, person by person, from the definition of the model."""
    back = np.linalg.inv(scorer.basis)
    within, between = back.T @ back, back.T @ np.diag(scorer.between) @ back
    total = 0.0
    for person in np.unique(identities):
        own = embeddings[identities == person]
        n = len(own)
        covariance = np.kron(np.eye(n), within) + np.kron(np.ones((n, n)), between)
        total += multivariate_normal(np.tile(scorer.mean, n), covariance).logpdf(own.ravel())
    return total


def test_em_steps_never_lower_the_likelihood_of_the_people(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, identities = crowd(60)
    values = []
    for steps in (0, 1, 2, 5, 20, 50):
        monkeypatch.setattr("siamtune.verification.scorers.EM_STEPS", steps)
        scorer = fit_scorer("joint_bayesian", embeddings, identities, seed=0)
        assert isinstance(scorer, JointBayesianScorer)
        values.append(likelihood(embeddings, identities, scorer))
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("name", SCORERS)
def test_fewer_directions_than_numbers_are_no_hindrance(name: str) -> None:
    """Embeddings in a plane, as few pictures or a collapsed layer give them."""
    embeddings, identities = crowd(30)
    embeddings[:, 2:] = embeddings[:, :1]
    scorer = fit_scorer(name, embeddings.astype(np.float32), identities, seed=0)
    assert np.isfinite(scorer.score(embeddings[:9], embeddings[9:18])).all()


def test_scoring_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, identities = crowd(30)
    pairs = all_pairs(np.arange(len(embeddings)), identities)
    scorer = fit_scorer("joint_bayesian", embeddings, identities, seed=0)
    whole = score_pairs(scorer, embeddings, pairs.left, pairs.right)
    monkeypatch.setattr("siamtune.verification.scorers.CHUNK_NUMBERS", 7 * D)
    np.testing.assert_allclose(score_pairs(scorer, embeddings, pairs.left, pairs.right), whole)


def test_the_mean_itself_scores_zero() -> None:
    scorer = ProjectionScorer(np.ones(2), np.eye(2))
    assert scorer.score([[1.0, 1.0]], [[3.0, 2.0]]) == [0.0]


@pytest.mark.parametrize(
    ("embeddings", "identities", "message"),
    [
        (np.ones((4, 2)), [0, 0, 1, 1], "all are equal"),
        (np.eye(4), [0, 0, 1, 2], "two people or more"),
        (np.full((4, 2), np.nan), [0, 0, 1, 1], "finite"),
        (np.eye(4), [0, 0, 1], "shapes"),
    ],
)
def test_what_no_scorer_can_be_fitted_on_is_refused(
    embeddings: np.ndarray, identities: list[int], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        fit_scorer("lda", embeddings, identities, seed=0)


def test_an_unknown_scorer_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match="cosine, l1, l2, logistic"):
        fit_scorer("euclid", np.eye(4), [0, 0, 1, 1], seed=0)
