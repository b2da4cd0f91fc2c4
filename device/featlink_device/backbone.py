"""The first half of the network, in onnxruntime, writing into arrays that are there before the first frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError

#: element types of a map, as onnxruntime names them
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
}


class Backbone:
    """One input, one output, fixed shapes.

    :param model: the ONNX file
    :param threads: intra-op threads; one is fastest for nets this small
    :raises FeatlinkError: the model cannot be loaded
    """

    def __init__(self, model: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base
            raise FeatlinkError(f"{model}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
        (self._input,) = self._session.get_inputs()
        (self._output,) = self._session.get_outputs()
        self._run_options = ort.RunOptions()

    def new_output(self, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """An array for `run` to write to.

        :param shape: as the extractor says
        :raises SettingsError: the model gives another shape or an element type that no map has
        """
        declared = self._output.shape
        fits = len(declared) == len(shape) and all(
            not isinstance(d, int) or d == s for d, s in zip(declared, shape, strict=True)
        )
        if not fits:
            raise SettingsError(f"the backbone gives {declared}, the extractor says {list(shape)}")
        if self._output.type not in _DTYPES:
            raise SettingsError(f"the backbone gives {self._output.type}, a map is one of {', '.join(_DTYPES)}")
        return np.empty(shape, _DTYPES[self._output.type])

    def run(self, image: NDArray[np.float32], out: NDArray[np.generic]) -> None:
        """Feed `image`, write the feature tensor into `out`; both C-contiguous, neither is copied."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input.name, ort.OrtValue.ortvalue_from_numpy(image))
        binding.bind_output(self._output.name, "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
        self._session.run_with_iobinding(binding, self._run_options)
