"""Which coder of payloads is in use: the C core's, or its readable twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import tensor_core
from .tensor_coding import EntryPoint, TensorCoding


class Decoder(Protocol):
    """Reads one arithmetic codeword; see `twin.PayloadDecoder`."""

    def bits(self, n: int) -> int:
        """n equiprobable bits."""

    def tensor(
        self,
        coding: TensorCoding,
        base: NDArray[np.int32] | None = None,
        history: NDArray[np.bool_] | None = None,
        out: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """The next tensor's levels."""

    def finish(self) -> int:
        """Bytes of the codeword."""


class Encoder(Protocol):
    """Writes one arithmetic codeword; see `twin.PayloadEncoder`."""

    def bits(self, value: int, n: int) -> None:
        """n equiprobable bits."""

    def tensor(
        self,
        indices: NDArray[np.int32],
        coding: TensorCoding,
        base: NDArray[np.int32] | None = None,
        history: NDArray[np.bool_] | None = None,
        row_skip: bool = False,
        choose_sets: bool = True,
        entry_points: list[EntryPoint] | None = None,
    ) -> None:
        """Add a tensor."""

    def finish(self) -> bytes:
        """The codeword."""


class PayloadCore(Protocol):
    """The two coders and the quantizer that goes with them."""

    @property
    def PayloadDecoder(self) -> Callable[[bytes | bytearray | memoryview], Decoder]:  # noqa: N802
        """Made with the bytes of a payload."""

    @property
    def PayloadEncoder(self) -> Callable[[], Encoder]:  # noqa: N802
        """Made with nothing."""

    @property
    def quantize(self) -> Callable[[NDArray[np.float32], float, TensorCoding, float], NDArray[np.int32]]:
        """(weights float32 [rows, columns], step, coding, lambda) -> indices int32 [rows, columns]."""

    @property
    def levels(self) -> Callable[[NDArray[np.int32], TensorCoding, NDArray[np.int32]], NDArray[np.int32]]:
        """(indices, coding with dq, out) -> out with levels int32 [rows, columns]: what a decoder gives for them.

        out may be the indices themselves.
        """


def default_core() -> PayloadCore:
    """The C core's coder. Nothing stands in for it."""
    return tensor_core
