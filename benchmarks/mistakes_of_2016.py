"""What each mistake of siamese_net (2016) does to its numbers, measured on LFW: docs/2016.md.

    nice python benchmarks/mistakes_of_2016.py --data-home shared/data

Rebuilds the pool that 2016 drew its pairs from (each photograph, its mirror image and 20 warps of
it; two pictures a person), trains its default network for its five epochs, and changes one thing at
a time. Everything is measured on the same people, who take no part in training. What is left out:
its filter of near-duplicates, and that its classifier learned from features of moving weights.
About five minutes on one quiet core.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from siamtune.config import TrialConfig, trial_config
from siamtune.data.boxes import cut
from siamtune.data.decode import decode
from siamtune.data.normalization import MinMax, Normalization
from siamtune.data.prepare import Faces, prepare
from siamtune.data.sources import Source, open_source
from siamtune.models import build_model
from siamtune.search.space import complete, load_space
from siamtune.training.checkpoint import read_checkpoint
from siamtune.training.evaluation import embed
from siamtune.training.trainer import epochs
from siamtune.verification.bootstrap import identity_intervals
from siamtune.verification.metrics import best_accuracy, roc_auc
from siamtune.verification.pairs import VerificationPairs, verification_pairs

CPU = torch.device("cpu")
VARIANTS = 22  # of each photograph: itself, its mirror image, 20 warps
CORNER = np.array([200.0, 200.0, 50.0, 50.0])  # the last version's "crop" of 250 x 250 pixels

Images = NDArray[np.uint8]  # (N, 1, R, R)
Embed = Callable[[Images, NDArray[np.int64]], NDArray[np.float32]]


class AsBytes(Normalization):
    """-1:1 of 2016: written into bytes, so that all but the darkest and brightest pixels are 0."""

    @classmethod
    def fit(cls, images: Images) -> "AsBytes":
        return cls()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        return 255.0 * (images == low) + 1.0 * (images == high)


def warped(image: Images, rng: np.random.Generator) -> Images:
    """The two warps of 2016; the second was meant to shift but scales about the corner."""
    side = image.shape[-1]
    angle, growth = rng.normal(0, 2), rng.normal(1, 0.067)
    wide, high = rng.normal(1, 0.067, 2)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), angle, growth)
    scale = np.array([[wide, 0, 0], [0, high, 0]])
    for matrix in (turn, scale):
        image = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_WRAP)
    return image


def two_of_each(images: Images, identities: NDArray[np.int64]) -> tuple[Images, float]:
    """The data set of 2016, two pictures a person (2 P, 1, R, R), and the share of its same-person
    pairs that are one photograph twice."""
    rng = np.random.default_rng(0)
    chosen = np.empty((2 * (identities.max() + 1), *images.shape[1:]), np.uint8)
    one_photograph = 0
    for person in range(identities.max() + 1):
        album = np.flatnonzero(identities == person)
        drawn = rng.choice(VARIANTS * len(album), 2, replace=False)
        one_photograph += drawn[0] // VARIANTS == drawn[1] // VARIANTS
        for place, number in enumerate(drawn):
            picture, variant = images[album[number // VARIANTS], 0], number % VARIANTS
            if variant == 1:
                picture = cv2.flip(picture, 1)
            elif variant > 1:
                picture = warped(picture, rng)
            chosen[2 * person + place, 0] = picture
    return chosen, one_photograph / (identities.max() + 1)


def corners(source: Source, side_px: int) -> Images:
    """Bottom-right corners (N, 1, R, R), which the last version took for faces."""
    pictures = decode(source)
    return np.stack(
        [cut(pictures.picture(i), CORNER, side_px, True)[None] for i in range(len(pictures))]
    )


def trained(config: TrialConfig, faces: Faces, what: str) -> tuple[Embed, Embed]:
    """Train to the last epoch, as 2016 did; what embeds pictures after the first and the last."""
    networks = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        for epoch in epochs(config, faces, device=CPU):
            number = int(epoch.metrics["epoch"])
            print(f"  {what}: epoch {number}, loss {epoch.metrics['train/loss']:.3f}", flush=True)
            if number in (1, config.epochs):
                epoch.save(path)
                networks.append(_network(config, path, faces.normalization))
    first, last = networks
    return first, last


def _network(config: TrialConfig, path: Path, normalization: Normalization) -> Embed:
    model = build_model(config.model, channels=1, resolution_px=config.data.resolution_px)
    model.load_state_dict(read_checkpoint(path).parts["model"])
    return lambda images, pictures: embed(
        model, normalization, images, pictures, CPU, flip=False
    ).numpy()


def pixels(images: Images, pictures: NDArray[np.int64]) -> NDArray[np.float32]:
    """Grey values less their mean, at length one: their distances order pairs by correlation."""
    values = images[pictures].reshape(len(pictures), -1).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def differences(embed: Embed, images: Images, pairs: VerificationPairs) -> NDArray[np.float32]:
    """|f(left) - f(right)| of each pair, (P, D)."""
    pictures, places = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    embeddings = embed(images, pictures)
    left, right = places.reshape(2, -1)
    return np.abs(embeddings[left] - embeddings[right])


def auc_of_distance(
    embed: Embed, images: Images, identities: NDArray[np.int64], pairs: VerificationPairs
) -> str:
    """AUC of minus the Euclidean distance, with its interval over people."""
    scores = -np.linalg.norm(differences(embed, images, pairs), axis=1)
    between = identity_intervals(
        scores, pairs.same, identities[pairs.left], identities[pairs.right], 0.0
    )["auc"]
    return f"{roc_auc(scores, pairs.same):.3f} [{between.low:.3f}, {between.high:.3f}]"


def classifier(embed: Embed, images: Images, pairs: VerificationPairs) -> LogisticRegression:
    """2016's judge: logistic regression on |f(left) - f(right)| of training pairs."""
    return LogisticRegression(max_iter=1000).fit(differences(embed, images, pairs), pairs.same)


