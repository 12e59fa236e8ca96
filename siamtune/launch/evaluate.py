"""A configuration under a protocol: each fold trained afresh, then asked about people it never saw.

Training and asking are kept apart in the run folder, so that an evaluation that was stopped goes on
where it was, and another scorer costs no training:

trials/0003/        the third fold while it trains
folds/03/           model.safetensors, and the scores of each way to ask: lda-flip.npz, or
                    lda-flip-train.npz where training people gave the threshold
folds.jsonl         what each fold gave, a line as soon as it is known
members/trial 7/    of an ensemble: a member's own trials/, folds/ and folds.jsonl; the ensemble's
                    own holds what they say together
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from siamtune.config import TrialConfig, trial_config
from siamtune.data.prepare import Faces
from siamtune.errors import DataError, InvalidInput, NoTrialSucceeded
from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob, trial_folder
from siamtune.launch.slots import Machines, open_slots, stream
from siamtune.launch.worker import data_folds, prepare_faces, run_trial
from siamtune.models import build_model
from siamtune.report.live import LiveView
from siamtune.search.folds import FOLDS, Key, key_of, read_folds, write_folds
from siamtune.search.records import Recorder, TrialRecord, read_records
from siamtune.search.runs import Run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space
from siamtune.training.checkpoint import read_checkpoint, read_facts, ship_model
from siamtune.training.evaluation import embed
from siamtune.verification.answers import Answers, Summary, ensemble, fold_metrics, summarize
from siamtune.verification.baselines import (
    BASELINE_SCORERS,
    BASELINES,
    CHANCE,
    EQUAL_TO_ANOTHER,
    baseline_features,
)
from siamtune.verification.pairs import verification_pairs
from siamtune.verification.protocols import Fold
from siamtune.verification.scorers import fit_scorer, score_pairs
from siamtune.verification.thresholds import fit_threshold

MEMBERS = "members"
UNTRAINED = "untrained"
BASELINE_METHODS = (
    CHANCE,
    *(
        method
        for name in (*BASELINES, UNTRAINED)
        for how in BASELINE_SCORERS
        if (method := f"{name}/{how}") != EQUAL_TO_ANOTHER
    ),
)

ThresholdPeople = Literal["train", "validation"]


@dataclass(frozen=True)
class Questions:
    """How a trained network is asked."""

    scorers: tuple[str, ...]
    flip_average: bool = False  # the mean of a picture's embedding and its mirror image's
    baselines: bool = False
    # A network that knows its training people by heart puts them nearer together than strangers: a
    # threshold from them called 82 % of LFW's View 1 rightly where one from validation people, who
    # are few but strangers, called 90 %.
    threshold_from: ThresholdPeople = "validation"


@dataclass(frozen=True)
class Method:
    """One row of the result: the folds under one way to score."""

    name: str
    folds: tuple[dict[str, Any], ...]  # lines of folds.jsonl
    summary: Summary


def evaluate(
    run: Run,
    config: Mapping[str, Any],
    data: DataSpec,
    questions: Questions,
    *,
    threads: int | None = None,
    machines: Machines | None = None,
    tell: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Method]:
    """Train every fold of `data.protocol` that is not trained yet, and answer its pairs.

    Several folds train side by side on `machines`. Without them they train in this process, and so
    does a single one unless the machines are named.

    Raises:
        NoTrialSucceeded: a training failed or collapsed.
        DataError: the data do not suit the protocol.
        ClusterError: the cluster cannot hold one training.
        KeyboardInterrupt: Ctrl-C ended the trainings in order; the same again goes on.
    """
    chosen = trial_config(dict(config))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    folds = data_folds(data, progress)
    known = read_folds(run)
    asked = {
        fold.number: [
            name for name in _methods(questions) if _key(fold, name, questions) not in known
        ]
        for fold in folds
    }
    untrained = [
        fold for fold in folds if asked[fold.number] and not run.fold_model(fold.number).exists()
    ]
    if machines is not None and (len(untrained) > 1 or (untrained and machines.named)):
        _train_side_by_side(run, config, data, untrained, len(folds), machines)
    for fold in folds:
        missing = asked[fold.number]
        if not missing:
            continue
        spec = replace(data, fold=fold.number)
        model_file = run.fold_model(fold.number)
        if not model_file.exists():
            _train(run, config, spec, fold, len(folds), threads, tell)
        faces = prepare_faces(spec, chosen.data, progress)
        if faces.undetected and fold is folds[0]:
            tell(faces.undetected)
        learnt = read_checkpoint(model_file)
        if learnt.facts.get("landmarks") not in (None, faces.crop.landmarks):
            raise DataError(
                f"{model_file} was trained on faces that another file of landmarks cut out than "
                f"{spec.landmarks}; give that with --landmarks, or another --name to train anew"
            )
        best_epoch = int(learnt.facts["metrics"]["epoch"])
        for name, answers in answer(
            missing, questions, chosen, faces, fold, learnt.parts["model"], device
        ):
            line = _keep(run, fold, name, questions, answers, best_epoch)
            known[_key(fold, name, questions)] = line
            write_folds(run, known)
            metrics = line["metrics"]
            tell(
                f"fold {fold.number} of {len(folds)}  {name:18} auc {metrics['auc']:.4f}  "
                f"accuracy {metrics['accuracy']:.4f}  eer {metrics['eer']:.4f}"
            )
    return [
        _method(
            run,
            name,
            [known[_key(fold, name, questions)] for fold in folds],
        )
        for name in _methods(questions)
    ]


def take_over(run: Run, evaluated: Run, folds: Sequence[Fold]) -> int:
    """Bring what another evaluation has of folds: networks, how their training went, and answers.

    A network that was trained on another split than its fold's is left where it is: it may have
    seen the people that the fold asks about. Returns how many are there.
    """
    taken = 0
    records = read_records(evaluated.trials_path)
    answered, known = read_folds(evaluated), read_folds(run)
    before = len(known)
    run.folder.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(run.trials_path)
    for fold in folds:
        theirs, ours = (each.fold_model(fold.number) for each in (evaluated, run))
        if not theirs.exists() or read_facts(theirs)["split"]["digest"] != fold.split.digest:
            continue
        taken += 1
        if not ours.exists():
            ship_model(theirs, ours)
        record = records.get(fold.number)
        if record is not None and fold.number not in recorder.records:
            recorder.started(fold.number, record.config, record.facts)
            for metrics in record.epochs:
                recorder.epoch(fold.number, metrics)
            recorder.ended(fold.number, record.state, record.reason)
        for key, line in answered.items():
            kept = _answers_file(evaluated, key)
            if line["fold"] == fold.number and key not in known and kept.exists():
                shutil.copyfile(kept, _answers_file(run, key))
                known[key] = line
    recorder.close()
    if len(known) > before:
        write_folds(run, known)
    return taken


def evaluate_ensemble(
    run: Run,
    members: Mapping[str, Mapping[str, Any]],
    data: DataSpec,
    questions: Mapping[str, Questions],
    *,
    threads: int | None = None,
    machines: Machines | None = None,
    tell: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Method]:
    """Evaluate the configurations `members` one by one, and their scores together.

    Each member is trained afresh in each fold, so none has seen the people it is asked about.

    Args:
        members: configurations by name.
        questions: by the same names; as many scorers for each, the first of all makes an ensemble,
            then the second, and so on.

    Raises: as `evaluate`.
    """
    methods: dict[str, list[Method]] = {}
    for name, config in members.items():
        tell(name)
        of_member = member(run, name)
        of_member.folder.mkdir(parents=True, exist_ok=True)
        methods[name] = evaluate(
            of_member, config, data, questions[name],
            threads=threads, machines=machines, tell=tell, progress=progress,
        )  # fmt: skip
    found = [
        replace(method, name=f"{name}, {method.name}")
        for name, those in methods.items()
        for method in those
    ]
    for those in zip(*methods.values(), strict=True):
        scorers = dict.fromkeys(method.name for method in those)
        found.append(_together(run, dict(zip(methods, those, strict=True)), " or ".join(scorers)))
    return found


def member(run: Run, name: str) -> Run:
    """Where an ensemble's run keeps one of its members."""
    return Run(run.folder / MEMBERS / name)


