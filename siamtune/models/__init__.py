"""Networks that turn a picture of a face into an embedding."""

from siamtune.models.siamese import ARCHITECTURES, SiameseNet, build_model, unit_length

__all__ = ["ARCHITECTURES", "SiameseNet", "build_model", "unit_length"]
