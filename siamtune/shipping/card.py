"""The model card: what a model is, how good, and what it must not be used for."""

import json
from collections.abc import Mapping
from typing import Any

ROWS = {
    "auc": "AUC",
    "accuracy": "accuracy at the threshold",
    "f1": "F1 at the threshold",
    "tar": "true accept rate at the threshold",
    "far": "false accept rate at the threshold",
    "eer": "equal error rate",
}
CROPS = {
    "none": "the whole picture",
    "center": "the central square whose side is {face_box:.2f} of the picture's shorter side",
    "haar": "the biggest face that OpenCV's Haar cascade finds",
    "hog": "the biggest face that dlib's HOG detector finds",
    "trees": "a square about the nose that dlib's 68 landmarks find",
    "aligned": "a square that dlib's landmarks of eyes and nose shift, scale and turn upright",
}


def model_card(document: Mapping[str, Any], name: str) -> str:
    """Markdown from the content of a `model.json`."""
    sections = [
        f"# {name}",
        _summary(document),
        "## Use",
        _use(document, name),
        "## What it does to a picture",
        _treatment(document),
        "## Data and protocol",
        _data(document),
        "## Numbers",
        _numbers(document),
        "## Threshold and probability",
        _threshold(document),
        "## Intended use and limits",
        _limits(document),
    ]
    if document["missing"]:
        sections += ["## Missing", *(f"- {line}" for line in document["missing"])]
    return "\n\n".join(sections) + "\n"


def _summary(document: Mapping[str, Any]) -> str:
    again = ""
    if "replica" in document:
        again = f", trained again with another seed (replica {document['replica']})"
    return (
        "A siamese network that says whether two pictures show the same person: "
        f"{document['architecture']} with {document['parameters']:,} parameters, "
        f"{document['embedding_size']} numbers in an embedding, {document['distance']} distance, "
        f"trained with the {document['loss']} loss. "
        f"It is trial {document['trial']} of the run `{document['run']}`{again} after epoch "
        f"{document['epoch']}, made with siamtune {document['siamtune']}; `config.yaml` trains it "
        "again."
    )


def _use(document: Mapping[str, Any], name: str) -> str:
    onnx = document.get("onnx")
    text = (
        f"```python\nimport siamtune\n\nmodel = siamtune.load({json.dumps(name)})\n"
        'model.verify("a.jpg", "b.jpg")  # same, score, probability, threshold\n```\n\n'
        f"```\nsiamtune predict a.jpg b.jpg --model {name}\n```"
    )
    if onnx:
        text += (
            f"\n\n`{onnx['file']}` holds normalization and network: faces {onnx['input']} of "
            "float32 in [0, 255], cut out as below, to embeddings. Its numbers differ from "
            f"PyTorch's by {onnx['largest_difference']:.1g} of an embedding's length at most."
        )
    return text


def _treatment(document: Mapping[str, Any]) -> str:
    crop = document["crop"]
    box = CROPS[crop["style"]].format(face_box=crop["face_box"])
    fallback = f" (where it finds none, the central square of {crop['face_box']:.2f})"
    if crop["style"] == "none" or (crop["style"] == "center" and crop["face_box"] >= 1):
        fallback = ""
    elif crop["style"] == "center":
        fallback = (
            " (in a photograph with no face there, the biggest that OpenCV's Haar cascade finds)"
        )
    colour = "gray" if crop["grayscale"] else "RGB"
    return (
        f"The face is {box}{fallback}, scaled by {crop['factor']:g} about its centre. It is cut "
        f"out, resized to {crop['resolution_px']} x {crop['resolution_px']} px {colour} and "
        f"normalized with `{document['normalization']}`, fitted on training people."
        + (" Its embedding is the mean of its own and its mirror image's." * document["flip"])
    )


def _data(document: Mapping[str, Any]) -> str:
    trained = document.get("trained_on")
    of = f", {trained['pictures']:,} pictures of {trained['people']:,} people" if trained else ""
    return (
        f"Trained on `{document['data']}`{of}. Protocol `{document['protocol']}`, split "
        f"`{document['split']}`: people are in training, validation or test, never in two of them. "
        "The search chose this model by its validation numbers, which therefore flatter it."
    )


def _numbers(document: Mapping[str, Any]) -> str:
    parts = [part for part in ("validation", "test") if part in document]
    lines = [
        "| | " + " | ".join(f"{part} people" for part in parts) + " |",
        "| --- |" + " ---: |" * len(parts),
    ]
    for key, words in ROWS.items():
        if any(key in document[part] for part in parts):
            cells = [estimate(document[part].get(key)) for part in parts]
            lines.append(f"| {words} | " + " | ".join(cells) + " |")
    notes = [
        f"{part}: {counted['pairs']['same']:,} pairs of one person and "
        f"{counted['pairs']['different']:,} of two, of {counted['people']:,} people."
        for part in parts
        if "pairs" in (counted := document[part])
    ]
    notes.append(
        "In brackets: 95 % intervals from resampling people, for other people of the same kind."
    )
    return "\n".join(lines) + "\n\n" + " ".join(f"{note[0].upper()}{note[1:]}" for note in notes)


def estimate(number: Mapping[str, float | None] | None) -> str:
    """A value with its interval, as `0.912 [0.893, 0.930]`."""
    if number is None:
        return ""
    text = f"{number['value']:.4f}"
    if number["low"] is not None:
        text += f" [{number['low']:.4f}, {number['high']:.4f}]"
    return text


def _threshold(document: Mapping[str, Any]) -> str:
    threshold, calibration = document["threshold"], document["calibration"]
    text = (
        f"Two pictures are called the same person from a score of {threshold['score']:.6g} on; the "
        f"score is {_score(document)}. The threshold comes from: {threshold['from']}."
    )
    far = document["validation"].get("far")
    if far:
        text += f" False accept rate measured on validation people: {estimate(far)}."
    if "validation people" in threshold["from"]:
        text += " These are the pairs that it was set on: expect the interval, not the value" + (
            ", or read the test people's column." if "test" in document else "."
        )
    return text + (
        f"\n\nProbability = 1 / (1 + exp(-({calibration['slope']:.6g} * score + "
        f"{calibration['intercept']:.6g}))), fitted on {calibration['from']}. Where fewer pairs "
        "are of one person it is too high; the threshold need not lie at one half."
    )


def _score(document: Mapping[str, Any]) -> str:
    if document["scorer"] == document["distance"]:
        return "minus the distance"
    return f"what `{document['scorer']}`, fitted on training people, says of two embeddings"


_TEMPLATES = (
    "- The file holds a mean embedding of each training person, which is enough to recognise them: "
    "give it only to those who may have their pictures."
)


def _limits(document: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "- For research and teaching: comparing networks, losses and their settings.",
            "- Not for decisions about people: no identification, surveillance or access control.",
            f"- The numbers hold for pictures like those of `{document['data']}`. Other cameras, "
            "poses and ages, and groups of people that are rare in it, will give other errors; "
            "measure them before relying on any.",
            "- Nothing here detects a photograph of a photograph or any other deception.",
            *[_TEMPLATES] * document.get("scorer_holds_people", False),
        ]
    )
