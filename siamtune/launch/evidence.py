"""What a report needs besides the records: measured once, then read from the run folder.

standings.json    numbers, intervals and curve of trials, from their kept answers
baselines.json    the same of what needs no training, on the same pairs; once a split and machine
defaults/         the default configurations, where they were trained for the report
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamtune.config import flatten, trial_config
from siamtune.errors import DataError, InvalidInput
from siamtune.launch.job import DataSpec, data_spec_of
from siamtune.report.evidence import Evidence, default_configs, default_trials
from siamtune.report.pairs import PairPicture
from siamtune.report.standing import Standing, from_plain, standing, to_plain
from siamtune.report.table import total_epochs
from siamtune.search.history import History
from siamtune.search.runs import Run, write_text
from siamtune.search.space import complete
from siamtune.verification.kept import KeptAnswers, read_answers, wrong_pairs

if TYPE_CHECKING:
    from siamtune.data.decode import Progress
    from siamtune.report.album import Album

# What reads a run imports neither torch nor OpenCV before it needs them: a second saved.
# Enters the name in the cache: raise it when baselines or their numbers change.
VERSION = 1
STANDINGS, BASELINES_FILE, DEFAULTS_FOLDER = "standings.json", "baselines.json", "defaults"
WRONG_PAIRS = 8  # of each kind


def gather(
    history: History,
    trials: int,
    *,
    baselines: bool = True,
    faces: bool = True,
    progress: "Progress | None" = None,
) -> Evidence:
    """The evidence on the best `trials` of a run, as far as it is there.

    Args:
        baselines: measure them if nobody has; half a minute on LFW.
        faces: open the pictures, for those that the winner takes for the wrong person.
    """
    notes: list[str] = []
    ranked = [record.number for record in history.ranked]
    known_defaults = default_trials(history)
    wanted = [*ranked[:trials], *(n for n in known_defaults.values() if n not in ranked[:trials])]
    kept = {number: read_answers(history.run.folder, number) for number in wanted}
    measured = _standings(
        history.run, {n: answers for n, answers in kept.items() if answers}, progress
    )
    if wanted and not measured:
        notes.append("its trials kept no answers, as runs of an older siamtune: no intervals")
    defaults: dict[str, tuple[int | None, Standing]] = {
        name: (number, measured[number])
        for name, number in known_defaults.items()
        if number in measured
    }
    for name in default_configs():
        run = default_run(history.run, name)
        if name not in defaults and (answers := read_answers(run.folder, 0)):
            defaults[name] = (None, _standings(run, {0: answers}, progress)[0])

    found: dict[str, Standing] = {}
    strangers: tuple[PairPicture, ...] = ()
    own: tuple[PairPicture, ...] = ()
    if baselines and measured:
        try:
            found = run_baselines(history, data_spec(history), progress)
        except (DataError, InvalidInput) as error:
            notes.append(f"no baselines: {error}")
    winner = kept.get(ranked[0]) if ranked else None
    if faces and winner:
        try:
            album = open_album(data_spec(history), progress)
            album.require(winner)
            strangers, own = (
                tuple(album.pair(winner, at, score_text(winner, at)) for at in positions)
                for positions in wrong_pairs(winner, WRONG_PAIRS)
            )
        except (DataError, InvalidInput) as error:
            notes.append(f"no faces: {error}")
    return Evidence(
        {number: measured[number] for number in ranked[:trials] if number in measured},
        defaults, found, strangers, own, tuple(notes),
    )  # fmt: skip


def score_text(kept: KeptAnswers, at: int) -> str:
    """`score -0.21, threshold -0.35`."""
    return f"score {kept.answers.scores[at]:.3f}, threshold {kept.answers.threshold:.3f}"


def data_spec(history: History) -> DataSpec:
    """Where the pictures of a run lie.

    Raises:
        InvalidInput: its run.json does not say.
    """
    spec = data_spec_of(history.facts)
    if spec is None:
        raise InvalidInput(f"{history.run.facts_path} does not tell where the data lie")
    return spec


def open_album(spec: DataSpec, progress: "Progress | None" = None) -> "Album":
    """The pictures of a run, decoded; raises DataError where they are gone."""
    from siamtune.data.decode import decode
    from siamtune.data.sources import open_source
    from siamtune.report.album import Album

    source = open_source(spec.source, Path(spec.data_home) if spec.data_home else None)
    return Album(source, decode(source, progress=progress))


def run_baselines(
    history: History, spec: DataSpec, progress: "Progress | None" = None
) -> dict[str, Standing]:
    """Baselines on the validation pairs of a run: from its folder, this machine's cache, or new.

    They see the faces as the run's first configuration cuts them.

    Raises:
        DataError: the pictures are gone or are others now.
    """
    path = history.run.folder / BASELINES_FILE
    split = history.facts.get("split")
    document = _read_json(path)
    if document.get("split") != split or document.get("version") != VERSION:
        from siamtune.data.cache import cached_file, digest
        from siamtune.data.decode import pixels_name
        from siamtune.folders import default_cache_folder
        from siamtune.launch.worker import data_source

        config = trial_config(_first_config(history))
        source = data_source(spec)
        content = digest(VERSION, pixels_name(source), asdict(spec), flatten(config), str(split))

        def write(to: Path) -> None:
            made = _ask_baselines(spec, flatten(config), progress)
            to.write_text(json.dumps(made, indent=1))

        def read(cached: Path) -> dict[str, Any]:
            return dict(json.loads(cached.read_text()))

        name = f"{content}.json"
        document = cached_file(default_cache_folder() / "baselines" / name, read, write)
        if document["split"] != split:
            raise DataError(
                f"{spec.source} must hold the people of the run (split {split}), but got split "
                f"{document['split']}"
            )
        write_text(path, json.dumps(document, indent=1) + "\n")
    return {name: from_plain(plain) for name, plain in document["methods"].items()}


def _ask_baselines(
    spec: DataSpec, dials: Mapping[str, Any], progress: "Progress | None"
) -> dict[str, Any]:
    import torch

    from siamtune.launch.evaluate import BASELINE_METHODS, Questions, answer
    from siamtune.launch.worker import prepare_faces
    from siamtune.training.evaluation import validation_pairs
    from siamtune.verification.protocols import Fold

    config = trial_config(dict(dials))
    faces = prepare_faces(spec, config.data, progress)
    fold = Fold(1, faces.split, validation_pairs(faces))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    methods = {}
    questions = Questions((), baselines=True, threshold_from="train")
    asked = answer(BASELINE_METHODS, questions, config, faces, fold, {}, device)
    for done, (name, answers) in enumerate(asked, start=1):
        methods[name] = to_plain(standing(answers))
        if progress:
            progress("measuring baselines", done, len(BASELINE_METHODS))
    return {
        "schema": "siamtune.baselines/1",
        "version": VERSION,
        "data": faces.source,
        "protocol": faces.split.protocol,
        "split": faces.split.digest,
        "pictures": f"{config.data.crop} crop, factor {config.data.crop_factor:g}, "
        f"{config.data.resolution_px} px",
        "methods": methods,
    }


def _first_config(history: History) -> dict[str, Any]:
    space = history.space
    return complete(space, space.start[0] if space.start else {})


def _standings(
    run: Run, kept: Mapping[int, KeptAnswers], progress: "Progress | None"
) -> dict[int, Standing]:
    """Each trial's standing, from the run folder as far as it is there for the same epoch."""
    path = run.folder / STANDINGS
    known = _read_json(path)
    found: dict[int, Standing] = {}
    new = False
    for done, (number, answers) in enumerate(kept.items(), start=1):
        of = {"epoch": answers.epoch, "split": answers.split}
        with suppress(KeyError, TypeError, ValueError):
            if known[str(number)].items() >= of.items():
                found[number] = from_plain(known[str(number)])
        if number not in found:
            new = True
            found[number] = standing(answers.answers)
            known[str(number)] = {**of, **to_plain(found[number])}
            if progress:
                progress("measuring intervals", done, len(kept))
    if new:
        write_text(path, json.dumps(known) + "\n")
    return found


def default_run(run: Run, name: str) -> Run:
    """Where a default configuration lies that was trained beside a search."""
    return Run(run.folder / DEFAULTS_FOLDER / ("seed2016" if "2016" in name else "siamtune"))


def train_defaults_of(history: History, threads: int | None, tell: Callable[[str], None]) -> None:
    """Train those default configurations that no trial of the run is, on its split, as long.

    Raises:
        InvalidInput: run.json does not tell where the data lie.
    """
    from siamtune.launch.alone import train_alone

    spec = data_spec(history)
    there = default_trials(history)
    for name, config in default_configs().items():
        run = default_run(history.run, name)
        if name in there or read_answers(run.folder, 0) is not None:
            continue
        epochs = total_epochs(history.space)
        tell(f"training {name}, {epochs} epochs")
        run.folder.mkdir(parents=True, exist_ok=True)
        run.trials_path.unlink(missing_ok=True)  # of an earlier one that was cut short
        facts = {key: history.facts.get(key) for key in ("data", "protocol", "split")}
        train_alone(run, {**config, "epochs": epochs}, spec, facts, threads, tell)


def _read_json(path: Path) -> dict[str, Any]:
    """An object; an empty one where the file is missing or damaged: it is made anew."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
