"""TPE over a bounded history against Optuna's own, and against a choice made the long way."""

import errno
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from siamtune.search import sampler
from siamtune.search.sampler import BoundedTPE
from siamtune.search.space import Space, load_space
from siamtune.search.study import _frozen, open_study, propose, report_epoch, tell
from siamtune.search.suggest import suggest

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(scope="module")
def space() -> Space:
    return load_space("full")


def played(space: Space, study: optuna.Study, trials: int) -> list[dict[str, object]]:
    """What was proposed; every third trial is stopped, some fail, one always runs."""
    study.enqueue_trial({"optim.lr": 1e-3})
    waiting = study.ask()
    suggest(space, waiting)
    for number in range(1, trials + 1):
        trial = study.ask()
        suggest(space, trial)
        value = -abs(trial.params["optim.weight_decay"] - 1e-3) - (number * 7919 % 100) / 1e5
        trial.report(value, 2)
        if number % 3 == 0:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 20 == 0:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, value)
    return [trial.params for trial in study.get_trials(deepcopy=False)]


def test_up_to_its_bound_it_proposes_what_optunas_does(space: Space) -> None:
    def study(tpe: TPESampler) -> optuna.Study:
        return optuna.create_study(direction="maximize", sampler=tpe)

    own = played(space, study(BoundedTPE(seed=5)), 70)
    assert own == played(space, study(TPESampler(multivariate=True, group=True, seed=5)), 70)


def test_beyond_it_sees_the_best_and_the_latest(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "MOST", 40)
    monkeypatch.setattr(sampler, "BEST", 6)
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
    played(space, study, 200)
    study.sampler = bounded = BoundedTPE(seed=0)
    for _ in range(3):  # the choice is made anew, from what is new, for each trial
        trial = study.ask()
        suggest(space, trial)
        ended = [
            t for t in study.get_trials() if t.state in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        complete = [t for t in ended if t.state is TrialState.COMPLETE]
        best = sorted(complete, key=lambda t: -(t.value or 0.0))[:6]
        others = [t for t in ended if t.number not in {b.number for b in best}]
        if trial.number > 201:  # the one just before this, better than all others
            assert best[0].number == trial.number - 1
        expected = sorted([t.number for t in best] + [t.number for t in others[-34:]])
        assert [t.number for t in bounded._window] == expected
        study.tell(trial, 1.0 + trial.number)


def test_a_proposal_is_one_write_that_waits_for_the_disk(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.log"
    study = open_study(path, space)
    before = path.read_bytes()
    synced: list[bytes] = []
    monkeypatch.setattr(
        "siamtune.search.study.os.fsync", lambda file: synced.append(path.read_bytes())
    )
    first = propose(study, space, lambda rejected: None)
    assert len(first.suggested) > 10
    (whole,) = synced
    assert whole.startswith(before)
    assert whole.count(b"\n") > before.count(b"\n") + len(first.suggested)
    report_epoch(study, first.number, 1, 0.7)  # an epoch waits for nothing
    assert len(synced) == 1
    second = propose(study, space, lambda rejected: None)
    tell(study, first.number, "complete")
    assert len(synced) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = open_study(path, space)
    for own, read in zip(study.get_trials(), again.get_trials(), strict=True):
        assert own == read  # what this process holds is what it has written
    assert again.get_trials()[first.number].value == 0.7
    assert again.get_trials()[second.number].params == second.suggested


def test_a_proposal_that_finds_no_room_leaves_nothing_of_itself(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "study.log"
    study = open_study(path, space)
    first = propose(study, space, lambda rejected: None)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("siamtune.search.study.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            propose(study, space, lambda rejected: None)
    assert path.read_bytes() == before
    # Whoever goes on in this process is heard by the next one.
    report_epoch(study, first.number, 1, 0.7)
    assert study.get_trials()[first.number].intermediate_values == {1: 0.7}
    assert _frozen(open_study(path, space), first.number).intermediate_values == {1: 0.7}
