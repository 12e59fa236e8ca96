"""Hyperparameter search for siamese networks that verify faces."""

__version__ = "0.1.0"
