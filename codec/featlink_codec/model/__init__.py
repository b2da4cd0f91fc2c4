"""The model stream (NNC, ISO/IEC 15938-17): compressed models and updates, read lazily, written whole."""

from .budget import Budget
from .reader import ModelStream
from .settings import Block, EncodeSettings, TensorSettings
from .updates import Updated, apply_update
from .versions import Composed, compose, version_names
from .writer import Description, EncodedModel, Layer, encode, encode_update

__all__ = [
    "Block",
    "Budget",
    "Composed",
    "Description",
    "EncodeSettings",
    "EncodedModel",
    "Layer",
    "ModelStream",
    "TensorSettings",
    "Updated",
    "apply_update",
    "compose",
    "encode",
    "encode_update",
    "version_names",
]
