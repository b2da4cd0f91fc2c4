"""Fashion-MNIST, of Debian's package."""

from __future__ import annotations

import gzip
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE = "dataset-fashion-mnist"


def fetched() -> Path:
    """The folder of Debian's package, unpacked."""
    folder = Path(tempfile.mkdtemp())
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True)
    (deb,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(deb), str(folder)], check=True)
    return folder / "usr" / "share" / "datasets" / "fashion-mnist"


def images(data: Path, kind: str) -> NDArray[np.float32]:
    """Pictures float32 [n, 1, 28, 28], as the network takes them. :param kind: t10k or train"""
    raw = gzip.decompress((data / f"{kind}-images-idx3-ubyte.gz").read_bytes())
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return ((pixels / 255 - 0.286) / 0.353).astype(np.float32)


def labels(data: Path, kind: str) -> NDArray[np.int64]:
    """Their classes."""
    raw = gzip.decompress((data / f"{kind}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=8).astype(np.int64)
