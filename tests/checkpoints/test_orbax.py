"""Training checkpoints: what is kept, what comes back, and what an interruption leaves."""

import gc
import logging
import random
import re
import shutil
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import sharding
from pgjax.checkpoints import resume
from pgjax.checkpoints.resume import Checkpoints, abstract_like
from pgjax.errors import UserError


def trees_at(step):
    """Parameters and the rest of a state; every number tells the step."""
    everywhere = sharding.replicated(sharding.make_mesh())
    params = {
        "llm/w": jnp.full((3, 4), step, jnp.float32),
        "llm/layers/attn/w": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3) * step,
    }
    moments = {name: 10 * x for name, x in params.items()}
    train = {
        "opt_state": ({"count": jnp.int32(step), "mu": moments}, ()),
        "step": jnp.int32(step),
        "key": jnp.asarray([1, step], jnp.uint32),
    }
    return jax.device_put((params, train), everywhere)


def save(checkpoints, step):
    params, train = trees_at(step)
    checkpoints.save(step, params, train, {"position": step * 100, "names": ["a", "b"]})


def steps(workdir):
    return sorted(int(p.name.split("_")[1]) for p in (workdir / "checkpoints").glob("step_*"))


def same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert g.dtype == w.dtype and g.sharding == w.sharding
        np.testing.assert_array_equal(g, w)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run directory with a checkpoint of step 5."""
    workdir = tmp_path_factory.mktemp("run")
    checkpoints = Checkpoints(workdir)
    save(checkpoints, 5)
    checkpoints.close()
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def test_everything_comes_back(saved):
    checkpoints = Checkpoints(saved)
    assert checkpoints.latest() == 5
    params, train = trees_at(5)
    got_params, got_train, data = checkpoints.restore(
        5, abstract_like(params), abstract_like(train)
    )
    checkpoints.close()
    same(got_params, params)
    same(got_train, train)
    assert data == {"position": 500, "names": ["a", "b"]}


def test_parameters_alone_and_in_another_dtype(saved):
    checkpoints = Checkpoints(saved)
    params, _ = trees_at(5)
    same(checkpoints.restore_params(5, abstract_like(params)), params)
    half = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    same(checkpoints.restore_params(5, abstract_like(half)), half)
    checkpoints.close()


def test_nothing_there(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    params, _ = trees_at(1)
    with pytest.raises(UserError, match="step_3 cannot be read"):
        checkpoints.restore_params(3, abstract_like(params))
    checkpoints.close()


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "left"),
    [(1, None, [6]), (2, 0, [5, 6]), (1, 2, [2, 4, 6]), (2, 3, [3, 5, 6])],
)
def test_what_is_kept(tmp_path, keep_last, keep_every, left):
    checkpoints = Checkpoints(tmp_path, keep_last=keep_last, keep_every=keep_every)
    for step in range(1, 7):
        save(checkpoints, step)
    checkpoints.close()
    assert steps(tmp_path) == left
    again = Checkpoints(tmp_path, keep_last=keep_last, keep_every=keep_every)
    params, train = trees_at(left[0])
    got, _, data = again.restore(left[0], abstract_like(params), abstract_like(train))
    again.close()
    same(got, params)
    assert data["position"] == left[0] * 100


def test_an_interrupted_save_is_ignored_and_cleared(workdir):
    """What a kill leaves is a folder under the temporary name, of a save that got half way."""
    folder = workdir / "checkpoints"
    tmp = folder / "step_9.orbax-checkpoint-tmp"
    shutil.copytree(folder / "step_5", tmp)
    shutil.rmtree(tmp / "train")
    checkpoints = Checkpoints(workdir)
    assert checkpoints.latest() == 5
    deadline = time.monotonic() + 10  # it is cleared in the background
    while tmp.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [p.name for p in folder.iterdir()] == ["step_5"]
    save(checkpoints, 9)  # the same step again
    checkpoints.close()
    assert steps(workdir) == [9]
    params, train = trees_at(9)
    got, *_ = Checkpoints(workdir).restore(9, abstract_like(params), abstract_like(train))
    same(got, params)


@pytest.fixture
def leftovers(monkeypatch):
    """orbax leaves coroutines behind when one of several reads fails; they complain as they go."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    yield
    for _ in range(10):  # some are held by threads that are just ending
        gc.collect()
        time.sleep(0.05)


def wrong(params, change):
    params = dict(params)
    if change == "shape":
        params["llm/w"] = jnp.zeros((4, 4))
    elif change == "rank":
        params["llm/w"] = jnp.zeros(12)
    elif change == "missing":
        del params["llm/w"]
    else:
        params["llm/new"] = jnp.zeros(3)
    return params


@pytest.mark.parametrize("change", ["shape", "rank", "missing", "extra"])
def test_what_does_not_fit_is_an_error(saved, change, leftovers):
    checkpoints = Checkpoints(saved)
    abstract = abstract_like(wrong(trees_at(5)[0], change))
    with pytest.raises(UserError, match=r"step_5 cannot be read, or does not fit this config \(.+"):
        checkpoints.restore_params(5, abstract)
    checkpoints.close()


def test_a_damaged_checkpoint_is_an_error(workdir, leftovers):
    for path in (workdir / "checkpoints" / "step_5" / "params").rglob("*"):
        if path.is_file() and "metadata" not in path.name.lower():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checkpoints = Checkpoints(workdir)
    with pytest.raises(UserError, match="step_5 cannot be read"):
        checkpoints.restore_params(5, abstract_like(trees_at(5)[0]))
    checkpoints.close()


