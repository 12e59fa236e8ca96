"""Every hyperparameter of one trial, named once.

The dotted name of a field (`optim.lr`) is its name in the space file, in Optuna, in TensorBoard's
HParams and in the results table.
"""

import difflib
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from siamtune.errors import ConfigError

Architecture = Literal["hani", "chopra", "custom", "deepid", "deepid2", "resnet"]
Activation = Literal["relu", "scaled_tanh", "leaky_relu", "silu"]
Crop = Literal["none", "center", "haar", "hog", "trees", "aligned"]
NormalizationName = Literal["minmax", "lcn", "lcn-", "zca"]
VerificationLoss = Literal[
    "contrastive", "hadsell", "chopra", "triplet", "multisimilarity", "supcon", "ntxent", "circle"
]
LossName = Literal[
    "contrastive",
    "hadsell",
    "chopra",
    "triplet",
    "multisimilarity",
    "supcon",
    "ntxent",
    "circle",
    "arcface",
    "cosface",
    "joint",
    "semi_siamese",
]
# These compare cosines by their definition.
ANGULAR_LOSSES = ("circle", "arcface", "cosface", "semi_siamese")
Distance = Literal["l1", "l2", "cosine"]
Mining = Literal["all", "semihard", "hard"]
Sampling = Literal["pairs", "pk"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["constant", "cosine", "halve_on_rise"]

# The smallest square input from which each architecture's last layer still receives one pixel.
# Written down, not computed, so that a space can be checked without torch; a test builds each
# network at its minimum and one pixel below.
MINIMUM_RESOLUTION_PX: dict[str, int] = {
    "hani": 36,
    "chopra": 46,
    "custom": 36,
    "deepid": 44,
    "deepid2": 31,
    "resnet": 16,
}
# The localisation network pools and convolves twice before its dense layers.
MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX = 28


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    architecture: Architecture = Field(
        "resnet", description="the convolutional network in front of the embedding"
    )
    embedding_size: Annotated[int, Field(ge=2, le=2048)] = Field(
        128, description="numbers in an embedding; the 2016 default was 40"
    )
    activation: Activation = Field("relu", description="non-linearity after each layer")
    dropout: Annotated[float, Field(ge=0.0, le=0.9)] = Field(
        0.0, description="share of features dropped in training, in front of the last layers"
    )
    spatial_transformer: bool = Field(
        False, description="straighten the face by a learnt affine warp (Jaderberg et al. 2015)"
    )
    blocks: Annotated[int, Field(ge=1, le=4)] = Field(
        1, description="resnet: residual blocks in each of its four stages"
    )
    stem_stride: Annotated[int, Field(ge=1, le=2)] = Field(
        2,
        description="resnet: 2 halves pictures of 32 pixels or more at the entrance, 1 keeps every "
        "pixel at four times the cost",
    )
    width: Annotated[float, Field(ge=0.25, le=8.0)] = Field(
        1.0, description="multiplies the channels of every convolution (rounded)"
    )
    unit_length: bool = Field(
        True, description="scale each embedding to length one; the 2016 networks did not"
    )


class DataConfig(Section):
    crop: Crop = Field(
        "center", description="where the face box comes from: nowhere, the centre, a detector"
    )
    crop_factor: Annotated[float, Field(ge=0.2, le=4.0)] = Field(
        1.0, description="scales the face box about its centre; more than 1 shows more context"
    )
    resolution_px: Annotated[int, Field(ge=16, le=256)] = Field(
        64, description="side of the square that the network sees"
    )
    grayscale: bool = Field(True, description="one luminance channel instead of three colours")
    normalization: NormalizationName = Field(
        "minmax", description="how pixels become numbers; fitted on training identities only"
    )
    images_per_person: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="at most so many training pictures of a person; 2 in 2016, none: all"
    )


class AugmentationConfig(Section):
    strength: Annotated[float, Field(ge=0.0, le=3.0)] = Field(
        0.5, description="scales every random change of a training picture; 0 switches all off"
    )


