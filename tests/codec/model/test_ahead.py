"""Units decoded by several threads: the same tensors in the same order, errors in their place, no more than agreed."""

import threading

import numpy as np
import pytest

from featlink_codec.errors import StreamError
from featlink_codec.model import ModelStream, encode
from featlink_codec.model.ahead import ahead


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_tensor_and_no_order(threads):
    rng = np.random.default_rng(3)
    tensors = {f"t{k}": rng.normal(0, 0.1, (40 + k, 30)).astype(np.float32) for k in range(9)}
    made = encode(tensors)
    found = ModelStream(made.data, threads=threads).tensors()
    assert list(found) == list(tensors)
    for name, values in found.items():
        assert values.tobytes() == made.tensors[name].tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_stands_before_damage_comes_out(threads):
    rng = np.random.default_rng(4)
    tensors = {f"t{k}": rng.normal(0, 0.1, (40, 30)).astype(np.float32) for k in range(6)}
    data = bytearray(encode(tensors).data)
    stream = ModelStream(bytes(data))
    unit = stream._index()["t3"][0]
    data[unit.offset + unit.size // 2] ^= 0x10
    tensors_out = ModelStream(bytes(data), threads=threads).each()
    assert [next(tensors_out)[0] for _ in range(3)] == ["t0", "t1", "t2"]
    with pytest.raises(StreamError):
        next(tensors_out)


def test_no_more_than_twice_the_threads_are_ahead():
    begun = []
    lock = threading.Lock()

    def do(thing):
        with lock:
            begun.append(thing)
        return thing

    found = ahead(do, range(20), 2)
    assert next(found) == 0
    assert len(begun) <= 5
    found.close()
    assert len(begun) <= 5
