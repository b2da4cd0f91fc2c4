"""Layers, their types and their parameters' types, as far as names and shapes tell (aspect 3)."""

from __future__ import annotations

#: Last part of a tensor's name, and what kind of parameter that is.
PARAMETER_TYPES = {
    "weight": "weight",
    "kernel": "weight",
    "bias": "bias",
    "beta": "bias",
    "gamma": "scale",
    "running_mean": "mean",
    "running_var": "variance",
}


def layer_of(name: str) -> str:
    """The layer that a tensor belongs to: its name up to the last dot or slash."""
    cut = max(name.rfind("."), name.rfind("/"))
    return name[:cut] if cut > 0 else name


def layers_by_name(names: list[str]) -> dict[str, list[str]]:
    """Layers in the order of their first tensor, each with its tensors."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(layer_of(name), []).append(name)
    return layers


def parameter_type(name: str, shape: tuple[int, ...]) -> str:
    """``weight``, ``bias``, ``scale``, ``mean`` or ``variance``."""
    word = name[len(layer_of(name)) :].lstrip("./")
    return PARAMETER_TYPES.get(word, "weight" if len(shape) > 1 else "bias")


def layer_type(shapes: list[tuple[int, ...]]) -> str:
    """``convolution``, ``depthwise``, ``fully-connected`` or ``other``, from the shapes of a layer's tensors."""
    largest = max(shapes, key=len, default=())
    if len(largest) >= 3:
        return "depthwise" if largest[1] == 1 and largest[0] > 1 else "convolution"
    return "fully-connected" if len(largest) == 2 else "other"
