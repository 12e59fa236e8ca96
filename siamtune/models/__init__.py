"""Networks that turn a picture of a face into an embedding."""

from siamtune.models.siamese import ARCHITECTURES, SiameseNet, build_model

__all__ = ["ARCHITECTURES", "SiameseNet", "build_model"]