def _together(run: Run, members: Mapping[str, Method], scorer: str) -> Method:
    lines, folds = [], []
    for of_a_fold in zip(*(method.folds for method in members.values()), strict=True):
        answers = ensemble(
            [
                kept_answers(member(run, name), line)
                for name, line in zip(members, of_a_fold, strict=True)
            ]
        )
        folds.append(answers)
        shared = ("fold", "threshold_from", "protocol", "split", "pairs")
        lines.append(
            {
                **{key: of_a_fold[0][key] for key in shared},
                "method": f"ensemble, {scorer}",
                "flip_average": all(line["flip_average"] for line in of_a_fold),
                "members": list(members),
                "threshold": answers.threshold,
                "metrics": fold_metrics(answers),
            }
        )
    known = read_folds(run)
    write_folds(run, known | {key_of(line): line for line in lines})
    return Method(f"ensemble of {len(members)}, {scorer}", tuple(lines), summarize(folds))


def _answers_file(run: Run, key: Key) -> Path:
    number, name, flip_average, threshold_from = key
    ending = "-flip" * flip_average + "-train" * (threshold_from == "train")
    return run.fold_folder(number) / f"{name.replace('/', '-')}{ending}.npz"


def _key(fold: Fold, name: str, questions: Questions) -> Key:
    return fold.number, name, questions.flip_average, questions.threshold_from


