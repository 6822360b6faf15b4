"""What a worker process sends is what it had, however it travels."""

import multiprocessing
import os

import numpy as np
import pytest

from pgjax.data.shared_batch import SharedBatch
from pgjax.errors import UserError


def arrays():
    return {
        "image": np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)[:, ::2],
        "text": np.array([[1, 2, 3]], np.int32),
        "none": np.zeros((0, 4), np.int32),
        "_mask": np.array([True, False, True]),
        "last": np.float32([0.5]),
    }


def send(queue, leave, wanting):
    if wanting == "memory":

        def refuse(*_):
            raise OSError("too many open files")

        os.memfd_create = refuse
    batch = SharedBatch({"x": np.array([{"a": 1}])} if wanting == "plain values" else arrays())
    queue.put(batch)
    leave.wait()


def received(wanting=""):
    """(the batch, a function that lets its sender end and waits for that)"""
    context = multiprocessing.get_context("spawn")
    queue, leave = context.Queue(), context.Event()
    worker = context.Process(target=send, args=(queue, leave, wanting))
    worker.start()

    def end():
        leave.set()
        worker.join()

    return queue.get(), end


@pytest.mark.parametrize("wanting", ["", "memory"])
def test_arrays_arrive(wanting):
    batch, end = received(wanting)
    found = batch.open()
    end()
    for name, x in arrays().items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape)
        np.testing.assert_array_equal(found[name], x)
        assert found[name].ctypes.data % 64 == 0 or wanting
        found[name][...] = 0  # nobody else's


def test_arrays_of_objects_arrive():
    batch, end = received("plain values")
    assert batch.open()["x"][0] == {"a": 1}
    end()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="arrays travel in the pipe")
def test_the_sender_has_ended():
    batch, end = received()
    end()
    with pytest.raises(
        UserError, match="A worker process was lost .*before its batch was received"
    ):
        batch.open()


def test_here_nothing_is_copied():
    mine = arrays()
    assert SharedBatch(mine).open() is mine
