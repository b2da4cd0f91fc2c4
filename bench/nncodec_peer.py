"""Run by the Python that has nncodec: encodes tensors with it, and decodes our streams with it.

    python nncodec_peer.py JOB.json

A job is {"tensors": x.npz, "encode": [{"qp": -32, "lambda_scale": 0}...], "decode": {y.nnc: y.npz}}, and may have
"whole": [{"qp": -32}...]: arguments of nn.encode. Prints a JSON: bytes of each encoding, its decoded tensors' files,
whether each decoded stream has the very tensors, seconds and bytes of nn.encode.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock


class _NoTorchvision:
    """nncodec imports torchvision for its example data sets alone; whatever it takes from it is nothing."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> object:
        if name.split(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> Any:
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__, module.__name__ = spec, [], spec.name
        return module

    def exec_module(self, module: object) -> None:
        """Nothing to run."""


def main() -> None:
    """Do the job."""
    sys.meta_path.insert(0, _NoTorchvision())
    import numpy as np
    from nncodec import nn, nnc  # type: ignore[import-not-found]

    job = json.loads(Path(sys.argv[1]).read_text())
    found: dict[str, Any] = {"encode": [], "decode": {}, "whole": []}
    with np.load(job["tensors"]) as archive:
        tensors = {name: archive[name] for name in archive.files}
    folder = Path(tempfile.mkdtemp())
    for number, settings in enumerate(job["encode"]):
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            stream = nnc.compress(
                {name: values.copy() for name, values in tensors.items()},
                bitstream_path=str(folder / "x.nnc"),
                return_bitstream=True,
                verbose=False,
                **settings,
            )
            seconds = time.perf_counter() - begin
            values = nnc.decompress(bytearray(stream), verbose=False)
        np.savez(folder / f"{number}.npz", **values)
        found["encode"].append(
            settings | {"bytes": len(stream), "seconds": seconds, "tensors": str(folder / f"{number}.npz")}
        )
    for settings in job.get("whole", []):
        given = {name: values.copy() for name, values in tensors.items()}
        with contextlib.redirect_stdout(io.StringIO()):
            begin = time.perf_counter()
            stream = nn.encode(given, {"verbose": False, "results": str(folder), **settings})
            seconds = time.perf_counter() - begin
        found["whole"].append({"seconds": seconds, "bytes": len(stream)})
    for path, wanted in job["decode"].items():
        with contextlib.redirect_stdout(io.StringIO()):
            values = nnc.decompress(bytearray(Path(path).read_bytes()), verbose=False)
        with np.load(wanted) as archive:
            same = set(values) == set(archive.files) and all(
                np.array_equal(
                    np.asarray(values[name], archive[name].dtype).reshape(archive[name].shape), archive[name]
                )
                for name in archive.files
            )
        found["decode"][path] = bool(same)
    sys.__stdout__.write(json.dumps(found) + "\n")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
