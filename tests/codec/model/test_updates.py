"""Updates: applied to the right base alone, in order, and to the same numbers at both ends."""

import numpy as np
import pytest
from codec.model.models import both_cores, changed, same, small_model

from featlink_codec.errors import StreamError
from featlink_codec.model import EncodeSettings, ModelStream, TensorSettings, apply_update, encode, encode_update, twin
from featlink_codec.model.syntax import UnitType


def chain(core, count=3, settings=None):
    """A base, and updates each made in the light of the ones before."""
    base = encode(small_model(), core=core)
    made, contexts, updates = base, {}, []
    for seed in range(count):
        update = encode_update(
            made.tensors, made.model_sha256, changed(made.tensors, seed), settings, contexts, core=core
        )
        updates.append(update)
        made, contexts = update, update.contexts
    return base, updates


@both_cores
def test_a_chain_of_updates_leads_to_the_same_tensors_at_both_ends(core):
    base, updates = chain(core)
    tensors, identity, contexts = base.tensors, base.model_sha256, {}
    for update in updates:
        got = apply_update(tensors, identity, ModelStream(update.data, core=core), contexts)
        same(got.tensors, update.tensors)
        assert got.model_sha256 == update.model_sha256
        tensors, identity, contexts = got.tensors, got.model_sha256, got.contexts
    assert len({base.model_sha256, *(update.model_sha256 for update in updates)}) == 4


def test_updates_use_the_updates_before_them():
    _, updates = chain(twin, settings=EncodeSettings(weights=TensorSettings(qp=-44)))
    flags = []
    for update in updates:
        stream = ModelStream(update.data, core=twin)
        headers = [stream.header(unit) for unit in stream.units() if unit.unit_type is UnitType.NDU]
        assert all(header.parent_node_id_present_flag for header in headers)
        flags.append({header.put_node_depth for header in headers if header.tensor_dimensions == [10, 3, 3, 3]})
    assert flags == [{1}, {2}, {3}]


def test_temporal_context_is_used_where_it_pays():
    """Two updates that change the same places by the same sign."""
    rng = np.random.default_rng(0)
    base = {"w": np.zeros((40, 40), np.float32)}
    direction = ((rng.random((40, 40)) < 0.1) * rng.choice([-1, 1], (40, 40)) * 0.5).astype(np.float32)
    first = encode_update(base, "0" * 64, {"w": direction}, core=twin)
    second = encode_update(first.tensors, first.model_sha256, {"w": 2 * direction}, None, first.contexts, core=twin)
    alone = encode_update(first.tensors, first.model_sha256, {"w": 2 * direction}, core=twin)
    stream = ModelStream(second.data, core=twin)
    unit, plain = list(stream.units())[-1], list(ModelStream(alone.data, core=twin).units())[-1]
    assert stream.header(unit).temporal_context_modeling_flag == 1
    assert unit.size < 0.75 * plain.size


def test_what_does_not_change_is_not_sent_and_stays():
    base = encode(small_model(), core=twin)
    wanted = dict(base.tensors)
    wanted["fc.weight"] = wanted["fc.weight"] + np.float32(0.25)
    update = encode_update(base.tensors, base.model_sha256, wanted, core=twin)
    stream = ModelStream(update.data, core=twin)
    assert stream.names() == ["fc.weight"]
    got = apply_update(base.tensors, base.model_sha256, stream)
    assert all(got.tensors[name] is base.tensors[name] for name in base.tensors if name != "fc.weight")
    assert np.abs(got.tensors["fc.weight"] - wanted["fc.weight"]).max() < 0.01


def test_tensors_may_come_go_and_change_shape():
    base = encode(small_model(), core=twin)
    wanted = dict(base.tensors)
    del wanted["mask"]
    wanted["fc.weight"] = np.ones((20, 13), np.float32)
    wanted["new"] = np.arange(12, dtype=np.int64)
    wanted["scalar"] = np.array(9, np.int32)
    update = encode_update(base.tensors, base.model_sha256, wanted, core=twin)
    got = apply_update(base.tensors, base.model_sha256, ModelStream(update.data, core=twin))
    assert set(got.tensors) == set(wanted)
    assert got.tensors["fc.weight"].shape == (20, 13)
    assert (got.tensors["new"] == wanted["new"]).all()
    assert got.tensors["new"].dtype == np.int64
    assert (got.tensors["scalar"], got.tensors["scalar"].shape) == (9, ())


def test_the_wrong_base_is_refused_and_nothing_is_changed():
    base, (first, second, _) = chain(twin)
    before = {name: tensor.copy() for name, tensor in base.tensors.items()}
    stream = ModelStream(first.data, core=twin)
    with pytest.raises(StreamError, match=rf"wrong-base.*{base.model_sha256}.*{'0' * 64}"):
        apply_update(base.tensors, "0" * 64, stream)
    with pytest.raises(StreamError, match="wrong-base"):
        apply_update(base.tensors, base.model_sha256, ModelStream(second.data, core=twin))
    # The right identity, but tensors that somebody has touched.
    touched = dict(base.tensors)
    touched["fc.weight"] = touched["fc.weight"] + np.float32(1)
    with pytest.raises(StreamError, match=r"wrong-base.*hash of the result"):
        apply_update(touched, base.model_sha256, stream)
    touched["fc.weight"] = touched["fc.weight"][:5]
    with pytest.raises(StreamError, match=r"wrong-base.*'fc.weight'"):
        apply_update(touched, base.model_sha256, stream)
    del touched["fc.weight"]
    with pytest.raises(StreamError, match=r"wrong-base.*'fc.weight'"):
        apply_update(touched, base.model_sha256, stream)
    same(base.tensors, before)


def test_a_missing_context_is_named():
    rng = np.random.default_rng(0)
    direction = ((rng.random((40, 40)) < 0.1) * 0.5).astype(np.float32)
    base = {"w": np.zeros((40, 40), np.float32)}
    first = encode_update(base, "0" * 64, {"w": direction}, core=twin)
    second = encode_update(first.tensors, first.model_sha256, {"w": 2 * direction}, None, first.contexts, core=twin)
    third = encode_update(second.tensors, second.model_sha256, {"w": 3 * direction}, None, second.contexts, core=twin)
    with pytest.raises(StreamError, match=r"missing-context.*'w'"):
        apply_update(first.tensors, first.model_sha256, ModelStream(second.data, core=twin))
    with pytest.raises(StreamError, match=r"wrong-base.*depth \(0, 0, 3\)"):
        apply_update(second.tensors, second.model_sha256, ModelStream(third.data, core=twin), first.contexts)


def test_a_model_is_no_update():
    base = encode(small_model(), core=twin)
    with pytest.raises(StreamError, match="not-an-update"):
        apply_update(base.tensors, base.model_sha256, ModelStream(base.data, core=twin))


def test_integers_are_updated_exactly_and_within_their_type():
    base = {"k": np.array([0, 250, 7] * 9, np.uint8), "l": np.arange(30, dtype=np.int64)}
    wanted = {"k": np.array([255, 0, 8] * 9, np.uint8), "l": np.arange(30, dtype=np.int64) * -70000}
    update = encode_update(base, "0" * 64, wanted, core=twin)
    got = apply_update(base, "0" * 64, ModelStream(update.data, core=twin))
    same(got.tensors, wanted)
