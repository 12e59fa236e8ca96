"""An evaluation trains its folds once, goes on where it was, and asks again without training."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siamtune.cli.evaluate import evaluate as evaluate_command
from siamtune.cli.export import export
from siamtune.cli.options import output_folder
from siamtune.config import DEFAULTS
from siamtune.errors import ConfigError, InvalidInput, UsageError
from siamtune.launch import evaluate as module
from siamtune.launch.cluster import TrialResources
from siamtune.launch.evaluate import Questions, evaluate, kept_answers
from siamtune.launch.job import DataSpec
from siamtune.launch.slots import Machines
from siamtune.search.config_file import config_yaml
from siamtune.search.folds import FOLDS, read_folds
from siamtune.search.history import read_history
from siamtune.search.lock import driving
from siamtune.search.records import Recorder
from siamtune.search.runs import Run, new_run
from siamtune.verification.metrics import roc_auc
from siamtune.verification.thresholds import fit_threshold

pytestmark = pytest.mark.usefixtures("cache")

DIALS = {
    "data.resolution_px": 16,
    "data.crop": "none",
    "model.width": 0.25,
    "model.embedding_size": 8,
    "batch.images": 16,
    "epochs": 2,
}
LOST = (2, 5, 7)
# What `--defaults` trains here is no larger.
SMALL = {"siamtune's default": DEFAULTS | DIALS, "the 2016 seed's default": DEFAULTS | DIALS}


@pytest.fixture(scope="module")
def olivetti(data_home: Path) -> DataSpec:
    return DataSpec("olivetti", str(data_home), protocol="olivetti-8fold")


def test_every_pair_of_the_test_people_is_asked(pattern_people: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path, "run", "space")
    data = DataSpec(str(pattern_people), protocol="all-pairs")
    dials, told = DEFAULTS | DIALS | {"data.crop": "haar"}, list[str]()
    (method,) = evaluate(run, dials, data, Questions(("cosine",)), threads=1, tell=told.append)
    assert any("haar found no face in 200 of 200 pictures" in line for line in told)
    (line,) = method.folds
    assert line["protocol"] == "all-pairs"
    assert line["pairs"] == method.summary.pairs == 20 * 19 // 2  # four test people with five each
    with np.load(run.folder / "folds" / "01" / "cosine.npz") as kept:
        assert method.summary.mean["auc"] == roc_auc(kept["scores"], kept["same"])
        assert np.array_equal(kept["same"], kept["left"] == kept["right"])
    assert (run.folder / "folds" / "01" / "model.safetensors").exists()
    assert not list((run.folder / "trials" / "0001").glob("*.safetensors"))


def test_a_stopped_evaluation_goes_on_where_it_was(
    olivetti: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siamtune.verification.protocols.OLIVETTI_FOLDS", 2)
    run = Run(tmp_path)
    config = DEFAULTS | DIALS | {"epochs": 1}
    questions = Questions(("cosine",))
    trained: list[int] = []
    real = module.run_trial

    def watched(job):  # type: ignore[no-untyped-def]
        if len(trained) == 1:
            trained.append(0)
            raise KeyboardInterrupt
        trained.append(job.number)
        return real(job)

    monkeypatch.setattr(module, "run_trial", watched)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, config, olivetti, questions, threads=1)
    before = read_folds(run)
    assert [number for number, *_ in before] == [1]

    (method,) = evaluate(run, config, olivetti, questions, threads=1)
    assert trained == [1, 0, 2]
    assert method.summary.folds == 2
    assert list(method.folds[:1]) == list(before.values())

    # Another way to score trains nothing; flips change the scores, not the network.
    asked = Questions(("cosine", "lda"), flip_average=True)
    flipped, lda = evaluate(run, config, olivetti, asked, threads=1)
    assert len(trained) == 3
    assert lda.name == "lda"
    assert flipped.summary.mean["auc"] != method.summary.mean["auc"]
    asked = Questions(("cosine",), threshold_from="train")
    (other,) = evaluate(run, config, olivetti, asked, threads=1)
    assert other.summary.pooled == method.summary.pooled
    assert other.folds[0]["threshold"] != method.folds[0]["threshold"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_folds_that_train_side_by_side_give_what_they_give_one_after_another(
    olivetti: DataSpec, tmp_path: Path
) -> None:
    config = DEFAULTS | DIALS | {"epochs": 1}
    alone, together = Run(tmp_path / "alone"), Run(tmp_path / "together")
    alone.folder.mkdir()
    (one,) = evaluate(alone, config, olivetti, Questions(("cosine",)), threads=1)
    assert one.summary.folds == 8
    # Three folds are lost, the others are there: an evaluation that was stopped.
    shutil.copytree(alone.folder, together.folder)
    together.trials_path.unlink()
    lines = together.folder / FOLDS
    kept = [line for line in lines.read_text().splitlines() if json.loads(line)["fold"] not in LOST]
    lines.write_text("".join(f"{line}\n" for line in kept))
    for fold in LOST:
        shutil.rmtree(together.folder / "folds" / f"{fold:02d}")
    (other,) = evaluate(
        together, config, olivetti, Questions(("cosine",)), threads=1, machines=Machines(2)
    )
    by_fold = {line["fold"]: line["metrics"] for line in one.folds}
    assert {line["fold"]: line["metrics"] for line in other.folds} == {
        fold: pytest.approx(metrics) for fold, metrics in by_fold.items()
    }
    events = [json.loads(line) for line in together.trials_path.read_text().splitlines()]
    assert {event["trial"] for event in events} == set(LOST)
    order = [event["event"] for event in events if event["event"] in ("started", "ended")]
    assert order[:2] == ["started", "started"]  # the second did not wait for the first
    assert not list(together.folder.glob("trials/*/*.safetensors"))


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"concurrent": 1, "address": "10.0.0.1:6379"}, "--concurrent 1 trains in this process"),
        ({"concurrent": 1, "gpus_per_worker": 0.0}, "--concurrent 1 trains in this process"),
        ({"url": True, "address": "10.0.0.1:6379"}, "lies in an object store train in this"),
        ({"url": True, "concurrent": 2}, "lies in an object store train in this process"),
    ],
)
def test_machines_that_would_not_be_used_are_refused(
    tmp_path: Path, more: dict[str, Any], fault: str
) -> None:
    output = tmp_path
    if more.pop("url", False):
        (tmp_path / "store").mkdir()
        output = output_folder(f"file://{tmp_path}/store")
    with pytest.raises(UsageError, match=fault):
        evaluate_command(data="demo", output=output, **more)


@pytest.mark.parametrize(
    ("machines", "named"),
    [
        (Machines(), False),
        (Machines(concurrent=2), False),
        (Machines(address="10.0.0.1:6379"), True),
        (Machines(resources=TrialResources(gpus_per_worker=0.0)), True),
    ],
)
def test_a_single_fold_trains_on_machines_that_are_named(
    pattern_people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    machines: Machines,
    named: bool,
) -> None:
    trained: list[bool] = []
    for way, on_machines in (("_train", False), ("_train_side_by_side", True)):

        def note(*given: object, on_machines: bool = on_machines) -> None:
            trained.append(on_machines)
            raise KeyboardInterrupt

        monkeypatch.setattr(module, way, note)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            Run(tmp_path), DEFAULTS | DIALS, DataSpec(str(pattern_people)), Questions(("cosine",)),
            threads=1, machines=machines,
        )  # fmt: skip
    assert trained == [named]


def test_baselines_answer_the_same_pairs(pattern_people: Path, tmp_path: Path) -> None:
    data = DataSpec(str(pattern_people))
    asked = Questions(("cosine",), baselines=True)
    methods = evaluate(Run(tmp_path), DEFAULTS | DIALS, data, asked, threads=1)
    assert len({method.summary.pairs for method in methods}) == 1
    by_name = {method.name: method.summary.mean for method in methods}
    assert len(by_name) == 1 + 1 + 5 * 3 - 1  # pixels by lda are pca by lda
    assert by_name["chance"]["auc"] == 0.5
    assert by_name["pixels/cosine"]["auc"] > 0.9  # a person is a pattern here
    assert by_name["pca/lda"]["auc"] > 0.9
    assert by_name["untrained/cosine"]["auc"] != by_name["cosine"]["auc"]


def test_an_ensemble_of_a_searchs_best_trials_answers_the_protocols_pairs(
    pattern_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = new_run(tmp_path, "search", "space")
    search.facts_path.write_text("{}")
    search.space_path.write_text("version: 1\nspace: {optim.lr: {float: [1e-4, 1e-2]}}\n")
    recorder = Recorder(search.trials_path)
    for number, (auc, dials) in enumerate(
        [(0.6, {"loss.distance": "l2"}), (0.5, {}), (0.7, {"verification.flip": True})]
    ):
        recorder.started(number, DEFAULTS | DIALS | dials)
        recorder.epoch(number, {"epoch": 2, "val/auc": auc})
        recorder.ended(number, "complete")
    recorder.close()
    given = {"data": str(pattern_people), "threads": 1, "name": "run", "output": tmp_path,
             "from_": "search"}  # fmt: skip
    evaluate_command(ensemble=2, as_json=True, **given)  # type: ignore[arg-type]
    document = json.loads(capsys.readouterr().out)
    assert list(document["config"]) == ["trial 2", "trial 0"]
    names = [method["method"] for method in document["methods"]]
    assert names == ["trial 2, cosine", "trial 0, l2", "ensemble of 2, cosine or l2"]
    folder = tmp_path / "run" / "members"
    files = [folder / "trial 2/folds/01/cosine-flip.npz", folder / "trial 0/folds/01/l2.npz"]
    scores = 0.0
    for file in files:
        with np.load(file) as kept:
            others, same = kept["threshold_scores"], kept["same"]
            scores = scores + (kept["scores"] - others.mean()) / others.std()
    assert document["methods"][-1]["each"][0]["metrics"]["auc"] == roc_auc(scores, same)

    trained = [file.stat().st_mtime_ns for file in folder.glob("*/folds/01/model.safetensors")]
    evaluate_command(ensemble=2, scorer=["lda"], **given)  # type: ignore[arg-type]
    assert "ensemble of 2, lda" in capsys.readouterr().out
    again = [file.stat().st_mtime_ns for file in folder.glob("*/folds/01/model.safetensors")]
    assert trained == again
    with pytest.raises(UsageError, match="--ensemble 4 needs so many trials with a result"):
        evaluate_command(ensemble=4, **given)  # type: ignore[arg-type]
    # What the members said together is kept as well, where `top` and `ls` look.
    kept = {line["method"]: line for line in read_folds(Run(tmp_path / "run")).values()}
    assert list(kept) == ["ensemble, cosine or l2", "ensemble, lda"]
    assert (
        kept["ensemble, cosine or l2"]["metrics"] == document["methods"][-1]["each"][0]["metrics"]
    )

    # The latest run is the evaluation; the latest search is what is meant.
    evaluate_command(ensemble=2, **given | {"from_": None})  # type: ignore[arg-type]
    for wrong, more in {
        "--from must name a search, but .*run is none": {"from_": "run", "ensemble": 2},
        "--from goes with --ensemble N": {"from_": "search"},
    }.items():
        with pytest.raises(UsageError, match=wrong):
            evaluate_command(**given | more)  # type: ignore[arg-type]


def test_configurations_given_together_are_an_ensemble(
    pattern_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "narrow.yaml", tmp_path / "wide.yaml"]
    for file, width in zip(files, (0.25, 0.5), strict=True):
        file.write_text(config_yaml(DEFAULTS | DIALS | {"model.width": width, "epochs": 1}))
    given = {"data": str(pattern_people), "threads": 1, "name": "run", "output": tmp_path}
    evaluate_command(config=files, as_json=True, **given)  # type: ignore[arg-type]
    document = json.loads(capsys.readouterr().out)
    widths = {name: member["model.width"] for name, member in document["config"].items()}
    assert widths == {"narrow": 0.25, "wide": 0.5}
    names = [method["method"] for method in document["methods"]]
    assert names == ["narrow, cosine", "wide, cosine", "ensemble of 2, cosine"]
    with pytest.raises(UsageError, match="different names"):
        evaluate_command(config=files[:1] * 2, **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--baselines goes with one configuration"):
        evaluate_command(config=files, baselines=True, **given)  # type: ignore[arg-type]


def test_trained_folds_serve_another_evaluation_and_are_exported(
    olivetti: DataSpec,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siamtune.verification.protocols.OLIVETTI_FOLDS", 2)
    trained: list[Path] = []
    real = module.run_trial

    def watched(job):  # type: ignore[no-untyped-def]
        trained.append(Path(job.run_folder).relative_to(tmp_path))
        return real(job)

    monkeypatch.setattr(module, "run_trial", watched)
    answered: list[tuple[int, str]] = []
    really = module.answer

    def heard(names, questions, config, faces, fold, *more):  # type: ignore[no-untyped-def]
        answered.extend((fold.number, name) for name in names)
        return really(names, questions, config, faces, fold, *more)

    monkeypatch.setattr(module, "answer", heard)
    dials = [f"{name}={value}" for name, value in (DIALS | {"epochs": 1}).items()]
    given = {"data": "olivetti", "data_home": Path(olivetti.data_home or ""), "threads": 1,
             "protocol": "olivetti-8fold", "concurrent": 1, "output": tmp_path}  # fmt: skip

    def asked(**more: object) -> dict[str, dict[str, float]]:
        capsys.readouterr()
        evaluate_command(as_json=True, **given, **more)  # type: ignore[arg-type]
        methods = json.loads(capsys.readouterr().out)["methods"]
        return {method["method"]: method["mean"] for method in methods}

    one = asked(set_=dials, name="one")
    # Of the second run a fold was lost, and another was put there that has seen other people.
    two = asked(set_=[*dials, "model.width=0.5"], name="two")
    folds = tmp_path / "two" / "folds"
    shutil.copy(folds / "02" / "model.safetensors", folds / "01" / "model.safetensors")
    trained.clear()
    answered.clear()

    runs = [Path("one"), tmp_path / "two"]
    both = asked(config=runs, name="both")
    assert trained == [Path("both/members/two")]
    assert answered == [(1, "cosine")]  # of the others the answers were taken over, too
    assert both["one, cosine"] == one["cosine"]
    assert both["two, cosine"] == two["cosine"]
    assert "ensemble of 2, cosine" in both
    again = asked(config=runs[:1], scorer=["cosine", "l1"], name="again")
    assert again["cosine"] == one["cosine"]
    assert again["l1"] != one["cosine"]
    assert len(trained) == 1
    assert answered[1:] == [(1, "l1"), (2, "l1")]
    strict = asked(config=runs[:1], threshold_from="train", name="again")
    assert strict["cosine"]["auc"] == one["cosine"]["auc"]
    lines = read_folds(Run(tmp_path / "again")).values()
    assert {line["threshold_from"] for line in lines} == {"train", "validation"}
    for line in lines:  # each has scores of its own to fit the threshold on
        kept = kept_answers(Run(tmp_path / "again"), line)
        assert kept.threshold_scores is not None
        assert kept.threshold_same is not None
        assert fit_threshold(kept.threshold_scores, kept.threshold_same) == line["threshold"]
    with (
        driving(Run(tmp_path / "again")),
        pytest.raises(InvalidInput, match="must be driven by one process at a time"),
    ):
        asked(config=runs[:1], scorer=["cosine", "l2"], name="again")

    history = read_history("again", tmp_path)
    assert history.config(history.trial(2))["model.width"] == DIALS["model.width"]
    export("again", tmp_path / "model", trial=2, output=tmp_path, as_json=True)
    document = json.loads(capsys.readouterr().out)
    (second,) = {line["split"] for line in read_folds(Run(tmp_path / "one")).values()
                 if line["fold"] == 2}  # fmt: skip
    assert document["split"] == second
    # Its validation people were found, and are too few for intervals.
    assert document["missing"] == [
        "intervals: fewer than 4 validation people have two pictures or more"
    ]
    assert document["validation"]["auc"]["value"] == pytest.approx(
        Recorder(tmp_path / "one" / "trials.jsonl").records[2].epochs[-1]["val/auc"]
    )

    for wrong, more in {
        "is trained already, so --set": {"set_": ["optim.lr=0.1"]},
        "this is an ensemble": {"config": [Path("both")]},
        "this is search": {"config": [Path("search")]},
        "one of lfw-aligned, lfw-colour, lfw-joint, lfw or a run": {"config": [Path("three")]},
        "have different names": {"config": [Path("one"), tmp_path / "one"]},
        "on the splits of olivetti, identity-holdout, but": {"protocol": "identity-holdout"},
    }.items():
        new_run(tmp_path, "search", "space").facts_path.write_text('{"kind": "search"}')
        with pytest.raises((ConfigError, UsageError), match=wrong):
            evaluate_command(**({**given, "config": runs} | more))  # type: ignore[arg-type]
        shutil.rmtree(tmp_path / "search")


def test_the_command_tells_protocol_and_split_and_refuses_another_evaluation(
    pattern_people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siamtune.report.evidence.default_configs", lambda: SMALL)
    dials = [f"{name}={value}" for name, value in DIALS.items()]
    given = {"data": str(pattern_people), "threads": 1, "name": "run", "output": tmp_path}
    evaluate_command(set_=dials, as_json=True, **given)  # type: ignore[arg-type]
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "siamtune.evaluate/1"
    assert document["protocol"] == "identity-holdout"
    (method,) = document["methods"]
    assert method["each"][0]["split"] == document["splits"][0]
    evaluate_command(set_=dials, scorer=["logistic"], defaults=True, **given)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    rows = {line[:24].strip(): line for line in printed.splitlines()}
    assert "[" in rows["siamtune's default"]  # an interval over people
    assert "[" in rows["the 2016 seed's default"]
    assert f"identity-holdout, split {document['splits'][0]}, " in printed
    assert "logistic" in printed
    with pytest.raises(UsageError, match="config changed"):
        evaluate_command(set_=dials, seed=5, **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--scorer must be one of"):
        evaluate_command(set_=dials, scorer=["euclid"], **given)  # type: ignore[arg-type]
