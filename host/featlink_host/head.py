"""The second half of the network: a feature map's levels in, the head's outputs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings
from featlink_codec.features import FeatureMap

from .inference import open_session


class Head:
    """Dequantizes into the head's input tensor, which is there before the first map, and runs it.

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
        self._shape = (self._map.height, self._map.width, self._map.channels)
        planes_first = self._map.layout == "NCHW"
        self._axes = (2, 0, 1) if planes_first else (0, 1, 2)
        self._tensor = np.empty((1, *(self._shape[a] for a in self._axes)), np.float32)

    def fill(self, feature_map: FeatureMap) -> None:
        """Dequantize a map into the input tensor, without a copy in between.

        :raises SettingsError: it is not the map that the extractor speaks of
        """
        if feature_map.header.feat_type_id != self._map.feat_type_id or feature_map.shape != self._shape:
            raise SettingsError(
                f"the map at byte {feature_map.offset} is of type {feature_map.header.feat_type_id} and "
                f"{list(feature_map.shape)}, the extractor has type {self._map.feat_type_id} and {list(self._shape)}"
            )
        assert feature_map.levels is not None
        levels = feature_map.levels.transpose(self._axes)
        if feature_map.quantizer is None:
            self._tensor[0] = levels
        else:
            # mode: levels never exceed peak, and the default one would go through a buffer
            np.take(feature_map.quantizer.level_values, levels, out=self._tensor[0], mode="clip")

    def run(self) -> dict[str, NDArray[Any]]:
        """The head's outputs by name, for the map that was filled in last."""
        outputs = self._session.run(self._outputs, {self._map.tensor: self._tensor})
        return dict(zip(self._outputs, outputs, strict=True))
