"""The head and shoulders of the demo's people: points in space and coloured shapes between them.

Half the width of an average face is the unit of length; x points right, y down, z to the viewer.
Values of a trait or circumstance are `(N, 1, 1)`, one a photograph, and broadcast against
`(N, shapes, corners)`; where there are two shapes, they are the left and the right one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamtune.data.curves import Floats, ellipse, points, ribbon, signed_power, smooth, taper

Values = dict[str, Floats]

# Uniform over people.
TRAITS: dict[str, tuple[float, float]] = {
    "face_width": (0.87, 1.10),
    "chin": (1.18, 1.46),
    "jaw_exponent": (1.8, 2.9),  # of a superellipse: pointed to square
    "jaw_taper": (-0.02, 0.14),
    "ear": (0.75, 1.3),
    "eye_distance": (0.40, 0.53),  # from the middle of the face
    "eye_width": (0.17, 0.245),  # half of it
    "eye_height": (0.105, 0.175),
    "eye_tilt": (-0.14, 0.26),
    "eye_y": (-0.18, 0.0),
    "iris": (0.43, 0.56),  # of the eye's width
    "lash": (0.02, 0.045),
    "brow_height": (0.09, 0.20),  # above the eye
    "brow_arch": (0.0, 0.12),
    "brow_tilt": (-0.12, 0.12),
    "brow_thickness": (0.035, 0.11),
    "brow_gap": (0.13, 0.27),
    "nose_length": (0.42, 0.68),
    "nose_width": (0.15, 0.29),
    "mouth_drop": (0.24, 0.36),  # below the tip of the nose
    "mouth_width": (0.28, 0.45),
    "upper_lip": (0.04, 0.10),
    "lower_lip": (0.06, 0.14),
    "lip_red": (0.07, 0.45),
    "skin": (0.0, 6.999),  # place in SKINS
    "iris_colour": (0.0, 3.999),
    "hair_colour": (0.0, 6.999),
    "hair_style": (0.0, 1.0),  # bald, short, to the chin, long
    "hair_volume": (0.08, 0.30),
    "hair_curl": (-1.5, 1.0),  # 0 and less: none
    "hair_line": (-1.06, -0.72),
    "hair_part": (-0.8, 0.8),
    "hair_sweep": (-0.12, 0.36),
    "beard": (0.0, 1.0),
    "age": (0.0, 1.0),
    "spectacles": (0.0, 1.0),
    "frame": (0.0, 1.0),
}
MOLES = 3
BALD, SHORT, CHIN_LONG = 0.07, 0.5, 0.74  # up to these `hair_style`s
SKINS = np.array(
    [
        (255, 224, 200),
        (248, 210, 182),
        (238, 194, 160),
        (224, 173, 132),
        (202, 147, 106),
        (174, 119, 82),
        (142, 95, 66),
        (112, 75, 54),
    ],
    np.float64,
)
HAIRS = np.array(
    [
        (40, 35, 38),
        (44, 36, 36),
        (74, 52, 40),
        (110, 74, 48),
        (214, 176, 112),
        (168, 84, 44),
        (160, 158, 160),
    ],
    np.float64,
)
IRISES = np.array([(84, 54, 34), (118, 92, 52), (84, 124, 84), (80, 122, 168)], np.float64)
LIPS = np.array([158, 50, 57], np.float64)
DARK_SKIN = 4.3  # from here on hair and eyes are dark or gray

NEUTRAL = 128  # shading that leaves a colour as it is
LEFT_RIGHT = np.array([-1.0, 1.0])[:, None]


@dataclass(frozen=True, eq=False)
class Shape:
    """Polygons of one colour, in every photograph.

    Attributes:
        corners: (N, polygons, corners, 3).
        colour: (N, 3) or (3,) RGB from 0 to 255; of shading one number, (N, 1) or ().
        shown: (N,).
        moves_with: the head or the body.
    """

    corners: Floats
    colour: ArrayLike
    shown: NDArray[np.bool_] | bool = True
    moves_with: str = "head"
    is_shading: bool = False


@dataclass(frozen=True, eq=False)
class Colours:
    """(N, 3) RGB each, from 0 to 255."""

    skin: Floats
    hair: Floats
    iris: Floats
    lips: Floats
    shirt: Floats
    hat: Floats


def person_colours(v: Values, *, shirt: Floats, hat: Floats) -> Colours:
    skin_at, hair_at, iris_at = (
        v[name][:, 0, 0] for name in ("skin", "hair_colour", "iris_colour")
    )
    lower = skin_at.astype(int)
    part = (skin_at - lower)[:, None]
    skin = SKINS[lower] * (1 - part) + SKINS[lower + 1] * part
    hair = hair_at.astype(int)
    is_dark = skin_at > DARK_SKIN
    hair = np.where(is_dark & (hair > 2) & (hair < 6), hair % 3, hair)
    red = v["lip_red"][:, 0]
    lips = skin * (0.90, 0.80, 0.82) * (1 - red) + LIPS * red
    iris = np.where(is_dark, 0, iris_at.astype(int))
    return Colours(skin, HAIRS[hair], IRISES[iris], lips, shirt, hat)


def portrait(
    v: Values, colours: Colours, moles: Floats, has_mole: NDArray[np.bool_]
) -> list[Shape]:
    """All shapes, from the farthest to the nearest.

    Args:
        v: traits and circumstances.
        moles: (N, MOLES, 2) places on the face.
        has_mole: (N, MOLES).
    """
    return [
        *_hair_behind(v, colours),
        *_body(v, colours),
        *_ears(v, colours),
        *_face(v, colours),
        *_moles(v, colours, moles, has_mole),
        *_beard(v, colours),
        *_mouth(v, colours),
        *_nose(v, colours),
        *_eyes(v, colours),
        *_brows(v, colours),
        *_hair_in_front(v, colours),
        *_glasses(v),
        *_hat(v, colours),
    ]


def landmarks(v: Values) -> Floats:
    """(N, 1, 68, 3) points in the order of iBUG and dlib."""
    jaw, brow, eye = _jaw(v), _brow_line(v), _eye_landmarks(v)
    parts = [
        _flat(jaw, 0.05),
        _on_face(v, brow[:, :1, ::-1]),
        _on_face(v, brow[:, 1:]),
        _nose_bridge(v),
        _nose_base(v),
        # From the outer corner of the left eye over its lids, then from the inner of the right.
        _on_face(v, eye[:, :1, [3, 2, 1, 0, 5, 4]]),
        _on_face(v, eye[:, 1:]),
        _on_face(v, _outer_lips(v), LIP_LIFT),
        _on_face(v, _inner_lips(v), LIP_LIFT),
    ]
    return np.concatenate(parts, axis=2)


# How far lips stand out from the ellipsoid of the face.
LIP_LIFT = 0.06


def _on_face(v: Values, corners: Floats, lift: ArrayLike = 0.0) -> Floats:
    """(N, k, n, 2) laid on the head, an ellipsoid, and lifted off it."""
    x, y = corners[..., 0], corners[..., 1]
    inside = 1 - 0.9 * (x / v["face_width"]) ** 2 - 0.72 * ((y - 0.1) / 1.7) ** 2
    return points(x, y, 0.95 * np.sqrt(np.maximum(inside, 0.03)) + np.asarray(lift))


def _flat(corners: Floats, z: float) -> Floats:
    return points(corners[..., 0], corners[..., 1], z)


def _shadow(corners: Floats, level: ArrayLike) -> Shape:
    """Soft shading; levels below NEUTRAL are darker."""
    return Shape(corners, level, is_shading=True)


def _where(condition: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return condition[:, 0, 0]


def _nose_tip_y(v: Values) -> Floats:
    return v["eye_y"] + v["nose_length"]


def _mouth_y(v: Values) -> Floats:
    return _nose_tip_y(v) + v["mouth_drop"]


def _jaw(v: Values) -> Floats:
    """(N, 1, 17, 2) from the left ear over the chin to the right one."""
    angle = np.linspace(np.pi, 0, 17)
    power = 2 / v["jaw_exponent"]
    down = signed_power(np.sin(angle), power)
    x = v["face_width"] * signed_power(np.cos(angle), power) * (1 - v["jaw_taper"] * down)
    return points(x, -0.1 + (v["chin"] + 0.1 + 0.5 * v["open"]) * down)


def _dome(width: Floats, height: ArrayLike, corners: int) -> Floats:
    """Over the top of the head, from the right ear to the left one."""
    angle = np.linspace(0, -np.pi, corners)
    return points(
        width * signed_power(np.cos(angle), 0.8),
        -0.1 + np.asarray(height) * signed_power(np.sin(angle), 0.93),
    )


def _crown(v: Values, volume: Floats, curl: ArrayLike) -> Floats:
    """(N, 1, 25, 2): where the hair ends above."""
    dome = _dome(v["face_width"] + 0.4 * volume, 1.26 + volume, 25)
    wave = 1 + 0.035 * np.asarray(curl) * np.where(np.arange(25) % 2, 1, -1)
    return dome * wave[..., None]


def _curly_crown(v: Values) -> Floats:
    return _crown(v, v["hair_volume"], np.maximum(v["hair_curl"], 0))


def _has_hair(v: Values) -> NDArray[np.bool_]:
    return _where(v["hair_style"] > BALD)


def _hair_behind(v: Values, colours: Colours) -> Iterator[Shape]:
    style, volume = v["hair_style"], v["hair_volume"]
    long, chin_long = style > CHIN_LONG, style > SHORT
    length = np.where(long, 2.3, np.where(chin_long, 0.95 + 0.5 * volume, 0.1))
    flare = np.where(long, 1.25, np.where(chin_long, 1.16, 0.72))
    width = v["face_width"] + 0.4 * volume
    x = width * (1 + (flare - 1) * np.array([0.8, 1.1, 0.9]))
    y = length * np.array([0.35, 0.7, 1.0])
    outline = np.concatenate([_curly_crown(v), points(-x, y), points(x, y)[:, :, ::-1]], axis=2)
    yield Shape(smooth(_flat(outline, -0.12)), colours.hair * 0.8, _has_hair(v))


def _body(v: Values, colours: Colours) -> Iterator[Shape]:
    x = 0.56 * v["face_width"] * np.array([-1, 1, 1.12, 1.25, -1.25, -1.12])
    neck = points(x, np.array([0.6, 0.6, 1.3, 2.2, 2.2, 1.3]), 0.0)
    yield Shape(neck, colours.skin * 0.9, moves_with="body")
    half_x = np.array([-2.9, -2.35, -1.5, -0.72, -0.3])
    half_y = np.array([3.6, 2.25, 1.92, 1.66, 1.95])
    shirt = points(
        np.concatenate([half_x, [0], -half_x[::-1]]),
        np.concatenate([half_y, [2.04], half_y[::-1]]),
        np.zeros_like(v["chin"]),
    )
    yield Shape(smooth(shirt), colours.shirt, moves_with="body")
    collar = smooth(shirt[:, :, 3:8], closed=False)
    yield Shape(ribbon(collar, 0.1), colours.shirt * 0.75, moves_with="body")


def _ears(v: Values, colours: Colours) -> Iterator[Shape]:
    x = LEFT_RIGHT * (v["face_width"] + 0.02)
    for size, light in ((1.0, 0.95), (0.6, 0.8)):
        ear = ellipse(x, 0.12, 0.15 * size * v["ear"], 0.27 * size * v["ear"])
        yield Shape(_flat(ear, -0.15), colours.skin * light)


def _face(v: Values, colours: Colours) -> Iterator[Shape]:
    top = _dome(v["face_width"], 1.25, 13)[:, :, 1:-1]
    outline = smooth(_flat(np.concatenate([_jaw(v), top], axis=2), 0.05), 2)
    yield Shape(outline, colours.skin)
    # A shadow on the neck, a round face, and the side that the light does not reach.
    below = np.array([0.0, 0.24, 0.0])
    yield _shadow(outline + below, 96)
    yield _shadow(outline, 108)
    inner = below + (outline - below) * (0.9, 0.93, 1)
    lit = NEUTRAL + 4
    yield _shadow(inner, lit)
    away = -np.sign(v["light"])
    for step in range(4):
        dark = inner.copy()
        dark[..., 0] = away * np.maximum(away * dark[..., 0], 0.05 + 0.2 * step)
        yield _shadow(dark, (lit - 10 * (step + 1) * np.abs(v["light"]))[:, 0])


def _moles(
    v: Values, colours: Colours, moles: Floats, has_mole: NDArray[np.bool_]
) -> Iterator[Shape]:
    for mole in range(MOLES):
        x, y = moles[:, mole, :, None, None].swapaxes(0, 1)
        at = _on_face(v, ellipse(x, y, 0.04, 0.04, 8))
        yield Shape(at, colours.skin * 0.55, has_mole[:, mole])


def _beard(v: Values, colours: Colours) -> Iterator[Shape]:
    may_have = v["hair_style"] < SHORT
    beard = (v["beard"] < 0.2) & may_have
    moustache = beard | ((v["beard"] > 0.93) & may_have)
    edge = _flat(_jaw(v)[:, :, 1:16] * (1.01, 1.03), 0.1)
    right = np.array([0.98, 0.86, 0.64, 0.44, 0.2])
    up = np.array([0.74, 0.44, 0.2, 0.15, 0.16])
    line = points(
        v["face_width"] * np.concatenate([right, [0], -right[::-1]]),
        _mouth_y(v) - np.concatenate([up, [0.13], up[::-1]]),
    )
    line = _on_face(v, line) * (1, 1, 0.5)
    colour = colours.hair * 0.72 + colours.skin * 0.22
    yield Shape(np.concatenate([edge, line], axis=2), colour, _where(beard))
    above = np.array([0.08, -0.12, -0.15, -0.12, 0.08, 0.0, -0.03, 0.0])
    lip = _at_mouth(v, [-1.05, -0.5, 0, 0.5, 1.05, 0.6, 0, -0.6], above - 0.7 * v["upper_lip"])
    yield Shape(_on_face(v, smooth(lip), 0.1), colour * 0.94, _where(moustache))


def _at_mouth(v: Values, x: ArrayLike, y: ArrayLike) -> Floats:
    """Points by their place across the mouth, -1 to 1 at rest, and below its line."""
    x = np.asarray(x, np.float64)
    smile = v["smile"]
    width = v["mouth_width"] * (1 + 0.14 * smile - 0.5 * v["open"])
    return points(width * x, _mouth_y(v) - 0.16 * smile * (x**2 - 0.35) + np.asarray(y))


def _outer_lips(v: Values) -> Floats:
    """(N, 1, 12, 2) from the left corner over the upper lip to the right one and back below."""
    upper = -v["upper_lip"] * np.array([0.05, 0.72, 1.0, 0.8, 1.0, 0.72, 0.05])
    full = np.array([0.66, 0.95, 1.0, 0.95, 0.66])
    lower = (v["lower_lip"] + v["open"]) * full
    x = [-1, -0.62, -0.22, 0, 0.22, 0.62, 1, 0.62, 0.28, 0, -0.28, -0.62]
    return _at_mouth(v, x, np.concatenate([upper, lower], axis=2))


def _inner_lips(v: Values) -> Floats:
    """(N, 1, 8, 2) in the same order."""
    lower = 0.01 + v["open"] * np.array([0.85, 1.0, 0.85])
    upper = np.zeros((*lower.shape[:2], 5))
    x = [-0.86, -0.4, 0, 0.4, 0.86, 0.4, 0, -0.4]
    return _at_mouth(v, x, np.concatenate([upper, lower], axis=2))


def _mouth(v: Values, colours: Colours) -> Iterator[Shape]:
    outer, inner = _outer_lips(v), _inner_lips(v)
    yield Shape(_on_face(v, smooth(outer), LIP_LIFT), colours.lips)
    # The lower lip faces the light.
    lower = np.concatenate([outer[:, :, 7:], inner[:, :, :4:-1]], axis=2)
    yield Shape(_on_face(v, lower, LIP_LIFT), np.minimum(colours.lips * 1.1 + 6, 255))
    yield Shape(_on_face(v, smooth(inner), LIP_LIFT), (84, 30, 34))
    edge = _at_mouth(v, [0.4, 0, -0.4], v["open"] * np.array([0.44, 0.55, 0.44]))
    teeth = np.concatenate([inner[:, :, 1:4], edge], axis=2)
    yield Shape(_on_face(v, teeth, LIP_LIFT), (246, 242, 236), _where(v["open"] > 0.05))
    line = smooth(_at_mouth(v, [-1, -0.5, 0, 0.5, 1], 0.0), closed=False)
    line = ribbon(line, 0.045 * taper(line.shape[2]))
    yield Shape(_on_face(v, line, LIP_LIFT), colours.lips * 0.5)

    folds = points(
        LEFT_RIGHT
        * np.concatenate(
            [v["nose_width"] + 0.06, v["mouth_width"] + 0.08, v["mouth_width"] + 0.1], axis=2
        ),
        np.concatenate(
            [
                _nose_tip_y(v) + 0.02,
                _mouth_y(v) - 0.14,
                _mouth_y(v) + 0.02 - 0.1 * v["smile"],
            ],
            axis=2,
        ),
    )
    folds = smooth(folds, closed=False)
    folds = _on_face(v, ribbon(folds, 0.028 * taper(folds.shape[2])))
    yield Shape(folds, colours.skin * 0.82, _where((v["age"] > 0.6) | (v["smile"] > 0.75)))

    under = _mouth_y(v) + v["lower_lip"] + v["open"] + 0.09
    yield _shadow(_on_face(v, ellipse(0, under, 0.55 * v["mouth_width"], 0.06)), 100)
    yield _shadow(_on_face(v, ellipse(0, under + 0.2, 0.2, 0.1)), 140)


def _nose_bridge(v: Values) -> Floats:
    """(N, 1, 4, 3) from between the eyes to the tip."""
    along = (v["nose_length"] - 0.06) * np.linspace(0, 1, 4)
    return _on_face(v, points(0.0, v["eye_y"] + along), np.array([0.02, 0.12, 0.25, 0.38]))


def _nose_base(v: Values) -> Floats:
    """(N, 1, 5, 3) below the tip, from left to right."""
    x = v["nose_width"] * np.linspace(-1, 1, 5)
    y = _nose_tip_y(v) + np.array([0.05, 0.09, 0.11, 0.09, 0.05])
    return _on_face(v, points(x, y), np.array([0.08, 0.16, 0.22, 0.16, 0.08]))


def _nose(v: Values, colours: Colours) -> Iterator[Shape]:
    tip, width = _nose_tip_y(v), v["nose_width"]
    right = np.array([0.30, 0.45, 1.0, 0.92])
    down = np.array([-0.3, -0.16, 0.0, 0.09])
    lift = np.array([0.1, 0.2, 0.1, 0.1])
    wings = points(
        width * np.concatenate([-right, [0], right[::-1]]),
        tip + np.concatenate([down, [0.13], down[::-1]]),
    )
    wings = _on_face(v, wings, np.concatenate([lift, [0.26], lift[::-1]]))
    yield Shape(smooth(wings), colours.skin * (0.96, 0.925, 0.915))
    crease = points(
        width * np.array([-0.95, -0.5, 0, 0.5, 0.95, 0.5, 0, -0.5]),
        tip + np.array([0.06, 0.07, 0.10, 0.07, 0.06, 0.12, 0.14, 0.12]),
    )
    yield Shape(_on_face(v, smooth(crease), 0.18), colours.skin * (0.74, 0.66, 0.64))
    nostrils = ellipse(LEFT_RIGHT * width * 0.46, tip + 0.075, 0.24 * width, 0.032, 8)
    yield Shape(_on_face(v, nostrils, 0.2), colours.skin * 0.36)

    away = -np.sign(v["light"])
    dark = points(
        away * width * np.array([0.38, 0.34, 0.42, 0.9]),
        v["eye_y"] + v["nose_length"] * np.array([0.1, 0.45, 0.72, 0.97]),
    )
    dark = smooth(_on_face(v, dark, np.array([0.05, 0.12, 0.18, 0.1])), closed=False)
    yield _shadow(ribbon(dark, 0.13), 106)
    yield _shadow(ribbon(_nose_bridge(v), 0.13), 152)
    yield _shadow(_on_face(v, ellipse(0, tip, 0.1, 0.08), 0.35), 150)
    yield _shadow(_on_face(v, ellipse(0, tip + 0.17, 0.9 * width, 0.06), 0.1), 98)


def _at_eyes(v: Values, u: ArrayLike, down: ArrayLike) -> Floats:
    """(N, 2, n, 2) by the place across the eye, -1 the inner corner and 1 the outer one."""
    out = v["eye_width"] * np.asarray(u)
    return points(
        LEFT_RIGHT * (v["eye_distance"] + out),
        v["eye_y"] - v["eye_tilt"] * out + np.asarray(down),
    )


def _eye_height(v: Values) -> Floats:
    return v["eye_height"] * v["lids"] * (1 - 0.12 * np.maximum(v["smile"], 0))


def _upper_lid(v: Values, u: ArrayLike) -> Floats:
    u = np.clip(u, -1, 1)
    return -_eye_height(v) * (1 - u**2) ** 0.7 * (1 - 0.15 * u)


def _lower_lid(v: Values, u: ArrayLike) -> Floats:
    return 0.55 * _eye_height(v) * (1 - np.clip(u, -1, 1) ** 2) ** 0.8


def _eye_landmarks(v: Values) -> Floats:
    """(N, 2, 6, 2): inner corner, upper lid, outer corner, lower lid."""
    above, below = np.array([-1, -0.4, 0.4, 1]), np.array([0.4, -0.4])
    return np.concatenate(
        [_at_eyes(v, above, _upper_lid(v, above)), _at_eyes(v, below, _lower_lid(v, below))],
        axis=2,
    )


def _eyes(v: Values, colours: Colours) -> Iterator[Shape]:
    eye_y = v["eye_y"]
    sockets = ellipse(LEFT_RIGHT * v["eye_distance"], eye_y - 0.08, 0.30, 0.20)
    yield _shadow(_on_face(v, sockets), 98)
    cheeks = ellipse(LEFT_RIGHT * 0.56 * v["face_width"], eye_y + 0.5, 0.22, 0.15)
    yield _shadow(_on_face(v, cheeks), 142)

    u = np.linspace(-1, 1, 9)
    upper, lower = _upper_lid(v, u), _lower_lid(v, u)
    lid = np.concatenate([_at_eyes(v, u, upper - 0.075), _at_eyes(v, u, upper)[:, :, ::-1]], axis=2)
    yield Shape(_on_face(v, lid), colours.skin * (0.90, 0.84, 0.82))
    white = np.concatenate([_at_eyes(v, u, upper), _at_eyes(v, u, lower)[:, :, -2:0:-1]], axis=2)
    yield Shape(_on_face(v, white), (243, 240, 236))
    # Iris and pupil look to one side in both eyes; the lids cut them off.
    gaze = 0.5 * v["gaze_x"] * LEFT_RIGHT
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for size, colour in ((1.0, colours.iris), (0.52, np.array([18, 16, 18]))):
        radius = size * v["iris"]
        across = np.clip(gaze + radius * np.cos(angle), -0.97, 0.97)
        down = v["eye_width"] * radius * np.sin(angle) + 0.05 * v["gaze_y"] - 0.15 * _eye_height(v)
        down = np.clip(down, _upper_lid(v, across), _lower_lid(v, across))
        yield Shape(_on_face(v, _at_eyes(v, across, down)), colour)
    glint = _at_eyes(v, gaze - 0.12 * LEFT_RIGHT, -0.35 * _eye_height(v))
    glint = ellipse(glint[..., 0], glint[..., 1], 0.025, 0.025, 6)
    yield Shape(_on_face(v, glint), (255, 255, 255), _where(v["lids"] > 0.7))
    wider = np.linspace(-1.05, 1.12, 9)
    lashes = ribbon(_at_eyes(v, wider, _upper_lid(v, wider)), v["lash"] * np.linspace(0.6, 1.25, 9))
    yield Shape(_on_face(v, lashes), colours.skin * 0.12 + 12)
    yield Shape(_on_face(v, ribbon(_at_eyes(v, u, lower), 0.016)), colours.skin * 0.55)


def _brow_line(v: Values) -> Floats:
    """(N, 2, 5, 2) from the inner to the outer end."""
    f = np.linspace(0, 1, 5)
    reach = v["eye_distance"] + 1.25 * v["eye_width"] - v["brow_gap"]
    height = v["brow_height"] + v["brow_raise"] + v["brow_arch"] * np.sin(np.pi * f**1.2)
    turn = (v["brow_tilt"] + v["brow_turn"]) * (f - 0.4)
    y = v["eye_y"] - v["eye_height"] - height - turn
    return points(LEFT_RIGHT * (v["brow_gap"] + reach * f), y)


def _brows(v: Values, colours: Colours) -> Iterator[Shape]:
    line = smooth(_brow_line(v), closed=False)
    f = np.linspace(0, 1, line.shape[2])
    width = v["brow_thickness"] * np.interp(f, [0, 0.15, 0.5, 1], [0.7, 1, 0.95, 0.25])
    yield Shape(_on_face(v, ribbon(line, width)), colours.hair * 0.62 + colours.skin * 0.12)


def _hair_in_front(v: Values, colours: Colours) -> Iterator[Shape]:
    crown = _flat(_curly_crown(v), 0.0)
    f = np.linspace(-1, 1, 13)
    sweep = v["hair_sweep"] * np.abs(f - v["hair_part"] - v["hair_shift"]) ** 1.3
    # At the temples the line falls to the ears, or over them.
    temple, edge = np.where(v["hair_style"] > SHORT, 0.25, -0.02), np.abs(f) ** 7
    y = (v["hair_line"] + sweep) * (1 - edge) + temple * edge
    line = _on_face(v, points(f * v["face_width"], y)) * (1, 1, 0.6)
    outline = np.concatenate(
        [smooth(crown, 2, closed=False), smooth(line, 2, closed=False)], axis=2
    )
    yield Shape(outline, colours.hair, _has_hair(v))
    top, bottom = crown[:, 0, [14, 10, 6]] * (0.8, 0.88, 1), line[:, 0, [3, 6, 9]] - (0, 0.05, 0)
    strands = np.stack([top, (top + bottom) / 2 + (0.06, 0, 0), bottom], axis=2)
    strands = smooth(strands, closed=False)
    strands = ribbon(strands, 0.035 * taper(strands.shape[2]))
    yield Shape(strands, np.minimum(colours.hair * 1.1 + 6, 255), _has_hair(v))


def _glasses(v: Values) -> Iterator[Shape]:
    shown = _where(v["glasses_chance"] < np.where(v["spectacles"] < 0.2, 0.7, 0.07))
    radius_x, z = 0.31, 0.92
    angle = np.linspace(0, 2 * np.pi, 16)
    square = 0.55 + 0.45 * v["frame"]
    rims = points(
        LEFT_RIGHT * v["eye_distance"] + radius_x * signed_power(np.cos(angle), square),
        v["eye_y"] + 0.02 + (0.2 + 0.05 * v["frame"]) * signed_power(np.sin(angle), square),
        z,
    )
    colour = np.where(v["frame"][:, 0] < 0.7, (34, 30, 34), (120, 76, 50))
    width = np.where(v["frame"] < 0.4, 0.08, 0.045)
    yield Shape(ribbon(rims, width), colour, shown)
    bridge = points(
        (v["eye_distance"] - radius_x) * np.array([-1.0, 0.0, 1.0]),
        v["eye_y"] + np.array([-0.02, -0.06, -0.02]),
        np.array([z, z + 0.1, z]),
    )
    yield Shape(ribbon(smooth(bridge, closed=False), width), colour, shown)
    x = np.concatenate([v["eye_distance"] + radius_x - 0.01, v["face_width"] - 0.06], axis=2)
    arms = points(LEFT_RIGHT * x, v["eye_y"] - 0.06, np.array([z, 0.2]))
    yield Shape(ribbon(arms, width), colour, shown)


def _hat(v: Values, colours: Colours) -> Iterator[Shape]:
    shown = _where(v["hat_chance"] < 0.15)
    crown = _crown(v, v["hair_volume"] + 0.04, 0.0) * (1.03, 1.02)
    crown[..., 1] = np.minimum(crown[..., 1], -0.55)
    f = np.linspace(-1, 1, 9)
    brim = points(1.1 * f * v["face_width"], -0.62 - 0.1 * (1 - f**2), 0.55 * np.sqrt(1.02 - f**2))
    yield Shape(np.concatenate([_flat(crown, 0.0), brim], axis=2), colours.hat, shown)
    yield Shape(ribbon(brim - (0, 0.06, 0), 0.26), colours.hat * 0.78, shown)