def _methods(questions: Questions) -> list[str]:
    names = list(dict.fromkeys(questions.scorers))
    return [*names, *BASELINE_METHODS] if questions.baselines else names


def _train(
    run: Run,
    config: Mapping[str, Any],
    data: DataSpec,
    fold: Fold,
    folds: int,
    threads: int,
    tell: Callable[[str], None],
) -> None:
    """Train one fold, or go on with it, and leave the model of its best epoch."""
    job = _job(run, config, data, fold, threads)
    recorder = Recorder(run.trials_path)
    recorder.started(fold.number, {}, _facts(data, fold))
    state: str = "failed"
    reason: str | None = "it ended without a word"
    try:
        for result in run_trial(job):
            if metrics := result.get("metrics"):
                recorder.epoch(fold.number, metrics)
                tell(
                    f"fold {fold.number} of {folds}  epoch {metrics['epoch']:.0f}  "
                    f"train/loss {metrics['train/loss']:.4f}  val/auc {metrics['val/auc']:.4f}  "
                    f"{metrics['seconds']:.1f} s"
                )
            if "state" in result:
                state, reason = result["state"], result.get("reason")
                recorder.ended(fold.number, result["state"], reason)
    finally:
        recorder.close()
    if state != "complete":
        raise NoTrialSucceeded(f"the training of fold {fold.number} {state}: {reason}")
    _keep_model(run, fold)


def _train_side_by_side(
    run: Run,
    config: Mapping[str, Any],
    data: DataSpec,
    folds: Sequence[Fold],
    of_protocol: int,
    machines: Machines,
) -> None:
    """Train folds on the cluster's slots, or go on with them; each is kept as soon as it is done.

    `of_protocol` is how many folds there are with those that are trained.

    Raises: as `evaluate`.
    """
    by_number = {fold.number: fold for fold in folds}
    alone = Space(Objective(), StudySettings(trials=len(folds)), dict(config), (), ())
    on = f"{data.source}, {data.protocol}"
    with LiveView(run, alone, data=on, trials=of_protocol, noun="fold") as view:
        slots = open_slots(machines, data, run, len(folds), view.log)
        from siamtune.launch.proposers import ListProposer
        from siamtune.launch.searcher import Driver
        from siamtune.search.study import Proposal

        recorder = Recorder(run.trials_path)

        def plain_job(proposal: Proposal, recorded_epochs: int) -> dict[str, Any]:
            fold = by_number[proposal.number]
            job = _job(run, config, replace(data, fold=fold.number), fold, slots.threads)
            return slots.plain(replace(job, recorded_epochs=recorded_epochs))

        def listen(record: TrialRecord) -> None:
            view.update(recorder.records, record)
            if record.state == "complete":
                _keep_model(run, by_number[record.number])
            elif record.ended_for_good:
                driver.drain(f"the training of fold {record.number}")

        driver = Driver(
            proposer=ListProposer(
                [
                    Proposal(number, {}, config, _facts(data, by_number[number]))
                    for number in by_number
                ]
            ),
            recorder=recorder,
            plain_job=plain_job,
            listen=listen,
            log=view.log,
            go_on="give the same command again with --name " + run.name,
        )
        stream(driver, slots, run, view.tick)
    for number in by_number:
        record = recorder.records.get(number)
        if record is not None and record.ended_for_good and record.state != "complete":
            raise NoTrialSucceeded(f"the training of fold {number} {record.state}: {record.reason}")
    if driver.draining:
        raise KeyboardInterrupt(driver.draining)


def _job(run: Run, config: Mapping[str, Any], data: DataSpec, fold: Fold, threads: int) -> TrialJob:
    return TrialJob(
        number=fold.number,
        config=config,
        hparams={},
        run_folder=str(run.folder.resolve()),
        data=data,
        split=fold.split.digest,
        threads=threads,
    )


def _facts(data: DataSpec, fold: Fold) -> dict[str, Any]:
    return {"data": data.source, "protocol": fold.split.protocol, "split": fold.split.digest}


def _keep_model(run: Run, fold: Fold) -> None:
    """Keep the model of a fold's best epoch and remove the checkpoints of its training."""
    folder = trial_folder(run.folder, fold.number)
    ship_model(folder / BEST, run.fold_model(fold.number))
    for name in (LAST, BEST):
        (folder / name).unlink(missing_ok=True)


