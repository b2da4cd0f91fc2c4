"""The control data: read only as deep as asked, consistent with the units, and exact about what is wrong."""

import base64
import json
import zlib

import pytest
from codec.model.models import INDEX, VECTORS, small_model

from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.model import Budget, Description, Layer, ModelStream, encode, twin
from featlink_codec.model.control_data import DataSet, ModelInfo, Topology
from featlink_codec.model.control_document import ControlDocument
from featlink_codec.model.syntax import TopologyUnit, UnitType
from featlink_codec.model.units import unit_bytes

DESCRIPTION = Description(
    layers=(Layer("first", "convolution", ("conv.weight", "conv.bias")),),
    topology=Topology("onnx", bytes(range(256)) * 5),
    model=ModelInfo("tiny", "3", {"epochs": 4}, {"accuracy": 0.5}),
    data_set=DataSet("none", {"size": [3, 227, 227]}),
)


@pytest.fixture(scope="module")
def made():
    return encode(small_model(), description=DESCRIPTION, core=twin)


def text_of(data: bytes) -> tuple[str, int, int]:
    """The control data, and where its unit begins and ends."""
    view = memoryview(data)
    unit = next(unit for unit in ModelStream(data, core=twin).units() if unit.unit_type is UnitType.TPL)
    topology = TopologyUnit()
    topology.code(unit.reader(view), Budget())
    return topology.topology_data, unit.offset, unit.end


def with_text(data: bytes, text: str) -> bytes:
    _, begin, end = text_of(data)
    return data[:begin] + unit_bytes(UnitType.TPL, b"\0\0" + text.encode() + b"\0") + data[end:]


def with_level(data: bytes, number: int, change) -> bytes:
    """The stream, a level's object changed, its check made anew."""
    from featlink_codec.model import control_document

    head, *lines = text_of(data)[0][1:-1].split(",\n")
    levels = [json.loads(line) for line in lines]
    change(next(level for level in levels if level["level"] == number))
    lines = [json.dumps(level, separators=(",", ":")) for level in levels]
    table = json.loads(head)
    table["levels"] = [
        [level["level"], len(line), control_document._check(line.encode())]
        for level, line in zip(levels, lines, strict=True)
    ]
    return with_text(data, "[" + ",\n".join([json.dumps(table, separators=(",", ":")), *lines]) + "]")


def test_every_level_comes_back(made):
    control = ModelStream(made.data, core=twin).control
    assert [layer.name for layer in control.layers.layers][:2] == ["first", "dw"]
    assert control.layers.layers[0].tensors == ("conv.weight", "conv.bias")
    assert control.layers.layers[1].layer_type == "depthwise"
    assert control.topology == DESCRIPTION.topology
    assert control.model == DESCRIPTION.model
    assert control.data_set == DESCRIPTION.data_set


def test_the_text_is_one_json_document(made):
    document = json.loads(text_of(made.data)[0])
    assert [part.get("level") for part in document] == [None, 1, 2, 3, 4, 5]


def test_units_are_where_the_control_data_says(made):
    stream = ModelStream(made.data, core=twin)
    end = text_of(made.data)[2]
    units = {unit.offset: unit for unit in stream.units()}
    for record in stream.records():
        unit = units[end + record.offset]
        assert unit.size == record.size
        assert stream.header(unit).topology_elem_ids == [record.topology_elem_id]


def test_deeper_levels_are_not_looked_at(made):
    """Everything behind the level that is asked for may be garbage."""
    text, begin, end = text_of(made.data)
    lines = text.split(",\n")
    for depth in range(1, 5):
        kept = ",\n".join(lines[: depth + 1]) + ",\n"
        garbage = kept + "#" * (len(text) - len(kept))
        damaged = made.data[:begin] + unit_bytes(UnitType.TPL, b"\0\0" + garbage.encode() + b"\0") + made.data[end:]
        control = ModelStream(damaged, core=twin).control
        deeper = [control.__class__.tensors, ControlDocument.layers, ControlDocument.topology, ControlDocument.model]
        for level in deeper[:depth]:
            assert level.fget(control)
        with pytest.raises(StreamError, match=rf"bad-control: level {depth + 1}: its check"):
            [*deeper, ControlDocument.data_set][depth].fget(control)