def what_the_network_sees(source: Source, whole: Faces, config: TrialConfig) -> None:
    """The network of 2016 on four views of LFW, asked about its own pairs and about honest ones."""
    identities, split = whole.identities, whole.split
    people = np.repeat(np.arange(len(whole.names)), 2)
    honest = verification_pairs(whole.indices("validation"), identities, seed=0)

    def pairs_of_2016(part: NDArray[np.int64]) -> VerificationPairs:
        return verification_pairs(np.flatnonzero(np.isin(people, part)), people, seed=0)

    theirs, fitted = pairs_of_2016(split.validation), pairs_of_2016(split.train)
    print(f"{len(split.validation)} people validate: {len(theirs)} pairs of 2016, "
          f"{len(honest)} of two photographs\n")  # fmt: skip

    pool, one_photograph = two_of_each(whole.images, identities)
    print(f"{one_photograph:.1%} of the same-person pairs of 2016 are one photograph\n")
    print("no network: correlation of the whole picture's pixels")
    print(f"  2016's pairs                       {auc_of_distance(pixels, pool, people, theirs)}")
    print("  two photographs                    "
          f"{auc_of_distance(pixels, whole.images, identities, honest)}\n")  # fmt: skip

    face = prepare(source, config.data.model_copy(update={"crop": "center"}))
    views: dict[str, tuple[Images, Normalization]] = {
        "whole picture, pixels in bytes": (whole.images, AsBytes()),
        "whole picture": (whole.images, MinMax()),
        "corner of 50 px": (corners(source, config.data.resolution_px), MinMax()),
        "face": (face.images, MinMax()),
    }
    for name, (images, normalization) in views.items():
        pool, _ = two_of_each(images, identities)
        faces = replace(whole, images=pool, identities=people, normalization=normalization)
        first, network = trained(config, faces, name)
        early = classifier(first, pool, fitted).predict(differences(first, pool, theirs))
        judge = classifier(network, pool, fitted)
        answers = differences(network, pool, theirs)
        said, scores = judge.predict(answers), judge.decision_function(answers)
        distances = np.linalg.norm(answers, axis=1)
        near = distances**2 < 5.0  # T of 2016, on squared distances
        print(name)
        print(f"  2016's pairs, AUC of yes and no    {roc_auc_score(theirs.same, said):.3f}, "
              f"F1 {f1_score(theirs.same, said):.3f}")  # fmt: skip
        print(f"  the same after the first epoch     {roc_auc_score(theirs.same, early):.3f}, "
              f"F1 {f1_score(theirs.same, early):.3f}")  # fmt: skip
        print(f"  2016's pairs, AUC of its scores    {roc_auc(scores, theirs.same):.3f}")
        print(f"  2016's pairs, AUC of distances     "
              f"{auc_of_distance(network, pool, people, theirs)}")  # fmt: skip
        print(f"  two photographs, AUC of distances  "
              f"{auc_of_distance(network, images, identities, honest)}")  # fmt: skip
        print(f"  accuracy at T = 5                  {(near == theirs.same).mean():.3f}, "
              f"at the best threshold {best_accuracy(-distances, theirs.same):.3f}\n")  # fmt: skip


def people_of_training(source: Source) -> None:
    """A network that can learn people by heart, asked about those whom it has seen."""
    for augmentation in (0.0, 0.5):
        dials = {"data.resolution_px": 48, "model.width": 0.5, "epochs": 12}
        config = trial_config({**dials, "augmentation.strength": augmentation})
        faces = prepare(source, config.data)
        _, network = trained(config, faces, "resnet")
        print(f"resnet, supcon, 48 px, 12 epochs, augmentation {augmentation}")
        # 2016 took the last P - 0.2 P people for its test: three quarters of them had trained.
        train, validation = faces.split.train, faces.split.validation
        some = np.random.default_rng(0).permutation(train)[: 3 * len(validation)]
        for what, people in (
            ("people of training", train),
            ("2016's test: three quarters of training", np.concatenate([some, validation])),
            ("people never seen", validation),
        ):
            pictures = np.flatnonzero(np.isin(faces.identities, people))
            pairs = verification_pairs(pictures, faces.identities, seed=0)
            print(f"  {what:40} "
                  f"{auc_of_distance(network, faces.images, faces.identities, pairs)}")  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data-home", type=Path)
    arguments.add_argument("--threads", type=int, default=1)
    asked = arguments.parse_args()
    torch.set_num_threads(asked.threads)

    seed2016 = load_space("seed2016")
    config = trial_config(complete(seed2016, seed2016.start[0]))
    source = open_source("lfw", asked.data_home)
    what_the_network_sees(source, prepare(source, config.data), config)
    people_of_training(source)


if __name__ == "__main__":
    main()
