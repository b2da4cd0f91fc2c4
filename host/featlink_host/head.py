"""The second half of the network: a feature map as a tensor in, the head's outputs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings
from featlink_codec.features import FeatureMap, Wanted

from .inference import open_session

#: element types of a head's input, as onnxruntime names them
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
}


class Head:
    """Runs on the tensors that the reader has unpacked the pictures into.

    :param folder: of the extractor
    :param settings: its extractor.toml
    :raises FeatlinkError: the head cannot be loaded
    """

    def __init__(self, folder: Path, settings: ExtractorSettings) -> None:
        if len(settings.maps) != 1:
            raise SettingsError(f"{folder}: {len(settings.maps)} maps, one is handled")
        self._session = open_session(folder / settings.models.head)
        self._map = settings.maps[0]
        self._outputs = [output.name for output in self._session.get_outputs()]
        kind = next((i.type for i in self._session.get_inputs() if i.name == self._map.tensor), "nothing")
        if kind not in _DTYPES:
            raise SettingsError(
                f"{folder}: the head takes {kind} as {self._map.tensor!r}, a map is one of {', '.join(_DTYPES)}"
            )
        #: what the reader shall make of the pictures
        self.wanted = Wanted(tensor=_DTYPES[kind], channels_first=self._map.layout == "NCHW")

    def run(self, feature_map: FeatureMap) -> dict[str, NDArray[Any]]:
        """The head's outputs by name.

        :raises SettingsError: it is not the map that the extractor speaks of
        """
        expected = (self._map.height, self._map.width, self._map.channels)
        if feature_map.header.feat_type_id != self._map.feat_type_id or feature_map.shape != expected:
            raise SettingsError(
                f"the map at byte {feature_map.offset} is of type {feature_map.header.feat_type_id} and "
                f"{list(feature_map.shape)}, the extractor has type {self._map.feat_type_id} and {list(expected)}"
            )
        outputs = self._session.run(self._outputs, {self._map.tensor: feature_map.tensor})
        return dict(zip(self._outputs, outputs, strict=True))