def test_a_failed_save_names_the_last_good_one(workdir, monkeypatch):
    checkpoints = Checkpoints(workdir)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full_disk)
    with pytest.raises(UserError, match=r"step 7 could not be saved.*No space.*step_5"):
        save(checkpoints, 7)
    checkpoints.close()
    assert steps(workdir) == [5]


def test_a_slow_disk_holds_up_the_next_save_and_nothing_else(workdir, monkeypatch):
    write, slow = resume.write_checksums, threading.Event()

    def write_slowly(folder):
        assert slow.wait(60)
        write(folder)

    monkeypatch.setattr(resume, "write_checksums", write_slowly)
    checkpoints = Checkpoints(workdir, keep_last=3)
    save(checkpoints, 6)
    checkpoints.check()  # which a step calls; it does not wait
    assert not checkpoints.verifiable(6)
    slow.set()
    save(checkpoints, 7)
    assert checkpoints.verifiable(6)
    checkpoints.close()
    assert steps(workdir) == [5, 6, 7] and not checkpoints.damage(7)


@pytest.mark.parametrize("notice", ["check", "save", "wait", "close"])
def test_a_save_that_fails_in_the_background_is_told_once(workdir, monkeypatch, notice):
    """With the step whose save failed, and at the first occasion."""
    checkpoints = Checkpoints(workdir)

    def full_disk(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pgjax.checkpoints.resume.write_checksums", full_disk)
    save(checkpoints, 7)
    call = {"save": lambda: save(checkpoints, 8)}.get(notice, getattr(checkpoints, notice))
    deadline = time.monotonic() + 20
    with pytest.raises(UserError, match=r"of step 7 could not be saved.*\(No space left on devic"):
        while time.monotonic() < deadline:
            call()
    checkpoints.wait()
    checkpoints.close()


def test_a_flipped_byte_in_any_file_is_damage(workdir):
    folder, rng = workdir / "checkpoints" / "step_5", random.Random(0)
    checkpoints = Checkpoints(workdir)
    assert checkpoints.damage(5) == ""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 15
    for path in files:
        whole = path.read_bytes()
        for place in rng.sample(range(len(whole)), min(len(whole), 20)):
            data = bytearray(whole)
            data[place] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            assert checkpoints.damage(5) != "", (path, place)
        path.write_bytes(whole)
    assert checkpoints.damage(5) == ""
    checkpoints.close()


def test_what_does_not_fit_is_told_by_name(saved):
    checkpoints = Checkpoints(saved)
    params, train = trees_at(5)
    assert checkpoints.mismatch(5, params, train) == ""
    told = {
        "shape": r"1 have another shape, such as params/llm/w: \(3, 4\) in the .*, \(4, 4\) in",
        "missing": r"1 arrays are in the checkpoint only, such as params/llm/w",
        "extra": r"1 arrays are in this run only, such as params/llm/new",
    }
    for change, text in told.items():
        assert re.search(text, checkpoints.mismatch(5, wrong(params, change), train))
    assert "train/opt_state" in checkpoints.mismatch(5, params, {**train, "opt_state": ()})
    checkpoints.close()


def test_a_checkpoint_set_aside_is_out_of_the_way(workdir):
    checkpoints = Checkpoints(workdir, keep_last=3)
    save(checkpoints, 9)
    checkpoints.wait()
    new = checkpoints.set_aside(9, "damaged")
    checkpoints.reload()
    assert checkpoints.steps() == [5] and new.is_dir() and new.name == "damaged_step_9"
    save(checkpoints, 7)
    save(checkpoints, 9)
    checkpoints.close()
    assert steps(workdir) == [5, 7, 9]


def test_a_relative_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("run")
    save(checkpoints, 2)
    checkpoints.close()
    assert steps(tmp_path / "run") == [2]


def global_state():
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    return sys.unraisablehook, [(x.level, x.disabled, list(x.filters)) for x in loggers]


@pytest.mark.parametrize("read_only", [False, True])
def test_loggers_and_hooks_stay_as_they_are(workdir, read_only):
    before = global_state()
    checkpoints = Checkpoints(workdir, read_only=read_only)
    assert global_state() == before
    checkpoints.restore_params(5, abstract_like(trees_at(5)[0]))
    if not read_only:
        save(checkpoints, 6)
        checkpoints.wait()
        assert global_state() == before
        save(checkpoints, 7)
    checkpoints.close()
    assert global_state() == before


FULL_DISK = """
import logging, resource, signal, sys
import jax, jax.numpy as jnp
from pgjax import sharding
from pgjax.checkpoints.resume import Checkpoints
from pgjax.errors import UserError

def global_state():
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    return sys.unraisablehook, [(x.level, list(x.filters)) for x in loggers]

before = global_state()
checkpoints = Checkpoints(sys.argv[1])
params = {f"w{i}": jax.random.normal(jax.random.key(i), (1024, 512)) for i in range(4)}
params = jax.device_put(params, sharding.replicated(sharding.make_mesh()))
checkpoints.save(1, {"w": params["w0"][:4]}, {"step": jnp.int32(1)}, {})
checkpoints.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    checkpoints.save(2, params, {"step": jnp.int32(2)}, {})
    logging.getLogger("absl").error("another message")
    checkpoints.wait()
except UserError as e:
    print(e)
checkpoints.close()
assert global_state() == before
"""


def test_a_failed_write_is_one_sentence(command, tmp_path):
    """orbax's threads would print a traceback for each write; messages of others pass."""
    done = command("-c", FULL_DISK, tmp_path)
    assert re.fullmatch(
        r"The checkpoint of step 2 could not be saved under .* \(File too large\); the newest good "
        r"checkpoint is .*/step_1\.\n",
        done.stdout,
    )
    assert [line for line in done.stderr.splitlines() if line] == ["ERROR:absl:another message"]
