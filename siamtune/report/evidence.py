"""What a report knows besides the records: answers to the validation pairs, and their faces."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from siamtune.config import DEFAULTS
from siamtune.report.pairs import PairPicture
from siamtune.report.standing import Standing
from siamtune.search.history import History
from siamtune.search.space import complete, load_space

# Dials that say how long and from where a training starts, not what it is.
NOT_COMPARED = ("epochs", "seed")
SIAMTUNE, SEED = "siamtune's default", "the 2016 seed's default"


@dataclass(frozen=True)
class Evidence:
    """All of it may be empty: an old run, or one whose data lie elsewhere.

    Attributes:
        trials: by number, the best first.
        defaults: name, and the trial of the run that is this configuration, or None if it was
            trained beside the search.
        baselines: by name, what needs no training of a network.
        strangers, own: the most confident wrong answers of the winner: two people taken for one,
            one person taken for two.
        notes: what is missing, and why.
    """

    trials: Mapping[int, Standing] = field(default_factory=dict)
    defaults: Mapping[str, tuple[int | None, Standing]] = field(default_factory=dict)
    baselines: Mapping[str, Standing] = field(default_factory=dict)
    strangers: tuple[PairPicture, ...] = ()
    own: tuple[PairPicture, ...] = ()
    notes: tuple[str, ...] = ()


def default_configs() -> dict[str, dict[str, object]]:
    """The two configurations that every search should beat, complete."""
    seed = load_space("seed2016")
    return {SIAMTUNE: dict(DEFAULTS), SEED: {**DEFAULTS, **complete(seed, seed.start[0])}}


def default_trials(history: History) -> dict[str, int]:
    """Complete trials of a run that are one of `default_configs`, whatever their epochs and seed.

    One that was stopped early is no measure of a default beside trials that were not.
    """
    found: dict[str, int] = {}
    for name, wanted in default_configs().items():
        for record in history.ranked:
            if record.state != "complete":
                continue
            config = history.config(record)
            if all(config[d] == wanted[d] for d in DEFAULTS if d not in NOT_COMPARED):
                found[name] = record.number
                break
    return found
