"""Annex B: maxima of six layers, for uniform quantizers by name."""

from __future__ import annotations

import difflib

import numpy as np

from ..errors import SettingsError
from .quantizers import UniformQuantizer

#: Layer -> max_feat_digit as printed (alexnet_conv5 is printed 29.1936 and 29.1935; 29.1936 is meant).
ANNEX_B_MAXIMA = {
    "alexnet_conv4": 44.0106,
    "alexnet_conv5": 29.1936,
    "vgg_conv9": 72.5028,
    "vgg_conv12": 26.9470,
    "resnet18_conv5": 5.6013,
    "resnet18_conv13": 3.2416,
}


def annex_b(layer: str, bit_depth: int) -> UniformQuantizer:
    """The uniform quantizer of an Annex B layer.

    :param layer: e.g. ``resnet18_conv5``
    :param bit_depth: 2 to 7 in the annex; any depth of the stream works
    :raises SettingsError: an unknown layer
    """
    if layer not in ANNEX_B_MAXIMA:
        near = difflib.get_close_matches(layer, ANNEX_B_MAXIMA, n=3) or list(ANNEX_B_MAXIMA)
        raise SettingsError(f"no Annex B preset {layer!r}; there are, nearest first: {', '.join(near)}")
    return UniformQuantizer(float(np.float32(ANNEX_B_MAXIMA[layer])), bit_depth)