def answer(
    names: Sequence[str],
    questions: Questions,
    config: TrialConfig,
    faces: Faces,
    fold: Fold,
    weights: Mapping[str, torch.Tensor],
    device: torch.device,
) -> Iterator[tuple[str, Answers]]:
    """Every method's answers to a fold; embeddings and features are computed once each."""
    threshold_pairs = verification_pairs(
        faces.indices(questions.threshold_from), faces.identities, seed=faces.split.seed
    )
    pictures = np.unique(
        np.concatenate(
            [faces.indices("train"), faces.indices("validation"), fold.pairs.left, fold.pairs.right]
        )
    )
    train = np.searchsorted(pictures, faces.indices("train"))

    def answers(vectors: np.ndarray, how: str) -> Answers:
        scorer = fit_scorer(
            how, vectors[train], faces.identities[pictures[train]], faces.split.seed
        )

        def scores(pairs: Any) -> np.ndarray:
            sides = (np.searchsorted(pictures, side) for side in (pairs.left, pairs.right))
            return score_pairs(scorer, vectors, *sides)

        return _answered(
            fold, faces, scores(fold.pairs), scores(threshold_pairs), threshold_pairs.same
        )

    vectors: dict[str, np.ndarray] = {}
    for name in names:
        features, slash, how = name.rpartition("/")
        if name == CHANCE:
            flat = np.zeros(len(fold.pairs)), np.zeros(len(threshold_pairs))
            yield name, _answered(fold, faces, *flat, threshold_pairs.same)
            continue
        if features not in vectors:
            if features in BASELINES:
                vectors[features] = baseline_features(features, faces.images[pictures], train)
            else:
                learnt = None if features == UNTRAINED else weights
                flip = questions.flip_average and not slash
                vectors[features] = _embeddings(config, faces, pictures, learnt, flip, device)
        yield name, answers(vectors[features], how)


def _answered(
    fold: Fold,
    faces: Faces,
    scores: np.ndarray,
    threshold_scores: np.ndarray,
    threshold_same: np.ndarray,
) -> Answers:
    return Answers(
        scores,
        fold.pairs.same,
        faces.identities[fold.pairs.left],
        faces.identities[fold.pairs.right],
        fit_threshold(threshold_scores, threshold_same),
        threshold_scores,
        threshold_same,
    )


def _embeddings(
    config: TrialConfig,
    faces: Faces,
    pictures: np.ndarray,
    weights: Mapping[str, torch.Tensor] | None,
    flip_average: bool,
    device: torch.device,
) -> np.ndarray:
    """(len(pictures), D) of a trained network, or of one with its first `weights`."""
    torch.manual_seed(config.seed)
    _, channels, side_px, _ = faces.images.shape
    model = build_model(config.model, channels=channels, resolution_px=side_px).to(device)
    if weights is not None:
        model.load_state_dict(dict(weights))
    normalization = faces.normalization.to(device)
    vectors = embed(model, normalization, faces.images, pictures, device, flip=flip_average)
    return vectors.cpu().double().numpy()


def _keep(
    run: Run, fold: Fold, name: str, questions: Questions, answers: Answers, best_epoch: int
) -> dict[str, Any]:
    """Write a fold's scores and say what they give."""
    path = _answers_file(run, _key(fold, name, questions))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **asdict(answers))
    line = {
        "fold": fold.number,
        "method": name,
        "flip_average": questions.flip_average,
        "threshold_from": questions.threshold_from,
        "protocol": fold.split.protocol,
        "split": fold.split.digest,
        "pairs": len(answers.same),
        "best_epoch": best_epoch,
        "threshold": answers.threshold,
        "metrics": fold_metrics(answers),
    }
    return line


def kept_answers(run: Run, line: Mapping[str, Any]) -> Answers:
    """The scores that a line of folds.jsonl is of.

    Raises:
        InvalidInput: their file is missing or damaged.
    """
    path = _answers_file(run, key_of(line))
    try:
        with np.load(path) as arrays:
            needed = {key: arrays[key] for key in ("scores", "same", "left", "right")}
            names = ("threshold_scores", "threshold_same")
            others = {key: arrays[key] for key in names if key in arrays}
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"{path}: must hold a fold's scores, but cannot be read ({error}); remove the "
            f"line of fold {line['fold']} from {FOLDS} to ask again"
        ) from None
    return Answers(**needed, threshold=line["threshold"], **others)


def _method(run: Run, name: str, lines: Sequence[dict[str, Any]]) -> Method:
    return Method(name, tuple(lines), summarize([kept_answers(run, line) for line in lines]))