class BatchConfig(Section):
    sampling: Sampling = Field(
        "pk", description="pairs: half same, half different; pk: P people with K pictures each"
    )
    images: Annotated[int, Field(ge=4, le=8192)] = Field(
        128, description="pictures in a batch, over all workers"
    )
    images_per_identity: Annotated[int, Field(ge=2, le=64)] = Field(
        4, description="K of P x K sampling; `pairs` sampling does not use it"
    )
    single_share: Annotated[float, Field(ge=0.0, le=0.9)] = Field(
        0.0,
        description="pk: share of a batch for people of whom there is one picture, beside two "
        "groups of K at least; 0 leaves them out",
    )
    single_views: Annotated[int, Field(ge=1, le=16)] = Field(
        2,
        description="pk: how often such a picture is in the batch, each time changed at random: "
        "two views make a positive pair, one is compared with others only",
    )


class LossConfig(Section):
    name: LossName = Field("supcon", description="what training minimises")
    distance: Distance = Field(
        "cosine", description="between two embeddings, in the loss and in the score alike"
    )
    margin: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        2.0, description="contrastive, hadsell, chopra: how far apart two people must be (Q)"
    )
    triplet_margin: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        0.2, description="triplet: how much farther the other person must be"
    )
    mining: Mining = Field("semihard", description="triplet: which triplets of a batch count")
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        0.1, description="supcon, ntxent: divides the similarities (Khosla et al. 2020)"
    )
    alpha: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        2.0, description="multisimilarity: weight of positives (Wang et al. 2019)"
    )
    beta: Annotated[float, Field(gt=0.0, le=500.0)] = Field(
        50.0, description="multisimilarity: weight of negatives"
    )
    base: Annotated[float, Field(ge=-1.0, le=10.0)] = Field(
        0.5, description="multisimilarity: similarity that separates the two"
    )
    angular_margin_deg: Annotated[float, Field(ge=0.0, lt=90.0)] = Field(
        15.0, description="arcface: added to the angle of the true person (Deng et al. 2019)"
    )
    scale: Annotated[float, Field(gt=0.0, le=500.0)] = Field(
        24.0,
        description="arcface, cosface, joint, semi_siamese: multiplies the cosines before the "
        "softmax; circle: the differences (gamma)",
    )
    cosine_margin: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.2,
        description="cosface, semi_siamese: subtracted from the cosine of the true person (Wang et "
        "al. 2018); circle: how far from 1 and 0 cosines may end (m, Sun et al. 2020)",
    )
    verification: VerificationLoss = Field(
        "supcon", description="joint: the loss of pairs that is joined with a softmax over people"
    )
    identification_weight: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0, description="joint: of the softmax over people, where that of the pairs is 1"
    )
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.1,
        description="joint: probability that the softmax shares out to all people (Szegedy et al. "
        "2016)",
    )
    gallery_momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.99,
        description="semi_siamese: a step; the gallery's network is such a moving average of the "
        "one that learns (Du et al. 2020; 0.999 there)",
    )
    gallery_size: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        2048, description="semi_siamese: pictures of past batches that stand for other people"
    )


class OptimConfig(Section):
    name: OptimizerName = Field("adamw", description="optimizer")
    lr: Annotated[float, Field(gt=0.0, le=10.0)] = Field(1e-3, description="peak learning rate")
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.02, description="decoupled for adamw, added to the gradient for adam and sgd"
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.9, description="sgd only (Nesterov's)"
    )
    schedule: ScheduleName = Field("cosine", description="learning rate over the epochs")
    warmup_epochs: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0, description="epochs in which the learning rate rises from zero; fractions allowed"
    )
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0,
        description="a step; evaluate and keep the exponential moving average of the weights "
        "(Polyak and Juditsky 1992); 0: the weights themselves",
    )


class VerificationConfig(Section):
    distance_threshold: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="two pictures nearer than this are one person (T of 2016); "
        "none: fitted on training identities",
    )
    flip: bool = Field(
        False,
        description="embed a picture as the mean of it and its mirror image, at twice the cost",
    )


