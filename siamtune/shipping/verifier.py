"""A trained model in use: "is this the same person?" for any two pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siamtune.config import TrialConfig, trial_config
from siamtune.data.normalization import restore_normalization
from siamtune.data.recipe import Recipe, cut_faces, read_pictures
from siamtune.errors import CheckpointError, DataError, SiamtuneError
from siamtune.models import SiameseNet, build_model
from siamtune.search.runs import MODEL
from siamtune.training.checkpoint import Checkpoint, read_checkpoint
from siamtune.training.evaluation import embed
from siamtune.verification.calibration import Calibration
from siamtune.verification.scorers import Scorer, restore_scorer
from siamtune.verification.scorers import score_pairs as scores_by
from siamtune.verification.scores import pair_scores

Picture = str | Path | NDArray[np.uint8]
Progress = Callable[[str, int, int], None]

# The model that answers where nobody names one: a folder as `siamtune export` makes it.
PRETRAINED = Path(str(files("siamtune"))) / "pretrained"
BUILT_IN = PRETRAINED / "lfw"
PICTURES_AT_ONCE = 256


@dataclass(frozen=True)
class Verdict:
    """What a model says about two pictures.

    Attributes:
        same: whether the score reaches the threshold.
        score: large when the pictures look alike: minus the distance of the two embeddings, or
            what a fitted scorer says.
        probability: that it is one person, where half of all pairs are; in [0, 1].
        threshold: of the score.
    """

    same: bool
    score: float
    probability: float
    threshold: float


@dataclass(frozen=True, eq=False)
class Verifier:
    """A network with all that must be done before it and after it; `siamtune.load` makes one.

    Attributes:
        flip: embed a picture as the mean of it and its mirror image.
        path: the file that it was read from.
        facts: what that file says of data, protocol and training.
        landmarks: the file of dlib's predictor, which the crops `trees` and `aligned` need.
        scorer: scores in place of the distance, if `siamtune rescore` chose one.
    """

    model: SiameseNet
    normalization: nn.Module
    recipe: Recipe
    flip: bool
    distance: str
    embedding_size: int
    threshold: float
    calibration: Calibration
    path: Path
    facts: Mapping[str, Any]
    device: torch.device
    landmarks: Path | None = None
    scorer: Scorer | None = None

    @property
    def scorer_name(self) -> str:
        """What compares two embeddings: a distance, or a name of `SCORERS`."""
        return str(self.facts.get("scorer", self.distance))

    @property
    def title(self) -> str:
        """Which model this is, in a few words."""
        config = trial_config(self.facts["config"])
        name = "built-in" if self.path.parent == BUILT_IN else str(self.path)
        return f"{name}, {config.model.architecture} trained on {self.facts['data']}"

    def embed(
        self, images: Sequence[Picture] | NDArray[np.uint8], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Embeddings `(N, D)` of paths, or of `(H, W)` gray and `(H, W, 3)` RGB uint8 arrays.

        Args:
            progress: called with what is done, how many pictures are, and of how many.

        Raises:
            DataError: a picture cannot be read; the message names those that cannot.
        """
        embeddings, unreadable = self.embed_readable(images, progress)
        if unreadable:
            shown = ", ".join(_name(images[place], place) for place in unreadable[:5])
            more = f" and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
            raise DataError(
                f"{shown}{more} cannot be read; give files of pictures, such as JPEG or PNG"
            )
        return embeddings

    def embed_readable(
        self, images: Sequence[Picture] | NDArray[np.uint8], progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], list[int]]:
        """As `embed`, but leaves out what cannot be read and returns the positions of that."""
        _check_sequence(images)
        parts = [np.empty((0, self.embedding_size), np.float32)]
        unreadable: list[int] = []
        for start in range(0, len(images), PICTURES_AT_ONCE):
            chunk = images[start : start + PICTURES_AT_ONCE]
            pictures, missing = read_pictures(
                [Path(image) if isinstance(image, str) else image for image in chunk]
            )
            unreadable += [start + place for place in missing]
            if pictures:
                left_out = set(missing)
                names = [
                    _name(image, start + place)
                    for place, image in enumerate(chunk)
                    if place not in left_out
                ]
                faces = cut_faces(pictures, self.recipe, self.landmarks, names)
                parts.append(self.embed_faces(faces))
            if progress:
                progress("embedding pictures", start + len(chunk), len(images))
        return np.concatenate(parts), unreadable

    def embed_faces(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings `(N, D)` of faces `(N, C, R, R)` that are cut out already."""
        everything = np.arange(len(faces))
        embeddings = embed(
            self.model, self.normalization, faces, everything, self.device, flip=self.flip
        )
        return embeddings.cpu().numpy()

    def score(self, image_a: Picture, image_b: Picture) -> float:
        """How alike two pictures' embeddings are; raises as `embed`."""
        embeddings = self.embed([image_a, image_b])
        return float(self.scores(embeddings, np.array([0]), np.array([1]))[0])

    def scores(
        self, embeddings: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Scores `(P,)` of pairs of rows of `embeddings` `(N, D)`."""
        if self.scorer is not None:
            return scores_by(self.scorer, embeddings, left, right)
        return pair_scores(torch.from_numpy(embeddings), left, right, self.distance)

    def verify(self, image_a: Picture, image_b: Picture) -> Verdict:
        """Whether two pictures show the same person; raises as `embed`."""
        return self.verdicts(np.array([self.score(image_a, image_b)]))[0]

    def verdicts(self, scores: NDArray[np.float64]) -> list[Verdict]:
        """What `scores` `(P,)` mean."""
        probabilities = self.calibration.probability(scores)
        return [
            Verdict(bool(score >= self.threshold), float(score), float(chance), self.threshold)
            for score, chance in zip(scores, probabilities, strict=True)
        ]


def load(
    path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    landmarks: str | Path | None = None,
) -> Verifier:
    """A model from its folder or its `model.safetensors`; nothing in it is executed or unpickled.

    Args:
        path: what `siamtune export` made, a run folder (its best model), or a checkpoint; default
            the model that siamtune brings along.
        device: default the first CUDA device, or the processor.
        landmarks: the file of dlib's predictor, for models with the crop `trees` or `aligned`.

    Raises:
        CheckpointError: there is no model, or the file is foreign, truncated or too old.
    """
    checkpoint_path = built_in_model() if path is None else model_path(Path(path))
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return restore(
        read_checkpoint(checkpoint_path),
        checkpoint_path,
        chosen,
        Path(landmarks) if landmarks else None,
    )


def built_in_model() -> Path:
    """The file of the model that siamtune brings along.

    Raises:
        CheckpointError: this siamtune was built without.
    """
    path = BUILT_IN / MODEL
    if not path.is_file():
        raise CheckpointError(
            "this siamtune has no built-in model: name one with --model (in Python: siamtune.load"
            "(path)), an exported folder, a run or `latest`; make one with: siamtune train"
        )
    return path


def shipped_model(name: str) -> Path | None:
    """The file of a model that siamtune brings along under a name, such as `lfw`."""
    path = PRETRAINED / name / MODEL
    return path if Path(name).name == name and path.is_file() else None


def model_path(path: Path) -> Path:
    """The file of the model in an exported folder or a run folder, the file itself, or a model
    that siamtune brings along under that name.

    Raises:
        CheckpointError: there is none.
    """
    path = path.expanduser()
    if not path.exists() and (shipped := shipped_model(str(path))):
        return shipped
    if not path.is_dir():
        return path  # reading says what is wrong with it
    for candidate in (path / MODEL, path / "best" / MODEL):
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"{path} must hold {MODEL} or best/{MODEL}, but it has neither; make one with: "
        "siamtune export RUN --to DIR"
    )


def restore(
    checkpoint: Checkpoint, path: Path, device: torch.device, landmarks: Path | None = None
) -> Verifier:
    """The verifier that a checkpoint holds; `path` names it in messages.

    Raises:
        CheckpointError: something is missing in it or does not fit.
    """
    facts = checkpoint.facts
    try:
        config = trial_config(facts["config"])
        recipe = _recipe(config, float(facts["face_box"]), facts.get("landmarks"))
        calibration = Calibration(**facts["calibration"])
        threshold = float(facts.get("threshold", facts["metrics"]["threshold"]))
        with torch.random.fork_rng(devices=[]):  # the first weights are drawn, for nothing
            model = build_model(
                config.model, channels=recipe.channels, resolution_px=recipe.resolution_px
            )
        model.load_state_dict(checkpoint.parts["model"])
        normalization = restore_normalization(
            config.data.normalization,
            (recipe.channels, recipe.resolution_px, recipe.resolution_px),
            checkpoint.parts.get("normalization", {}),
        )
        scorer = None
        if "scorer" in facts:
            fitted = checkpoint.parts.get("scorer", {})
            scorer = restore_scorer(
                facts["scorer"], {name: tensor.numpy() for name, tensor in fitted.items()}
            )
    except (KeyError, TypeError, ValueError, RuntimeError, SiamtuneError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} must hold a whole model of this version of siamtune, but: {what}; train or "
            "export it again"
        ) from None
    return Verifier(
        model.to(device).eval(),
        normalization.to(device).eval(),
        recipe,
        config.verification.flip,
        config.loss.distance,
        config.model.embedding_size,
        threshold,
        calibration,
        path,
        facts,
        device,
        landmarks,
        scorer,
    )


def _recipe(config: TrialConfig, face_box: float, landmarks: str | None) -> Recipe:
    data = config.data
    return Recipe(
        data.crop, data.crop_factor, data.resolution_px, data.grayscale, face_box, landmarks
    )


def _name(image: Picture, place: int) -> str:
    return f"picture #{place}" if isinstance(image, np.ndarray) else str(image)


def _check_sequence(images: Any) -> None:
    """Refuse one picture where several are meant: its rows or letters are a sequence, too."""
    one = isinstance(images, str | Path) or (
        isinstance(images, np.ndarray)
        and (images.ndim < 3 or (images.ndim == 3 and images.shape[2] == 3))
    )
    if one:
        raise DataError("embed takes a list of pictures, but got one; give [picture]")