OTHERS = ["", "hello", '{"control_data":1}', '[{"other":1}]', "é" * 40]


@pytest.mark.parametrize("text", OTHERS)
def test_text_of_others_is_left_alone(text):
    data = (VECTORS / INDEX["p01_urq_cnn"]["file"]).read_bytes()
    stream = ModelStream(with_text(data, text), core=twin)
    assert stream.control is None
    assert stream.tensor("conv1.weight").shape == (16, 3, 3, 3)


@pytest.mark.parametrize("text", OTHERS)
def test_control_data_that_is_not_to_be_recognised_is_missed(made, text):
    with pytest.raises(StreamError, match="bad-control: the control data is not there"):
        ModelStream(with_text(made.data, text), core=twin)
    _, begin, end = text_of(made.data)
    with pytest.raises(StreamError, match="bad-control: the control data is not there"):
        ModelStream(made.data[:begin] + made.data[end:], core=twin)


def test_control_data_of_another_model_is_refused(made):
    other = encode(small_model(1), core=twin)
    with pytest.raises(StreamError, match="bad-control: the parameter set is of the model"):
        ModelStream(with_text(made.data, text_of(other.data)[0]), core=twin)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("", "not JSON"),
        ('"levels":[]}', "head.model: found \"\", expected a SHA-256"),
        ('"model":5,"levels":[]}', "head.model: found 5, expected text"),
        ('"model":"%s","levels":7}', "head.levels: found 7, expected a list"),
        ('"model":"%s","levels":[[1,2]]}', r"head.levels\[0\]: expected a level"),
        ('"model":"%s","levels":[[9,2,"x"]]}', r"head.levels\[0\]"),
        ('"model":"%s","levels":[[2,5,"x"],[1,5,"x"]]}', r"the levels \[2, 1\] do not rise"),
        ('"model":"%s","levels":NaN}', "NaN is not JSON"),
    ],
)  # fmt: skip
def test_a_damaged_head_is_told_exactly(made, head, says):
    text = '[{"control_data":1,' + head.replace("%s", "A" * 43) + "]"
    with pytest.raises(StreamError, match=says) as caught:
        ModelStream(with_text(made.data, text), core=twin)
    assert caught.value.name == "bad-control"
    assert caught.value.offset == text_of(made.data)[1] + 5


def tensor(change):
    return lambda level: change(level["tensors"][0])


