from pathlib import Path

import numpy as np
import pytest

from siamtune.errors import InvalidInput
from siamtune.verification.answers import Answers
from siamtune.verification.kept import KeptAnswers, keep_answers, read_answers, wrong_pairs
from siamtune.verification.pairs import VerificationPairs

PAIRS = VerificationPairs(np.array([0, 2]), np.array([1, 3]), np.array([True, False]))
PEOPLE = np.array([7, 7, 8, 9])


def test_what_is_kept_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    scores = np.array([1 / 3, -2 / 3])
    keep_answers(tmp_path, 3, PAIRS, PEOPLE, "5b1e", scores, 0.1, 4)
    keep_answers(tmp_path, 12, PAIRS, PEOPLE, "5b1e", scores[::-1], 0.2, 5)
    kept = read_answers(tmp_path, 3)
    assert kept is not None
    assert (kept.epoch, kept.split, kept.answers.threshold) == (4, "5b1e", 0.1)
    assert list(kept.answers.scores) == [1 / 3, -2 / 3]
    assert [list(part) for part in (kept.answers.left, kept.answers.right)] == [[7, 8], [7, 9]]
    assert [list(part) for part in (kept.pairs.left, kept.pairs.right)] == [[0, 2], [1, 3]]
    assert read_answers(tmp_path, 4) is None
    assert sorted(path.name for path in tmp_path.rglob("*.npz")) == [
        "pairs-5b1e.npz", "scores.npz", "scores.npz",
    ]  # fmt: skip


@pytest.mark.parametrize("damaged", ["trials/0003/scores.npz", "pairs-5b1e.npz"])
@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_what_is_damaged_is_named(tmp_path: Path, damaged: str, content: bytes | None) -> None:
    keep_answers(tmp_path, 3, PAIRS, PEOPLE, "5b1e", np.array([1.0, 2.0]), 0.1, 4)
    path = tmp_path / damaged
    if content is None:
        np.savez(path, scores=np.zeros(3), threshold=0.0, epoch=1, split="5b1e")
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"\.npz: must hold"):
        read_answers(tmp_path, 3)


def test_the_worst_mistakes_come_first_and_nobody_fills_all_places() -> None:
    same = np.array([False] * 5 + [True] * 4)
    left = np.array([1, 1, 1, 2, 4, 6, 6, 6, 7])
    right = np.where(same, left, [2, 3, 4, 3, 5, 0, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.95, 0.6, 0.4, 0.1, 0.2, 0.3, 0.6])
    pairs = VerificationPairs(left, right, same)
    kept = KeptAnswers(pairs, Answers(scores, same, left, right, 0.5), 1, "5b1e")
    strangers, own = wrong_pairs(kept, 8)
    assert list(strangers) == [2, 0, 3]  # the pair (1, 3) would show 1 a third time
    assert list(own) == [5, 6]
    assert list(wrong_pairs(kept, 1)[0]) == [2]
