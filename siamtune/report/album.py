"""The photographs that a run's answers are about."""

from dataclasses import dataclass

import cv2
import numpy as np

from siamtune.data.boxes import central_boxes, cut, scaled
from siamtune.data.decode import Pictures
from siamtune.data.sources import Source
from siamtune.errors import DataError
from siamtune.report.pairs import FACE_PX, PairPicture
from siamtune.verification.kept import KeptAnswers

SHOWN_FACTOR = 1.5  # of the face box: a person is known by hair and chin, too
JPEG_QUALITY = 82


@dataclass(frozen=True, eq=False)
class Album:
    """The pictures that a run's answers are about."""

    source: Source
    pictures: Pictures

    def require(self, kept: KeptAnswers) -> None:
        """Make sure that the answers are of these pictures.

        Raises:
            DataError: they are of others.
        """
        people = self.source.identities[self.pictures.positions]
        for side, persons in (
            (kept.pairs.left, kept.answers.left),
            (kept.pairs.right, kept.answers.right),
        ):
            if side.max() >= len(people) or (people[side] != persons).any():
                raise DataError(
                    f"{self.source.name} must hold the pictures that the trials were asked about, "
                    "but it holds others now"
                )

    def pair(self, kept: KeptAnswers, at: int, says: str) -> PairPicture:
        """Draw the pair at a position of the answers."""
        left, right = int(kept.pairs.left[at]), int(kept.pairs.right[at])
        names = [
            self.source.names[int(side[at])] for side in (kept.answers.left, kept.answers.right)
        ]
        people = " · ".join(dict.fromkeys(name.replace("_", " ") for name in names))
        return PairPicture(self._face(left), self._face(right), people, says)

    def _face(self, picture: int) -> bytes:
        pixels = self.pictures.picture(picture)
        size = np.array([pixels.shape[0]]), np.array([pixels.shape[1]])
        (box,) = scaled(central_boxes(*size, self.source.face_box), SHOWN_FACTOR)
        face = cut(pixels, box, FACE_PX, grayscale=False)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), quality)
        return encoded.tobytes()
