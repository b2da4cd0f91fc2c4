"""Tensors that share a BLOCK unit, written and read: each as if alone, fewer bytes, the types that units tell."""

import dataclasses

import numpy as np
import pytest
from codec.model.models import same, small_model

from featlink_codec.errors import SettingsError
from featlink_codec.model import Block, EncodeSettings, ModelStream, TensorSettings, encode, twin
from featlink_codec.model.data_unit import PayloadType
from featlink_codec.model.inference import InferenceFormat
from featlink_codec.model.syntax import UnitType

NORMALIZATION = ("beta", "gamma", "mean", "var")
BLOCKS = {
    "normalization": Block("weight", normalization=NORMALIZATION),
    "normalization and bias": Block("weight", normalization=NORMALIZATION, bias="bias"),
    "scaling": Block("weight", local_scaling="scale"),
    "all": Block("weight", "scale", NORMALIZATION, "bias"),
    "bias": Block("weight", bias="bias"),
}


def model(rows=24, dtype=np.float32):
    rng = np.random.default_rng(rows)
    tensors = {"before": rng.normal(0, 0.1, (30, 20))}
    tensors |= {name: rng.normal(0.5, 0.2, rows) for name in ("bias", "gamma", "beta", "mean", "var", "scale")}
    tensors |= {"weight": rng.laplace(0, 0.05, (rows, 5, 3, 3)), "after": rng.normal(0, 0.1, 40)}
    return {name: values.astype(dtype) for name, values in tensors.items()}


def headers(stream):
    return [stream.header(unit) for unit in stream.units() if unit.unit_type is UnitType.NDU]


@pytest.mark.parametrize("core", [twin, None], ids=["twin", "default"])
@pytest.mark.parametrize("dq", [True, False])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_holds_the_very_tensors_that_single_units_hold(block, dq, core):
    kept = {name: values for name, values in model().items() if name in ("before", "after", *block.names)}
    how = EncodeSettings(TensorSettings(dq=dq), TensorSettings(qp=-75, dq=dq), raw_elements=0)
    made = encode(kept, dataclasses.replace(how, blocks=(block,)), core=core)
    single = encode(kept, how, core=core)
    with ModelStream(made.data, core=core) as stream:
        found = stream.tensors()
        assert list(found) == ["before", *block.names, "after"]
        same({name: found[name] for name in kept}, ModelStream(single.data).tensors())
        units = headers(stream)
        assert [len(unit.topology_elem_ids) for unit in units] == [1, len(block.names), 1]
        assert units[1].nnr_compressed_data_unit_payload_type == PayloadType.BLOCK
        stream.verify()
    assert len(made.data) < len(single.data)


def test_a_block_without_control_data_is_read_by_its_names():
    block = BLOCKS["all"]
    how = EncodeSettings(control_data=False, blocks=(block,))
    made = encode(model(), how)
    found = ModelStream(made.data).tensors()
    assert set(found) == set(model())
    for name in block.names:
        assert np.abs(found[name] - model()[name]).max() < 0.01, name


def test_a_block_has_orders_scan_and_types_of_its_tensors():
    tensors = model(40, np.float16)
    settings = EncodeSettings(TensorSettings(scan_order=1, dq=False), blocks=(BLOCKS["all"],))
    made = encode(tensors, settings)
    with ModelStream(made.data, threads=2) as stream:
        found = stream.tensors()
        assert {values.dtype.name for values in found.values()} == {"float16"}
        assert len(headers(stream)[1].cabac_entry_point_list) == 4
    same(found, ModelStream(made.data).tensors())


def test_one_tensor_of_a_block_is_decoded_alone():
    made = encode(model(), EncodeSettings(blocks=(BLOCKS["all"],)))
    for name, values in made.tensors.items():
        assert ModelStream(made.data).tensor(name).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bias": np.zeros(5, np.float32)}, "'bias' has 5 numbers, the weight has 24 rows"),
        ({"bias": np.zeros(24, np.int32)}, "'bias' holds other than finite floating-point numbers"),
        ({"weight": np.full((24, 2), np.nan, np.float32)}, "'weight' holds other than finite"),
        ({"weight": np.full((24, 2), 1e30, np.float32)}, "'weight' has values beyond what steps up to qp"),
        ({"var": None}, "there is no tensor 'var'"),
        ({"weight": None}, "there is no such tensor"),
    ],
)
def test_what_a_block_cannot_hold_is_refused(change, text):
    tensors = {name: values for name, values in (model() | change).items() if values is not None}
    with pytest.raises(SettingsError, match=f"block of 'weight': {text}"):
        encode(tensors, EncodeSettings(blocks=(BLOCKS["all"],)))


def test_settings_of_blocks_that_cannot_be_are_refused():
    with pytest.raises(SettingsError, match="2 tensors of normalization, not 4"):
        Block("weight", normalization=("beta", "gamma"))
    with pytest.raises(SettingsError, match="expected different tensors"):
        Block("weight")
    with pytest.raises(SettingsError, match="in two blocks"):
        EncodeSettings(blocks=(BLOCKS["bias"], Block("other", bias="bias")))
    raw = EncodeSettings(TensorSettings(raw=True), blocks=(BLOCKS["bias"],))
    with pytest.raises(SettingsError, match="raw, codebook or escape_limit"):
        encode(model(), raw)


def test_units_tell_the_types_of_their_tensors_where_told_to():
    made = encode(small_model(), EncodeSettings(data_formats=True))
    plain = encode(small_model())
    with ModelStream(made.data) as stream, ModelStream(plain.data) as other:
        told = {unit.topology_elem_ids[0]: unit.nnr_decompressed_data_format for unit in headers(stream)}
        assert {unit.nnr_decompressed_data_format for unit in headers(other)} == {None}
        same(stream.tensors(), other.tensors())
    assert told["fc.weight"] == 1
    assert told["half"] == 8
    assert told["double"] == 9
    assert told["counts"] == 7
    assert told["scalar"] == 0
    assert told["mask"] is None


@pytest.mark.parametrize(
    ("name", "number"), [("float16", 8), ("int8", 5), ("fixed 1.7", 5), ("fixed 2.14", 6), ("fixed 3.9", None)]
)
def test_the_format_for_inference_stands_in_the_unit(name, number):
    how = EncodeSettings(TensorSettings(inference=InferenceFormat(name)))
    with ModelStream(encode(model(), how).data) as stream:
        found = {unit.topology_elem_ids[0]: unit.nnr_decompressed_data_format for unit in headers(stream)}
    assert found["weight"] == number
    assert found["bias"] is None
