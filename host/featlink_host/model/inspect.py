"""A model stream as a table: units, tensors, bytes, quantization parameters, hashes, levels of the control data."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from featlink_codec.model import ModelStream
from featlink_codec.model.data_unit import DataUnitHeader, PayloadType
from featlink_codec.model.syntax import UnitType
from featlink_codec.model.tensor_level import TensorRecord
from featlink_codec.model.units import Unit

_LEVELS = {1: "tensors", 2: "layers", 3: "topology", 4: "model", 5: "data set"}


def describe(stream: ModelStream, size: int, decode: bool = False) -> dict[str, Any]:
    """What a stream holds. Payloads are decoded only where told to: for quantization parameters and hashes.

    :param size: of the stream, in bytes
    :raises StreamError: what is wrong with it
    """
    mps = stream.parameters.mps
    units = list(stream.units())
    control = stream.control
    records = {record.name: record for record in stream.records()}
    by_unit = {record.topology_elem_id: record for record in records.values()}
    known = {name for record in records.values() for name in (record.name, record.topology_elem_id)}
    names = {record.topology_elem_id: record.name for record in records.values()}
    tensors = []
    for unit in units:
        if unit.unit_type is UnitType.NDU:
            header = stream.header(unit)
            for place, name in enumerate(header.topology_elem_ids):
                found = _tensor(unit, header, place, names.get(name, name), by_unit.get(name))
                if decode and (not records or name in known):
                    decoded = (
                        stream.decoded(names.get(name, name)) if not header.temporal_context_modeling_flag else None
                    )
                    if decoded is not None:
                        found |= {"qp": decoded.qp, "sha256": decoded.sha256().hex()}
                tensors.append(found)
    result: dict[str, Any] = {
        "bytes": size,
        "update": bool(mps.mps_parent_signalling_enabled_flag),
        "profile": stream.parameters.general_profile_idc,
        "qp": mps.mps_quantization_parameter,
        "qp_density": mps.mps_qp_density,
        "units": [{"type": unit.unit_type.name, "offset": unit.offset, "bytes": unit.size} for unit in units],
        "tensors": tensors,
        "control_data": None,
    }
    if control is not None:
        level = control.tensors
        result["control_data"] = {
            "model": control.head.model,
            "base": control.head.base,
            "result": control.head.result,
            "levels": [
                {"level": number, "what": _LEVELS[number], "bytes": length} for number, length, _ in control.head.levels
            ],
            "layers": [
                {"name": layer.name, "type": layer.layer_type, "tensors": list(layer.tensors), "sha256": layer.sha256}
                for layer in control.layers.layers
            ],
            "versions": [{"name": version.name, "extends": version.extends} for version in level.versions],
            "supplements": [
                {"kind": one.kind, "tensor": one.tensor, "source": one.source} for one in level.supplements
            ],
            "removed": list(level.removed),
        }
        if control.model is not None:
            result["control_data"]["info"] = control.model.json()
        if control.data_set is not None:
            result["control_data"]["data_set"] = control.data_set.json()
    return result


def _tensor(unit: Unit, header: DataUnitHeader, place: int, name: str, record: TensorRecord | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "offset": unit.offset,
        "bytes": unit.size,
        "payload": PayloadType(header.nnr_compressed_data_unit_payload_type).name,
        "shape": list(header.dimensions_of(place)),
        "dq": bool(header.dq_flag),
        "codebook": header.codebook is not None and place == 0,
        "scan_order": header.scan_order,
        "depth": header.put_node_depth,
    }
    if record is not None:
        found["type"] = record.parameter_type
        found["sha256"] = record.sha256
        found["order"] = record.order.kind.value
        if record.shape is not None:
            found["shape"] = list(record.shape)
        if record.dtype is not None:
            found["dtype"] = record.dtype
        if record.inference is not None:
            found["inference"] = record.inference.name
        if record.options:
            found["options"] = [option.json() for option in record.options]
    return found


def render(found: dict[str, Any]) -> Group:
    """The table."""
    table = Table(box=None, pad_edge=False)
    for column in ("offset", "bytes"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("unit", "tensor", "shape", "coding", "sha256"):
        table.add_column(column, no_wrap=column != "tensor", overflow="fold")
    by_offset: dict[int, list[dict[str, Any]]] = {}
    for tensor in found["tensors"]:
        by_offset.setdefault(tensor["offset"], []).append(tensor)
    for unit in found["units"]:
        first = (str(unit["offset"]), str(unit["bytes"]), unit["type"])
        inside = by_offset.get(unit["offset"], [])
        if not inside:
            table.add_row(*first)
        for number, tensor in enumerate(inside):
            row = first if number == 0 else ("", "", "")
            shape = " x ".join(map(str, tensor["shape"]))
            table.add_row(*row, Text(tensor["name"]), shape, _coding(tensor), tensor.get("sha256", "")[:16])
    return Group(table, Text(), *(Text(line) for line in _summary(found)))


def _coding(tensor: dict[str, Any]) -> str:
    words = [tensor["payload"]]
    if tensor.get("qp") is not None:
        words.append(f"qp {tensor['qp']}")
    words += [word for word, there in (("dq", tensor["dq"]), ("codebook", tensor["codebook"])) if there]
    if tensor["scan_order"]:
        words.append(f"scan {tensor['scan_order']}")
    if tensor.get("order", "row") != "row":
        words.append(tensor["order"])
    words += [tensor[key] for key in ("dtype", "inference") if key in tensor]
    return " ".join(words)


def _summary(found: dict[str, Any]) -> list[str]:
    kind = "an update" if found["update"] else "a model"
    count = len(found["tensors"])
    unchecked = found.get("unchecked")
    checked = [] if unchecked is None else ["everything was decoded, and every hash checked"]
    if unchecked:
        checked = [f"not checked, coded against the update before: {', '.join(unchecked)}"]
    lines = [
        f"{kind} of {found['bytes']} bytes, {count} tensors, qp {found['qp']} with density {found['qp_density']}, "
        f"profile {found['profile']}"
    ]
    control = found["control_data"]
    if control is None:
        return [*lines, *checked, "no control data: another encoder's stream"]
    levels = ", ".join(f"{one['level']} {one['what']} {one['bytes']} B" for one in control["levels"])
    lines.append(f"control data: {levels}")
    lines.append(f"model {control['model']}")
    lines += [f"{key} {control[key]}" for key in ("base", "result") if control[key] is not None]
    for version in control["versions"]:
        over = f" over {version['extends']}" if version["extends"] else ""
        lines.append(f"version {version['name']}{over}")
    lines += [f"supplement {one['kind']} of {one['tensor']}" for one in control["supplements"]]
    return [*lines, *checked]