class TrialConfig(Section):
    """One trial, completely: equal configurations on equal data give equal numbers (on a GPU, but
    for the order of sums)."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    batch: BatchConfig = BatchConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    verification: VerificationConfig = VerificationConfig()
    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(
        30, description="passes over the training pictures"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="decides initial weights, batches and augmentation"
    )

    @model_validator(mode="after")
    def _can_be_built(self) -> "TrialConfig":
        """Refuse what no trial could run, in words that name the dials to change."""
        model, data, batch, loss = self.model, self.data, self.batch, self.loss
        minimum_px = MINIMUM_RESOLUTION_PX[model.architecture]
        if data.resolution_px < minimum_px:
            raise ValueError(
                f"{model.architecture} needs data.resolution_px >= {minimum_px}, "
                f"but got {data.resolution_px}"
            )
        if (
            model.spatial_transformer
            and data.resolution_px < MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX
        ):
            raise ValueError(
                "model.spatial_transformer needs data.resolution_px >= "
                f"{MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX}, but got {data.resolution_px}"
            )
        compared = loss.verification if loss.name == "joint" else loss.name
        if compared in ANGULAR_LOSSES and loss.distance != "cosine":
            raise ValueError(
                f"{compared} measures angles: loss.distance must be cosine, but got {loss.distance}"
            )
        if batch.images % 2:
            raise ValueError(f"batch.images must be even, but got {batch.images}")
        if batch.sampling == "pk" and (
            batch.images % batch.images_per_identity or batch.images < 2 * batch.images_per_identity
        ):
            raise ValueError(
                "batch.images must be a multiple of batch.images_per_identity and hold two "
                f"people or more, but got {batch.images} and {batch.images_per_identity}"
            )
        return self


def flatten(config: BaseModel) -> dict[str, Any]:
    """Every value of a configuration under its dotted name, in the order of declaration."""
    flat: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted names to nested dictionaries; the inverse of `flatten` before validation."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, leaf = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[leaf] = value
    return nested


DEFAULTS: dict[str, Any] = flatten(TrialConfig())
# A message is read by a person: so many unknown names, and so many letters of a value.
UNKNOWN_SHOWN = 10
VALUE_SHOWN = 80


def nearest_name(name: str) -> str | None:
    """The dial that was probably meant by a name that no dial has."""
    near = difflib.get_close_matches(name, DEFAULTS, n=1, cutoff=0.5)
    if not near:  # `lr` for `optim.lr`
        near = [known for known in DEFAULTS if known.rpartition(".")[2] == name][:1]
    return near[0] if near else None


def unknown_name_message(name: str) -> str:
    """Say that a dial does not exist and which one was probably meant."""
    near = nearest_name(name)
    return f"there is no dial {name!r}" + (f"; did you mean {near!r}?" if near else "")


def choices(name: str) -> tuple[Any, ...] | None:
    """The values a dial allows if it is a choice by nature (a name or a switch), else None."""
    annotation: Any = TrialConfig
    for part in name.split("."):
        annotation = annotation.model_fields[part].annotation
    if annotation is bool:
        return (False, True)
    arguments = get_args(annotation)
    return arguments if arguments and all(isinstance(a, str) for a in arguments) else None


def trial_config(flat: dict[str, Any]) -> TrialConfig:
    """Build a configuration from dotted names; what is not named keeps its default.

    Raises:
        ConfigError: naming every unknown dial, broken bound and impossible combination.
    """
    unknown = [unknown_name_message(name) for name in flat if name not in DEFAULTS]
    if unknown:
        more = len(unknown) - UNKNOWN_SHOWN
        told = unknown[:UNKNOWN_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigError("\n".join(told))
    try:
        return TrialConfig.model_validate(unflatten(flat))
    except ValidationError as error:
        raise ConfigError("\n".join(_fault(fault) for fault in error.errors())) from None


def check_shared_out(config: TrialConfig, workers: int) -> None:
    """Refuse a batch that so many workers cannot share equally.

    Raises:
        ConfigError: naming the dial to change.
    """
    if config.batch.images % workers:
        raise ConfigError(
            f"batch.images must be a multiple of the {workers} workers that share it, "
            f"but got {config.batch.images}"
        )


def _fault(fault: Any) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = ".".join(str(part) for part in fault["loc"])
    got = repr(fault["input"])
    if len(got) > VALUE_SHOWN:
        got = got[:VALUE_SHOWN] + "..."
    return f"{name}: {message[0].lower()}{message[1:]}, but got {got}"
