"""What there is to see of a model: pairs with its verdicts, people on its map, their variants."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from siamtune.config import trial_config
from siamtune.data.decode import Pictures
from siamtune.data.prepare import Faces
from siamtune.data.recipe import (
    Recipe,
    cut_boxes,
    face_boxes,
    photograph_boxes,
    read_pictures,
)
from siamtune.data.samples import most_photographed, variants
from siamtune.data.sources import Source
from siamtune.errors import DataError
from siamtune.report.figures import (
    Pair,
    layers_figure,
    map_figure,
    mosaic_figure,
    saliency_figure,
)
from siamtune.report.table import one_line
from siamtune.shipping.inside import layers, saliency
from siamtune.shipping.measure import ScoredPairs, score_pairs
from siamtune.shipping.verifier import Verifier
from siamtune.training.evaluation import validation_pairs

MAP_PEOPLE, MAP_EACH = 40, 8
MOSAIC_PEOPLE = 4
MOSAIC_FITTED = 256  # training pictures that normalizations are fitted on


@dataclass(frozen=True, eq=False)
class Gallery:
    """A model, and pictures of people of whom it saw only those in training."""

    verifier: Verifier
    faces: Faces
    source: Source
    pictures: Pictures

    @cached_property
    def scored(self) -> ScoredPairs:
        """The verification pairs of the validation people with their scores."""
        return score_pairs(self.verifier, self.faces, validation_pairs(self.faces), "validation")

    @property
    def people(self) -> str:
        return f"validation people of {self.faces.source}"

    def telling_pairs(self) -> list[Pair]:
        """One each, where there is one: rightly "same" and "different", wrongly so."""
        threshold = self.verifier.threshold
        right = [self.scored.typical(threshold, called_same=same) for same in (True, False)]
        wrong = [
            self.scored.mistakes(threshold, called_same=same, most=1) for same in (True, False)
        ]
        return [self.pair(int(place)) for places in (*right, *wrong) for place in places]

    def pair(self, place: int) -> Pair:
        """The scored pair at a place."""
        chosen = self.scored.pictures[place]
        (verdict,) = self.verifier.verdicts(self.scored.scores[[place]])
        left, right = self._photographs(chosen)
        return Pair(
            (left, right),
            face_boxes((left, right), self._recipe, self.verifier.landmarks),
            np.asarray(self.faces.images[chosen]),
            (self.name(chosen[0]), self.name(chosen[1])),
            verdict,
            bool(self.scored.same[place]),
        )

    def name(self, index: int) -> str:
        """`person/file` of a picture."""
        return self.source.picture_name(self.pictures.positions[index])

    def map(self, title: str) -> Figure:
        """The validation people with the most pictures on the map of their embeddings."""
        chosen = most_photographed(
            self.faces.indices("validation"), self.faces.identities,
            people=MAP_PEOPLE, each=MAP_EACH,
        )  # fmt: skip
        images, identities = self.faces.images[chosen], self.faces.identities[chosen]
        people = len(np.unique(identities))
        return map_figure(
            images,
            self.verifier.embed_faces(images),
            identities,
            self.verifier.distance,
            f"{title}: {len(chosen)} pictures of {people} {self.people}, one frame colour a person",
        )

    def mosaic(self, title: str) -> Figure:
        """Four people as every normalization and crop factor shows them to a network."""
        shown = most_photographed(
            self.faces.indices("validation"), self.faces.identities, people=MOSAIC_PEOPLE, each=1
        )
        training = self.faces.indices("train")
        if len(training) > MOSAIC_FITTED:
            training = np.random.default_rng(0).choice(training, MOSAIC_FITTED, replace=False)
        cells = variants(
            self._photographs(shown),
            self._photographs(np.sort(training)),
            self._recipe,
            self.verifier.landmarks,
        )
        normalization = trial_config(dict(self.verifier.facts["config"])).data.normalization
        trained = (str(normalization), self._recipe.factor)
        return mosaic_figure(cells, trained, f"{self.people}; framed: {title}")

    @property
    def _recipe(self) -> Recipe:
        # Where the central box lies is a fact of the pictures, not of the model.
        return replace(self.verifier.recipe, face_box=self.faces.crop.face_box)

    def _photographs(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return [self.pictures.picture(index) for index in indices]


def own_pair(verifier: Verifier, files: tuple[Path, Path]) -> Pair:
    """Two photographs and what a model says of them.

    Raises:
        DataError: one of them cannot be read.
    """
    pictures, unreadable = read_pictures(files)
    if unreadable:
        names = " and ".join(str(files[place]) for place in unreadable)
        raise DataError(f"{names} cannot be read; give files of pictures, such as JPEG or PNG")
    left, right = pictures
    file_names = (files[0].name, files[1].name)
    boxes = photograph_boxes(pictures, verifier.recipe, verifier.landmarks, file_names)
    faces = cut_boxes(pictures, boxes, verifier.recipe)
    scores = verifier.scores(verifier.embed_faces(faces), np.array([0]), np.array([1]))
    return Pair((left, right), boxes, faces, file_names, verifier.verdicts(scores)[0])


def layers_of(verifier: Verifier, pair: Pair, title: str) -> Figure:
    """What each layer makes of the first face of a pair."""
    face = pair.faces[0]
    embedding = verifier.embed_faces(face[None])[0]
    return layers_figure(layers(verifier, face), embedding, f"{title}: {one_line(pair.names[0])}")


def saliency_of(verifier: Verifier, pairs: Sequence[Pair]) -> Figure:
    """Which pixels the scores of pairs hang on."""
    return saliency_figure(pairs, [saliency(verifier, pair.faces) for pair in pairs])
