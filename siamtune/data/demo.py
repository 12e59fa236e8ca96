"""Cartoon portraits rendered from a seed: people to verify without downloading anybody.

A person is a row of traits, a photograph a row of circumstances: pose, light, expression, hat,
background, camera. The shapes that follow from both are computed for all photographs at once,
turned, projected and painted one over the other like layers of paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtune.data.curves import Floats, ellipse
from siamtune.data.portrait import (
    MOLES,
    NEUTRAL,
    TRAITS,
    Shape,
    Values,
    landmarks,
    person_colours,
    portrait,
)

DEMO_SEED = 0
# Enters the fingerprint: raise it when a pixel changes.
DEMO_VERSION = 1
PEOPLE = 160
PHOTOGRAPHS = (10, 14)  # of a person, at least and at most
SIDE_PX = 112
# Side of the centred square from the forehead to the chin, as a fraction of the picture.
DEMO_FACE_BOX = 0.56

UNIT_PX = 27.0  # half the width of an average face
# The head turns about this point, which stands near the middle of the picture.
PIVOT = np.array([0.0, 0.28, 0.0])
# Painted twice as large and then reduced; corners count eighths of a pixel.
OVERSAMPLING = 2
SHIFT = 3
# The shading is soft: half the size is enough.
SHADING_PX = SIDE_PX // 2
SHADING_BLUR_PX = 1.7
BLOBS = 4
GRAIN_PX = 256

Picture = NDArray[Any]  # uint8


@dataclass(frozen=True, eq=False)
class Layer:
    """A shape as it is painted.

    Attributes:
        corners: (N, polygons, corners, 2) int32, in eighths of a pixel.
        colours: (N, channels).
        shown: (N,).
    """

    corners: NDArray[np.int32]
    colours: Floats
    shown: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Camera:
    """What happens to the painting of each of N photographs.

    Attributes:
        light: (N, 2) how much brighter the right and the lower edge are.
        curves: (N, 256, 1, 3) exposure, gamma, haze and colour cast: new values of each level.
        blur_px: (N,) standard deviation, 0 for none.
        resolved_px: (N,) side of the picture that the lens resolves.
        grain: (GRAIN_PX, GRAIN_PX, 3) noise of standard deviation 1, and `grain_at` (N, 2) where in
            it the photograph lies.
        noise: (N,) standard deviation in levels.
    """

    light: Floats
    curves: NDArray[np.uint8]
    blur_px: Floats
    resolved_px: NDArray[np.int64]
    grain: NDArray[np.float32]
    grain_at: NDArray[np.int64]
    noise: Floats


@dataclass(frozen=True, eq=False)
class Album:
    """All photographs, ready to be painted.

    Attributes:
        backdrops: (N, 4, 4, 3) colours behind everything, to be blended.
        landmarks: (N, 68, 2) in pixels.
    """

    backdrops: NDArray[np.uint8]
    layers: list[Layer]
    shading: list[Layer]
    camera: Camera
    landmarks: Floats


class DemoPictures(Sequence[Picture]):
    """The photographs of the demo, (SIDE_PX, SIDE_PX, 3) RGB, each painted when it is asked for."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._lock = Lock()
        self._album: Album | None = None
        counts = self._rng.integers(PHOTOGRAPHS[0], PHOTOGRAPHS[1] + 1, PEOPLE)
        self.identities = np.repeat(np.arange(PEOPLE), counts)

    @property
    def album(self) -> Album:
        with self._lock:  # or every thread would make its own
            if self._album is None:
                self._album = make_album(self.identities, self._rng)
            return self._album

    def __len__(self) -> int:
        return len(self.identities)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return paint(self.album, index)


def demo_landmarks(pictures: DemoPictures) -> Floats:
    """(N, 68, 2) x and y in pixels of every photograph's landmarks, in dlib's order."""
    return pictures.album.landmarks


