"""What goes on inside a network: its layers' maps, and the pixels that a distance depends on."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siamtune.losses.distances import DISTANCES
from siamtune.models.locally_connected import LocallyConnected2d
from siamtune.models.spatial_transformer import SpatialTransformer
from siamtune.shipping.verifier import Verifier
from siamtune.training.evaluation import embedding

# What these give is shown after the activation or the pool behind them.
UNFINISHED = (nn.Conv2d, LocallyConnected2d, nn.BatchNorm2d, nn.Dropout, nn.Sequential)
# SmoothGrad (Smilkov et al. 2017): a network of rectifiers has gradients that jump from pixel to
# pixel; their mean over noisy copies shows what the score depends on.
NOISY_COPIES = 32
NOISE = 0.1  # standard deviation, over the range of the normalized picture


@dataclass(frozen=True, eq=False)
class Layer:
    """What one layer makes of a picture: `maps` `(M, H, W)` float32."""

    name: str
    maps: NDArray[np.float32]


@torch.inference_mode()
def layers(verifier: Verifier, face: NDArray[np.uint8]) -> list[Layer]:
    """The normalized picture, then every activation, pool and warp, of a face `(C, R, R)` uint8."""
    found: list[Layer] = []

    names = {
        module: f"{type(module).__name__} {name.removeprefix('architecture.')}"
        for name, module in verifier.model.named_modules()
        if isinstance(module, SpatialTransformer)
        or not (any(module.children()) or isinstance(module, UNFINISHED))
    }

    def keep(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if output.ndim == 4:  # one that works in place changes it later: copy
            found.append(Layer(names[module], output[0].float().cpu().numpy().copy()))

    hooks = [module.register_forward_hook(keep) for module in names]
    try:
        picture = verifier.normalization(_floats(verifier, face[None]))
        verifier.model(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return [Layer("normalized", picture[0].float().cpu().numpy()), *found]


def saliency(verifier: Verifier, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gradients `(2, R, R)` of minus the distance by the pixels of two faces `(2, C, R, R)` uint8.

    By those that the network sees, after normalization, summed over the channels and averaged over
    noisy copies. Where it is positive, a brighter pixel makes the two more alike.
    """
    with torch.no_grad():
        pictures = verifier.normalization(_floats(verifier, faces))
    low, high = (end(pictures, (1, 2, 3), keepdim=True) for end in (torch.amin, torch.amax))
    generator = torch.Generator(verifier.device).manual_seed(0)
    noise = torch.randn(
        (NOISY_COPIES, *pictures.shape), generator=generator, device=verifier.device
    )
    copies = (pictures + NOISE * (high - low) * noise).requires_grad_()
    # They are normalized already.
    flat = embedding(verifier.model, nn.Identity(), copies.flatten(0, 1), flip=verifier.flip)
    embeddings = flat.unflatten(0, (NOISY_COPIES, 2))
    scores = -DISTANCES[verifier.distance](embeddings[:, 0], embeddings[:, 1])
    (gradient,) = torch.autograd.grad(scores.sum(), copies)
    return gradient.mean(0).sum(1).cpu().numpy()


def _floats(verifier: Verifier, faces: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(faces.copy()).to(verifier.device).float()
