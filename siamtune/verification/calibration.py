"""From a score to the probability that two pictures show one person."""

from dataclasses import dataclass

import numpy as np

from siamtune.verification.roc import checked


@dataclass(frozen=True)
class Calibration:
    """`probability = 1 / (1 + exp(-(slope * score + intercept)))`, never falling with the score."""

    slope: float
    intercept: float

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities `(P,)` of scores `(P,)`, where same and different are as frequent as in
        the pairs that it was fitted on."""
        # tanh cannot overflow, exp can.
        logits = self.slope * np.asarray(scores, np.float64) + self.intercept
        return (1 + np.tanh(logits / 2)) / 2


def fit_calibration(scores: np.ndarray, same: np.ndarray) -> Calibration:
    """Platt scaling (Platt 1999): logistic regression on the score, with his softened targets.

    They keep the slope finite where a score separates all pairs. Scores that tell nothing, or the
    opposite, give every pair the same probability.

    Raises:
        InvalidInput: a score is not finite, or all pairs are of one kind.
    """
    from sklearn.linear_model import LogisticRegression

    scores, same = checked(scores, same)
    positives, negatives = int(same.sum()), int((~same).sum())
    target = np.where(same, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    mean, spread = float(scores.mean()), float(scores.std())
    if spread > 0:
        # A pair that is "same" with weight t and "different" with weight 1 - t has the target t.
        inputs = np.tile((scores - mean) / spread, 2)[:, None]
        answers = np.repeat([True, False], len(scores))
        weights = np.concatenate([target, 1 - target])
        regression = LogisticRegression(C=np.inf, max_iter=1000)
        regression.fit(inputs, answers, sample_weight=weights)
        slope = float(regression.coef_[0, 0]) / spread
        if slope > 0:
            return Calibration(slope, float(regression.intercept_[0]) - slope * mean)
    share = target.mean()
    return Calibration(0.0, float(np.log(share / (1 - share))))