def make_album(identities: NDArray[np.int64], rng: np.random.Generator) -> Album:
    """Draw people and circumstances, and from them all that is painted.

    Args:
        identities: (N,) who is in each photograph.
    """
    count = len(identities)
    people = int(identities.max()) + 1
    traits = {name: rng.uniform(*bounds, people) for name, bounds in TRAITS.items()}
    moles = rng.uniform((-0.6, -0.65), (0.6, 0.8), (people, MOLES, 2))
    has_mole = rng.random((people, MOLES)) < 0.3

    values = {name: value[identities, None, None] for name, value in traits.items()}
    values |= _circumstances(count, rng)
    gray = rng.uniform(80, 225, (count, 1, 1, 1)) + rng.normal(0, 16, (count, 4, 4, 1))
    tint = rng.normal(0, 16, (count, 1, 1, 3)) + rng.normal(0, 7, (count, 4, 4, 3))
    backdrops = (gray + tint).clip(0, 255)
    colours = person_colours(
        values, shirt=_cloth(count, 50, 205, rng), hat=_cloth(count, 50, 180, rng)
    )
    shapes = portrait(values, colours, moles[identities], has_mole[identities])
    layers = [_layer(shape, values) for shape in shapes if not shape.is_shading]
    return Album(
        backdrops.astype(np.uint8),
        _blobs(backdrops.mean((1, 2)), rng) + layers,
        [_layer(shape, values) for shape in shapes if shape.is_shading],
        _camera(values, rng),
        _project(landmarks(values), values, "head")[:, 0],
    )


def _circumstances(count: int, rng: np.random.Generator) -> Values:
    def normal(deviation: float, limit: float) -> Floats:
        return rng.normal(0, deviation, (count, 1, 1)).clip(-limit, limit)

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (count, 1, 1))

    return {
        # Angles in radians: to the right, down, clockwise.
        "yaw": normal(0.26, 0.55),
        "pitch": normal(0.14, 0.32),
        "roll": normal(0.13, 0.35),
        "scale": 1 + normal(0.075, 0.16),
        "shift_x_px": normal(3.2, 8),
        "shift_y_px": normal(3.2, 8),
        "smile": uniform(-0.35, 1.0),
        "open": uniform(-0.25, 0.2).clip(0),
        "lids": uniform(0.55, 1.12),
        "brow_raise": normal(0.035, 0.08),
        "brow_turn": normal(0.045, 0.1),
        "gaze_x": normal(0.3, 0.6),
        "gaze_y": normal(0.2, 0.4),
        "hair_shift": normal(0.05, 0.1),
        "light": uniform(-1, 1),  # from the left, from the right
        "glasses_chance": uniform(0, 1),
        "hat_chance": uniform(0, 1),
    }


def _cloth(count: int, dark: float, bright: float, rng: np.random.Generator) -> Floats:
    return (rng.uniform(dark, bright, (count, 1)) + rng.normal(0, 32, (count, 3))).clip(20, 240)


def _blobs(backdrops: Floats, rng: np.random.Generator) -> list[Layer]:
    """Lights out of focus behind the person, in colours near to (N, 3) `backdrops`."""
    count = len(backdrops)
    layers = []
    for _ in range(BLOBS):
        x, y = rng.uniform(0, SIDE_PX, (2, count, 1, 1))
        radius = rng.uniform(4, 22, (count, 1, 1))
        colours = (backdrops + rng.normal(0, 26, (count, 3))).clip(0, 255)
        corners = _fixed_point(ellipse(x, y, radius, radius, 18), OVERSAMPLING)
        layers.append(Layer(corners, colours, rng.random(count) < 0.5))
    return layers


def _layer(shape: Shape, values: Values) -> Layer:
    scale = SHADING_PX / SIDE_PX if shape.is_shading else OVERSAMPLING
    corners = _fixed_point(_project(shape.corners, values, shape.moves_with), scale)
    count = len(corners)
    channels = 1 if shape.is_shading else 3
    return Layer(
        corners,
        np.broadcast_to(np.asarray(shape.colour, np.float64), (count, channels)),
        np.broadcast_to(shape.shown, count),
    )


def _fixed_point(pixels: Floats, scale: float) -> NDArray[np.int32]:
    """In OpenCV whole coordinates are the centres of pixels, not their corners."""
    return np.rint((pixels * scale - 0.5) * 2**SHIFT).astype(np.int32)


