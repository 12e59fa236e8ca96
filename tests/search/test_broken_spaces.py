"""Every way in which a space file is known to go wrong, and what is said about it."""

from pathlib import Path

import pytest

from siamtune.errors import SpaceError
from siamtune.search.space import load_space, read_space

LR = "optim.lr: {float: [1e-4, 1e-2], log: true}"
LOSSES = "loss.name: {choice: [supcon, triplet]}"


def dials(*lines: str, head: str = "") -> str:
    """A space file whose dials begin on line 3, or one line later for each line of `head`."""
    return "\n".join(["version: 1", *head.splitlines(), "space:", *(f"  {x}" for x in lines), ""])


# name: the file, and for each fault its line and what its message holds
BROKEN: dict[str, tuple[str | bytes, list[tuple[int, str]]]] = {
    # the file itself
    "empty file": ("", [(1, "empty")]),
    "comments only": ("# nothing\n# yet\n", [(1, "empty")]),
    "a list": ("- version: 1\n", [(1, "must be a map of version")]),
    "a word": ("hello\n", [(1, "but got 'hello'")]),
    "latin-1": (b"version: 1\n# gr\xfc\xdfe\n", [(2, "UTF-8, but got byte 0xfc")]),
    "utf-16": ("version: 1\n".encode("utf-16"), [(1, "save it as UTF-8")]),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00", [(1, "UTF-8, but got byte 0x89")]),
    "a control character": ("version: 1\nspace: \x07\n", [(2, "got the character '\\x07'")]),
    "huge": ("# " + "x" * 70_000, [(1, "at most 64 KiB")]),
    "deep": ("{a: " * 2000, [(1, "nested")]),
    # YAML
    "tab": (dials("\toptim.lr: 1"), [(3, "spaces, but got a tab")]),
    "open brace": (dials("optim.lr: {float: [1e-4, 1e-2]"), [(3, "must be closed by `}`")]),
    "open bracket": (dials("optim.lr: {float: [1e-4, 1e-2}"), [(3, "must be closed by `]`")]),
    "open quotation": ("version: 1\nspace: 'x\n\n", [(2, "a quotation must end")]),
    "two colons": ("version: 1: 2\n", [(1, "second colon")]),
    "indentation": ("version: 1\n  space: 2\n", [(2, "deeper indentation")]),
    "two documents": ("version: 1\n---\nversion: 1\n", [(2, "second `---`")]),
    "duplicate dial": (dials(LR, LR), [(4, "'optim.lr' must stand once, but stands on line 3")]),
    "duplicate section": (dials(LR) + "version: 1\n", [(4, "stands on line 1 already")]),
    "anchor": (dials("optim.lr: &a {float: [1e-4, 1]}", "model.dropout: *a"), [(3, "got &a")]),
    "merge": ("version: 1\nfixed: &f {epochs: 3}\nspace:\n  <<: *f\n", [(2, "anchors")]),
    "undefined alias": ("version: 1\nspace: *nowhere\n", [(2, "write the value out")]),
    "alias bomb": (
        "a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
        [(1, "&a"), (2, "&b"), (3, "&c")],
    ),
    "an object": (
        dials("optim.lr: !!python/object/apply:os.system ['true']"),
        [(3, "tags are not part of the format, but got !!python/object/apply:os.system")],
    ),
    "a tag": (dials("optim.lr: !range [1, 2]"), [(3, "but got !range")]),
    "a list as key": (dials("? [optim.lr]", ": 3"), [(3, "a key must be a name")]),
    # the sections
    "no version": (f"space:\n  {LR}\n", [(1, "version must be 1, but is missing")]),
    "next version": (f"version: 2\nspace:\n  {LR}\n", [(1, "but got 2")]),
    "version as text": (f"version: '1'\nspace:\n  {LR}\n", [(1, "but got '1'")]),
    "no space": ("version: 1\n", [(1, "it is missing")]),
    "empty space": ("version: 1\nspace:\n", [(2, "one dial or more")]),
    "space as list": ("version: 1\nspace: [optim.lr]\n", [(2, "got ['optim.lr']")]),
    "unknown section": (dials(LR) + "objectiv: {}\n", [(4, "did you mean 'objective'?")]),
    "metric": (
        dials(LR, head="objective: {metric: auc}"),
        [(2, "val/map@r, images_per_second, but got 'auc'; did you mean")],
    ),
    "test metric": (dials(LR, head="objective: {metric: test/auc}"), [(2, "mean 'val/auc'?")]),
    "mode": (
        dials(LR, head="objective: {metric: val/eer, mode: max}"),
        [(2, "must be min for val/eer, but got 'max'; write min")],
    ),
    "two objectives that are one": (
        dials(LR, head="objective: [val/auc, val/auc]"),
        [(2, "a list of two different metrics, but got")],
    ),
    "three objectives": (
        dials(LR, head="objective: [val/auc, val/f1, val/eer]"),
        [(2, "a list of two different metrics")],
    ),
    "no metric among two": (
        dials(LR, head="objective: [val/auc, {a: 1}]"),
        [(2, "objective.metric must be one of")],
    ),
    "objective key": (dials(LR, head="objective: {metrik: val/auc}"), [(2, "mean 'metric'?")]),
    "no trials": (dials(LR, head="study: {trials: 0}"), [(2, "1 or more, but got 0")]),
    "half a trial": (dials(LR, head="study: {trials: 1.5}"), [(2, "whole number")]),
    "trials as switch": (dials(LR, head="study: {trials: true}"), [(2, "but got true")]),
    "negative seed": (dials(LR, head="study: {seed: -1}"), [(2, "0 to 4294967295")]),
    "scheduler": (dials(LR, head="study: {scheduler: ahsa}"), [(2, "did you mean 'asha'?")]),
    "empty scheduler": (dials(LR, head="study:\n  scheduler:"), [(3, "but got null")]),
    "two schedulers": (
        dials(LR, head="study: {scheduler: {asha: {}, none: {}}}"),
        [(2, "must be one of asha, median, none")],
    ),
    "scheduler option": (
        dials(LR, head="study: {scheduler: {asha: {grace: 2}}}"),
        [(2, "study.scheduler.asha has no 'grace'; it has min_epochs, eta")],
    ),
    "eta": (dials(LR, head="study: {scheduler: {asha: {eta: 1}}}"), [(2, "2 or more, but got 1")]),
    "epochs before the first rung": (
        dials(LR, head="fixed: {epochs: 3}\nstudy: {scheduler: {asha: {min_epochs: 5}}}"),
        [(3, "must be at most epochs, which is 3, but got 5")],
    ),
    "sampler": (dials(LR, head="study: {sampler: gp}"), [(2, "one of tpe, random, qmc")]),
    "sampler option": (
        dials(LR, head="study: {sampler: {tpe: {seed: 3}}}"),
        [(2, "study.sampler.tpe has no 'seed'; it has no options")],
    ),
    # fixed
    "fixed as list": (dials(LR, head="fixed: [epochs]"), [(2, "fixed must be a map")]),
    "fixed unknown": (dials(LR, head="fixed: {epoch: 3}"), [(2, "did you mean 'epochs'?")]),
    "fixed section": (
        dials(LR, head="fixed:\n  model: {dropout: 0.1}"),
        [(3, "'model' is a section, not a dial; write its dials with a dot")],
    ),
    "fixed out of bounds": (
        dials(LR, head="fixed: {model.dropout: 2}"),
        [(2, "model.dropout must be less than or equal to 0.9, but got 2")],
    ),
    "fixed word": (dials(LR, head="fixed: {loss.name: suppcon}"), [(2, "mean 'supcon'?")]),
    "fixed range": (dials(LR, head="fixed: {epochs: [3, 9]}"), [(2, "but got [3, 9]")]),
    "none for null": (
        dials(LR, head="fixed: {data.images_per_person: none}"),
        [(2, "whole number or null, but got 'none'; write null")],
    ),
    "fixed and searched": (
        dials(LR, head="fixed: {optim.lr: 1e-3}"),
        [(4, "under fixed or under space, but stands under both")],
    ),
    # dials
    "unknown dial": (dials("optim.lrr: {float: [1e-4, 1e-2]}"), [(3, "mean 'optim.lr'?")]),
    "dial without section": (dials("lr: {float: [1e-4, 1e-2]}"), [(3, "mean 'optim.lr'?")]),
    "dial of nothing alike": (dials("zzz: {float: [1, 2]}"), [(3, "there is no dial 'zzz'")]),
    "sections in space": (dials("model: {width: {float: [1, 2]}}"), [(3, "is a section")]),
    "epochs searched": (dials("epochs: {int: [3, 9]}"), [(3, "the time axis")]),
    "a constant": (dials("optim.lr: 0.1"), [(3, "a constant belongs under fixed")]),
    "a bare list": (dials("optim.lr: [1e-4, 1e-2]"), [(3, "must be {choice: [...]}, {float:")]),
    "no kind": (dials("optim.lr: {log: true}"), [(3, "got none of them")]),
    "two kinds": (dials("optim.lr: {float: [1, 2], choice: [1]}"), [(3, "got float and choice")]),
    "misspelt key": (dials("optim.lr: {float: [1, 2], lgo: true}"), [(3, "mean 'log'?")]),
    "another tool's word": (
        dials("optim.lr: {loguniform: [1e-4, 1e-2]}"),
        [(3, "there is no 'loguniform'; write {float: [low, high], log: true}")],
    ),
    # ranges
    "one bound": (dials("optim.lr: {float: [1e-4]}"), [(3, "must be [low, high]")]),
    "three bounds": (dials("optim.lr: {float: [1, 2, 3]}"), [(3, "but got [1, 2, 3]")]),
    "bounds by name": (dials("optim.lr: {float: {low: 1, high: 2}}"), [(3, "[low, high]")]),
    "reversed": (dials("optim.lr: {float: [1e-2, 1e-4]}"), [(3, "swap them")]),
    "one point": (dials("optim.lr: {float: [0.1, 0.1]}"), [(3, "put `optim.lr: 0.1` under")]),
    "below the dial's bound": (dials("optim.lr: {float: [0, 1]}"), [(3, "greater than 0")]),
    "above the dial's bound": (dials("model.dropout: {float: [0, 1.5]}"), [(3, "got 1.5")]),
    "nan": (dials("optim.lr: {float: [.nan, 1]}"), [(3, "a finite number, but got nan")]),
    "infinite": (dials("optim.lr: {float: [1e-4, .inf]}"), [(3, "got inf")]),
    "null bound": (dials("data.images_per_person: {int: [null, 3]}"), [(3, "got null")]),
    "quoted bound": (
        dials("optim.lr: {float: ['1e-4', 1e-2]}"),
        [(3, "must be a number, but got '1e-4'; write it without quotes")],
    ),
    "list as bound": (dials("optim.lr: {float: [[1], 2]}"), [(3, "a number, but got [1]")]),
    "fraction for a whole dial": (
        dials("model.embedding_size: {float: [16, 64]}"),
        [(3, "is a whole number, but got float; write {int: [16, 64]}")],
    ),
    "fractional int": (dials("batch.images: {int: [4, 8.5]}"), [(3, "got 8.5; round it")]),
    "int with a point": (dials("batch.images: {int: [4, 8.0]}"), [(3, "got 8.0; write 8")]),
    "fractional int of a float": (
        dials("optim.warmup_epochs: {int: [0.5, 3]}"),
        [(3, "int needs whole numbers, but got 0.5; write float")],
    ),
    "range of words": (
        dials("model.activation: {float: [0, 1]}"),
        [(3, "has no order, but got float; write {choice: [relu, scaled_tanh, leaky_relu, silu]}")],
    ),
    "range of switches": (
        dials("data.grayscale: {int: [0, 1]}"),
        [(3, "write {choice: [false, true]}")],
    ),
    "log of zero": (
        dials("model.dropout: {float: [0, 0.5], log: true}"),
        [(3, "log needs low above 0, but got 0.0; raise low or leave log out")],
    ),
    "log as text": (dials("optim.lr: {float: [1, 2], log: 'true'}"), [(3, "log must be true")]),
    "log of a choice": (
        dials("optim.lr: {choice: [1, 2], log: true}"),
        [(3, "`log` is for float and int, not for a choice")],
    ),
    "log and step": (
        dials("batch.images: {int: [4, 8], log: true, step: 2}"),
        [(3, "log and step exclude each other")],
    ),
    "step zero": (dials("model.dropout: {float: [0, 0.5], step: 0}"), [(3, "above 0, but got 0")]),
    "step backwards": (dials("batch.images: {int: [4, 8], step: -2}"), [(3, "got -2")]),
    "step as text": (dials("batch.images: {int: [4, 8], step: two}"), [(3, "got 'two'")]),
    "fractional step": (dials("batch.images: {int: [4, 8], step: 0.5}"), [(3, "whole number")]),
    "step nan": (dials("model.dropout: {float: [0, 0.5], step: .nan}"), [(3, "got nan")]),
    "step too large": (
        dials("batch.images: {int: [4, 8], step: 5}"),
        [(3, "step must be at most 4 (high - low), but got 5")],
    ),
    "step too small": (dials("optim.lr: {float: [1, 2], step: 1e-9}"), [(3, "coarser")]),
    "step past the end": (
        dials("batch.images: {int: [16, 64], step: 10}"),
        [(3, "steps of 10 from 16 must meet 64, but pass it; write 56 or 66 as high")],
    ),
    # choices
    "no choice": (dials("model.activation: {choice: []}"), [(3, "at least one value")]),
    "a choice without list": (dials("model.activation: {choice: relu}"), [(3, "must be a list")]),
    "unknown choice": (
        dials("data.normalization: {choice: [minmax, LNC]}"),
        [(3, "but got 'LNC'; did you mean 'lcn'?")],
    ),
    "unknown choice on its own line": (
        dials("data.normalization:", "  choice:", "    - minmax", "    - whitening"),
        [(6, "but got 'whitening'")],
    ),
    "two equal choices": (dials("optim.lr: {choice: [1, 1.0]}"), [(3, "1.0 must stand once")]),
    "switch as text": (
        dials("data.grayscale: {choice: ['true', false]}"),
        [(3, "got 'true'; write true without quotes")],
    ),
    "yes and no": (
        dials("data.grayscale: {choice: [yes, no]}"),
        [(3, "got 'no'; write false"), (3, "got 'yes'; write true")],
    ),
    "switch as number": (dials("data.grayscale: {choice: [1, 0]}"), [(3, "got 0"), (3, "got 1")]),
    "number as text": (dials("batch.images: {choice: [64, '128']}"), [(3, "got '128'; write it")]),
    "nested choice": (dials("batch.images: {choice: [[64, 128]]}"), [(3, "got [64, 128]")]),
    "endless choice": (
        dials(f"batch.images: {{choice: {list(range(4, 1100))}}}"),
        [(3, "at most 1000 values, but got 1096; write a range")],
    ),
    # when
    "when of an unknown dial": (
        dials(LOSSES, "loss.mining: {choice: [all], when: {los.name: triplet}}"),
        [(4, "loss.mining: when: there is no dial 'los.name'; did you mean 'loss.name'?")],
    ),
    "when of a misspelt dial is one fault": (
        dials(
            "loss.nme: {choice: [triplet]}",
            "loss.mining: {choice: [all], when: {loss.name: triplet}}",
        ),
        [(3, "there is no dial 'loss.nme'")],
    ),
    "when of itself": (
        dials("loss.mining: {choice: [all, hard], when: {loss.mining: all}}"),
        [(3, "when must name another dial")],
    ),
    "when of a dial below": (
        dials("loss.mining: {choice: [all, hard], when: {loss.name: triplet}}", LOSSES),
        [(3, "but loss.name stands below; move it up")],
    ),
    "when of a dial nowhere": (
        dials("loss.mining: {choice: [all, hard], when: {loss.name: triplet}}"),
        [(3, "loss.name is neither (it is always 'supcon')")],
    ),
    "when of a range": (
        dials(LR, "optim.schedule: {choice: [cosine, constant], when: {optim.lr: 1e-3}}"),
        [(4, "when needs a dial with choices, but optim.lr is a range")],
    ),
    "when of a value that is not tried": (
        dials(LOSSES, "loss.margin: {float: [0.1, 1], when: {loss.name: [triplet, contrastive]}}"),
        [(4, "searched over 'supcon', 'triplet', but got 'contrastive'; add it there")],
    ),
    "when of a value that does not exist": (
        dials(LOSSES, "loss.margin: {float: [0.1, 1], when: {loss.name: tripplet}}"),
        [(4, "but got 'tripplet'; did you mean 'triplet'?")],
    ),
    "when against fixed": (
        dials(
            "loss.margin: {float: [0.1, 1], when: {loss.name: [contrastive, hadsell]}}",
            head="fixed: {loss.name: supcon}",
        ),
        [(4, "when can never hold: loss.name is always 'supcon'")],
    ),
    "when against its own when": (
        dials(
            LOSSES,
            "loss.mining: {choice: [all, hard], when: {loss.name: triplet}}",
            "loss.temperature: {float: [0.1, 1], when: {loss.name: supcon, loss.mining: all}}",
        ),
        [(5, "the dials that it names exclude each other")],
    ),
    "empty when": (dials(LOSSES, "loss.mining: {choice: [all], when: {}}"), [(4, "but got {}")]),
    "when as list": (
        dials(LOSSES, "loss.mining: {choice: [all], when: [x]}"),
        [(4, "when must be")],
    ),
    "when of no values": (
        dials(LOSSES, "loss.mining: {choice: [all], when: {loss.name: []}}"),
        [(4, "loss.name must have values, but got []")],
    ),
    # start
    "start as map": (dials(LR, head="start: {}"), [(2, "start must be a list of maps")]),
    "start of words": (dials(LR, head="start: [defaults]"), [(2, "but got 'defaults'")]),
    "start of an unknown dial": (dials(LR, head="start: [{lr: 1e-3}]"), [(2, "'optim.lr'?")]),
    "start of a dial that is not searched": (
        dials(LR, head="start: [{loss.name: triplet}]"),
        [(2, "loss.name must be under space to be named here")],
    ),
    "start of a fixed dial": (
        dials(LR, head="fixed: {epochs: 9}\nstart: [{epochs: 9}]"),
        [(3, "but it is fixed; leave it out")],
    ),
    "start out of bounds": (
        dials(LR, head="start:\n  - {}\n  - optim.lr: 1"),
        [(4, "optim.lr must be within 0.0001 to 0.01, log, but got 1.0")],
    ),
    "start with an inactive dial": (
        dials(
            LOSSES,
            "loss.mining: {choice: [all, hard], when: {loss.name: triplet}}",
            head="start: [{loss.mining: hard}]",
        ),
        [(2, "loss.mining must be active to be named, but with {loss.name: 'supcon'} it is not")],
    ),
    "start that cannot be built": (
        dials(
            "model.architecture: {choice: [resnet, chopra]}",
            head="fixed: {data.resolution_px: 32}\nstart: [{model.architecture: chopra}]",
        ),
        [(3, "cannot be built: chopra needs data.resolution_px >= 46, but got 32")],
    ),
    # the whole
    "nothing can be built": (
        dials(LR, head="fixed: {loss.name: arcface, loss.distance: l2}"),
        [(3, "no combination can be built; of 1000 drawn none could, mostly because arcface")],
    ),
    "nothing can be built from choices": (
        dials(
            "model.architecture: {choice: [hani, chopra]}", "data.resolution_px: {int: [16, 30]}"
        ),
        [(2, "no combination can be built")],
    ),
    "many faults at once, by line": (
        dials(
            "optim.lrr: {float: [1e-4, 1e-2]}",
            "model.dropout: {float: [0.5, 0.1]}",
            "data.crop: {choice: [center, hgo]}",
            head="study: {trials: -1}\nobjective: {metric: val/loss}",
        ),
        [(2, "trials"), (3, "val/loss"), (5, "optim.lrr"), (6, "swap"), (7, "mean 'hog'?")],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_space_is_refused_with_line_and_reason(name: str, tmp_path: Path) -> None:
    content, expected = BROKEN[name]
    path = tmp_path / "space.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpaceError) as caught:
        load_space(str(path))
    assert caught.value.exit_code == 3
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}: {len(expected)} fault{'s' if len(expected) > 1 else ''}"
    assert len(lines) == len(expected), caught.value
    for line, (number, phrase) in zip(lines, expected, strict=True):
        assert line.startswith(f"{path}:{number}: "), line
        assert phrase in line


def test_there_are_many_kinds_of_broken_spaces() -> None:
    assert len(BROKEN) >= 100


# What a person reads, word for word.
MESSAGES = {
    "unknown dial": "there is no dial 'optim.lrr'; did you mean 'optim.lr'?",
    "unknown choice": "data.normalization must be 'minmax', 'lcn', 'lcn-' or 'zca', but got 'LNC'; "
    "did you mean 'lcn'?",
    "reversed": "optim.lr: low must be below high, but got [0.01, 0.0001]; swap them",
    "one point": "optim.lr: low must be below high, but got [0.1, 0.1]; put `optim.lr: 0.1` under "
    "fixed",
    "log of zero": "model.dropout: log needs low above 0, but got 0.0; raise low or leave log out",
    "epochs searched": "epochs cannot be searched, it is the time axis on which trials are "
    "stopped; put it under fixed",
    "when of a dial below": "loss.mining: when must name a dial above it, but loss.name stands "
    "below; move it up",
    "when against fixed": "loss.margin: when can never hold: loss.name is always 'supcon', but got "
    "['contrastive', 'hadsell']; remove the dial",
    "switch as text": "data.grayscale must be true or false, but got 'true'; write true without "
    "quotes",
    "mode": "objective.mode must be min for val/eer, but got 'max'; write min",
    "step past the end": "batch.images: steps of 10 from 16 must meet 64, but pass it; write 56 or "
    "66 as high",
    "fixed and searched": "optim.lr must stand under fixed or under space, but stands under both; "
    "remove one of the two",
    "epochs before the first rung": "study.scheduler.asha.min_epochs must be at most epochs, which "
    "is 3, but got 5; lower it",
    "tab": "YAML indents with spaces, but got a tab; replace tabs by spaces",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_say_what_must_hold_what_was_got_and_the_cure(name: str, tmp_path: Path) -> None:
    content, _ = BROKEN[name]
    assert isinstance(content, str)
    path = tmp_path / "space.yaml"
    path.write_text(content)
    space, faults = read_space(path)
    assert space is None
    assert [fault.message for fault in faults] == [MESSAGES[name]]