@pytest.mark.parametrize(
    ("number", "change", "says"),
    [
        (1, lambda level: level.update(tensors=3), "tensors: found 3, expected a list"),
        (1, lambda level: level["tensors"].append(3), r"tensors\[12\]: found 3, expected an object"),
        (1, tensor(lambda t: t.pop("name")), r"tensors\[0\].name: found null, expected text"),
        (1, tensor(lambda t: t.update(name="half")), "tensors: 'half' stands twice"),
        (1, tensor(lambda t: t.update(name="\ud800")), r"tensors\[0\].name"),
        (1, tensor(lambda t: t.update(at=[1])), r"tensors\[0\].at: 1 numbers"),
        (1, tensor(lambda t: t.update(at=[-1, 4])), r"tensors\[0\].at: found \[-1, 4\]"),
        (1, tensor(lambda t: t.update(at=[True, 4])), r"tensors\[0\].at"),
        (1, tensor(lambda t: t.update(sha256="12")), r"tensors\[0\].sha256: found \"12\", expected a SHA-256"),
        (1, tensor(lambda t: t.update(dtype="float7")), r"tensors\[0\].dtype: found 'float7'"),
        (1, tensor(lambda t: t.update(order={"kind": "up"})), r"tensors\[0\].order.kind: found 'up'"),
        (1, tensor(lambda t: t.update(order={"kind": "neurons", "permutation": [0, 0]})), "not a permutation"),
        (1, tensor(lambda t: t.update(inference="int3")), r"tensors\[0\].inference: .*'int3'"),
        (1, tensor(lambda t: t.update(escape={"limit": -1})), r"tensors\[0\].escape.limit: found -1"),
        (1, tensor(lambda t: t.update(escape={"limit": 1, "positive": ["x"]})), r"escape.positive"),
        (1, tensor(lambda t: t.update(options=[{"option": "x"}])), r"tensors\[0\].options\[0\].option: found 'x'"),
        (1, lambda level: level.update(versions=[{"name": "a", "extends": "b"}]), "'a' extends 'b'"),
        (2, lambda level: level["layers"][0].pop("type"), r"layers\[0\].type: found null"),
        (2, lambda level: level["layers"].append(level["layers"][0]), "layers: 'first' stands twice"),
        (3, lambda level: level.update(deflate="~~~"), "deflate: "),
        (3, lambda level: level.update(deflate=base64.b85encode(b"no zlib").decode()), "deflate: "),
        (3, lambda level: level.update(deflate=base64.b85encode(zlib.compress(b"a")[:-1]).decode()), "not one whole"),
        (4, lambda level: level.update(training=[]), "training: found"),
        (5, lambda level: level.update(name=3), "name: found 3, expected text"),
    ],
)
def test_a_malformed_level_is_told_exactly(made, number, change, says):
    control = ModelStream(with_level(made.data, number, change), core=twin).control
    with pytest.raises(StreamError, match=rf"level {number}: .*{says}") as caught:
        _ = (control.tensors, control.layers, control.topology, control.model, control.data_set)
    assert caught.value.name == "bad-control"


def test_members_that_nobody_knows_are_skipped(made):
    def change(level):
        level["tensors"][0]["colour"] = "blue"
        level["mood"] = 3

    ModelStream(with_level(made.data, 1, change), core=twin).verify()


def test_nesting_without_end_is_refused(made):
    with pytest.raises(StreamError, match="bad-control"):
        ModelStream(with_text(made.data, '[{"control_data":1,"x":' + "[" * 1900), core=twin)
    deep = "[" * 200000
    levels = f'"levels":[[1,{len(deep)},"{"0" * 16}"]]'
    text = f'[{{"control_data":1,"model":"{"A" * 43}",{levels}}},\n{deep}'
    with pytest.raises(StreamError, match="bad-control"):
        _ = ModelStream(with_text(made.data, text), core=twin).control.tensors


def test_a_graph_that_unpacks_beyond_the_budget_is_refused():
    description = Description(topology=Topology("onnx", bytes(1 << 20)))
    data = encode(small_model(), description=description, core=twin).data
    assert ModelStream(data, core=twin).control.topology.data == bytes(1 << 20)
    small = ModelStream(data, Budget(max_topology_bytes=1 << 16), core=twin)
    with pytest.raises(StreamError, match="more than 65536 bytes, the budget"):
        _ = small.control.topology


def test_what_json_cannot_hold_is_the_callers_mistake():
    for training in ({"loss": float("nan")}, {"net": object()}):
        with pytest.raises(SettingsError, match="JSON"):
            encode(small_model(), description=Description(model=ModelInfo(training=training)), core=twin)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(at=[t["at"][0] + 1, t["at"][1]]),
        lambda t: t.update(at=[t["at"][0], t["at"][1] + 1]),
        lambda t: t.update(at=[1 << 40, t["at"][1]]),
        lambda t: t.update(at=[t["at"][0], 0]),
        lambda t: t.update(name="other", unit="dw.weight"),
        lambda t: t.update(shape=[7]),
        lambda t: t.update(sha256="A" * 43),
        lambda t: t.update(dtype="uint8"),
        lambda t: t.update(order={"kind": "neurons", "permutation": [1, 0]}),
    ],
)
def test_records_that_do_not_go_with_their_units_are_refused(made, change):
    def both(level):
        change(level["tensors"][0])
        level["tensors"] = level["tensors"][:1]

    stream = ModelStream(with_level(made.data, 1, both), core=twin)
    with pytest.raises(StreamError):
        stream.tensors()