def _project(corners: Floats, values: Values, moves_with: str) -> Floats:
    """(N, k, n, 3) in space to (N, k, n, 2) in pixels of the picture, without perspective."""
    yaw, pitch, roll = values["yaw"], values["pitch"], values["roll"]
    if moves_with == "body":  # which follows the head a little
        yaw, pitch, roll = 0.3 * yaw, 0.0 * pitch, 0.25 * roll
    x, y, z = np.moveaxis(corners - PIVOT, -1, 0)
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    y = y * np.cos(pitch) + z * np.sin(pitch)
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    unit_px = UNIT_PX * values["scale"]
    return np.stack(
        [
            SIDE_PX / 2 + values["shift_x_px"] + unit_px * x,
            SIDE_PX / 2 + values["shift_y_px"] + unit_px * y,
        ],
        axis=-1,
    )


def _camera(values: Values, rng: np.random.Generator) -> Camera:
    light_x = 0.45 * values["light"][:, 0, 0]
    count = len(light_x)
    light_y = rng.uniform(-0.2, 0.1, count)
    exposure = rng.uniform(0.6, 1.12, (count, 1, 1))
    cast = 1 + rng.normal(0, 0.05, (count, 1, 3)).clip(-0.1, 0.1)
    gamma = np.exp(rng.normal(0, 0.28, (count, 1, 1)).clip(-0.4, 0.6))
    haze = rng.uniform(0, 22, (count, 1, 1)) * (rng.random((count, 1, 1)) < 0.4)
    levels = np.linspace(0, 1, 256)[:, None]
    curves = haze + (255 - haze) * exposure * cast * levels**gamma
    return Camera(
        np.stack([light_x, light_y], axis=1),
        curves.clip(0, 255).astype(np.uint8)[:, :, None],
        np.where(rng.random(count) < 0.25, rng.uniform(0.5, 1.3, count), 0.0),
        np.where(rng.random(count) < 0.2, rng.integers(34, 72, count), SIDE_PX),
        rng.normal(0, 1, (GRAIN_PX, GRAIN_PX, 3)).astype(np.float32),
        rng.integers(0, GRAIN_PX - SIDE_PX, (count, 2)),
        rng.uniform(0.5, 6, count),
    )


def paint(album: Album, index: int) -> Picture:
    """(SIDE_PX, SIDE_PX, 3) RGB of one photograph."""
    side = SIDE_PX * OVERSAMPLING
    canvas = cv2.resize(album.backdrops[index], (side, side), interpolation=cv2.INTER_CUBIC)
    _paint_layers(canvas, album.layers, index, cv2.LINE_AA)
    picture = cv2.resize(canvas, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    shading = np.full((SHADING_PX, SHADING_PX), NEUTRAL, np.uint8)
    _paint_layers(shading, album.shading, index, cv2.LINE_8)
    light = _light(cv2.GaussianBlur(shading, (0, 0), SHADING_BLUR_PX), *album.camera.light[index])
    picture = cv2.multiply(picture, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    return _photograph(picture, album.camera, index)


def _paint_layers(canvas: Picture, layers: list[Layer], index: int, line: int) -> None:
    for layer in layers:
        if layer.shown[index]:
            colour = layer.colours[index].tolist()
            cv2.fillPoly(canvas, list(layer.corners[index]), colour, line, SHIFT)


def _light(shading: Picture, to_the_right: float, downwards: float) -> NDArray[Any]:
    """(SIDE_PX, SIDE_PX) factors: the shading, and light that falls off across the picture."""
    ramp = np.linspace(-1, 1, SHADING_PX)
    fall = 1 + to_the_right * ramp + downwards * ramp[:, None]
    light = (fall / NEUTRAL * shading).astype(np.float32)
    return cv2.resize(light, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)


def _photograph(picture: Picture, camera: Camera, index: int) -> Picture:
    resolved_px = int(camera.resolved_px[index])
    if resolved_px < SIDE_PX:
        picture = cv2.resize(picture, (resolved_px, resolved_px), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    if camera.blur_px[index]:
        picture = cv2.GaussianBlur(picture, (0, 0), camera.blur_px[index])
    picture = cv2.LUT(picture, camera.curves[index])
    top, left = camera.grain_at[index]
    grain = camera.grain[top : top + SIDE_PX, left : left + SIDE_PX]
    noisy = cv2.scaleAdd(grain, camera.noise[index], picture.astype(np.float32))
    return noisy.clip(0, 255).astype(np.uint8)
