"""Who a virtual board says it is: model, compatible and serial number in its device tree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import fdt

#: First entries of `compatible` on the boards that are stood for, as their vendors' device trees have them.
COMPATIBLE: Mapping[str, tuple[str, ...]] = {
    "jetson-orin-nx": ("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
    "jetson-orin-nano": ("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"),
    "rk3588": ("rockchip,rk3588",),
}
#: Seeds that QEMU puts into a dump: kept, every start would have the same.
SEEDS = ("rng-seed", "kaslr-seed")


@dataclass(frozen=True)
class Identity:
    """What stands below /proc/device-tree."""

    model: str
    compatible: tuple[str, ...]
    serial: str


def identity_of(name: str, model: str, stands_for: str) -> Identity:
    """The identity of the virtual board `name`; its serial number is always the same.

    Its own name comes first, so that nobody takes it for a real one; QEMU's comes last, for its devices.
    """
    compatible = (f"featlink,{name}", *COMPATIBLE.get(stands_for, ()), "linux,dummy-virt")
    return Identity(model, compatible, hashlib.sha256(name.encode()).hexdigest()[:13].upper())


def set_identity(device_tree: bytes, identity: Identity) -> bytes:
    """QEMU's device tree (DTB) with another identity, and without seeds."""
    tree = fdt.parse_dtb(device_tree)
    tree.set_property("model", identity.model, path="/")
    tree.set_property("serial-number", identity.serial, path="/")
    tree.set_property("compatible", list(identity.compatible), path="/")
    for seed in SEEDS:
        if tree.exist_property(seed, path="/chosen"):
            tree.remove_property(seed, path="/chosen")
    return bytes(tree.to_dtb(version=17))


def read_identity(device_tree: bytes) -> Identity:
    """The identity that a device tree (DTB) holds."""
    tree = fdt.parse_dtb(device_tree)
    model, serial = (tree.get_property(name, path="/").value for name in ("model", "serial-number"))
    return Identity(model, tuple(tree.get_property("compatible", path="/")), serial)
