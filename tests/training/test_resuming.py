"""From which checkpoint a run goes on, if some are damaged or others are asked for."""

import random
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import sharding
from pgjax.checkpoints.resume import Checkpoints
from pgjax.errors import UserError
from pgjax.training.resuming import resume
from pgjax.training.state import TrainState, resumable_state

# orbax leaves coroutines and files behind when one of several reads fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state_at(step, shape=(3, 4), optimizer="adam"):
    params = {"llm/w": jnp.full(shape, step, jnp.float32)}
    moments = {"mu": params, "nu": params} if optimizer == "adam" else {"trace": params}
    everywhere = sharding.replicated(sharding.make_mesh())
    return TrainState(
        *jax.device_put(
            (params, (moments, ()), jnp.int32(step), jnp.zeros(2, jnp.uint32)), everywhere
        )
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run directory with checkpoints of the steps 10, 20 and 30."""
    workdir = tmp_path_factory.mktemp("run")
    checkpoints = Checkpoints(workdir, keep_last=3)
    for step in (10, 20, 30):
        state = state_at(step)
        checkpoints.save(step, state.params, resumable_state(state), {"examples": 4 * step})
    checkpoints.close()
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def go_on(workdir, resume_from=None, changed="", **kwargs):
    """(step of the parameters, position in the data, names of the folders that are left)."""
    checkpoints = Checkpoints(workdir, keep_last=3)
    try:
        found = resume(checkpoints, state_at(0, **kwargs), changed, resume_from)
    finally:
        checkpoints.close()
    if found is None:
        return None
    state, position = found
    np.testing.assert_array_equal(state.params["llm/w"], np.full((3, 4), int(state.step)))
    return int(state.step), position, sorted(p.name for p in (workdir / "checkpoints").iterdir())


def test_the_newest_and_none(workdir, tmp_path, capsys):
    assert go_on(workdir) == (30, {"examples": 120}, ["step_10", "step_20", "step_30"])
    assert "NOTE" not in capsys.readouterr().out
    assert go_on(tmp_path / "new") is None


def biggest(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "checksums.txt")
    return max(files, key=lambda p: p.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 16
    path.write_bytes(data)


DAMAGES = {
    "a truncated file": lambda f: biggest(f).write_bytes(biggest(f).read_bytes()[:50]),
    "an empty file": lambda f: biggest(f).write_bytes(b""),
    "a missing file": lambda f: biggest(f).unlink(),
    "all files empty": lambda f: [p.write_bytes(b"") for p in f.rglob("*") if p.is_file()],
    "missing parameters": lambda f: shutil.rmtree(f / "params"),
    "a missing state": lambda f: shutil.rmtree(f / "train"),
    "a missing position": lambda f: shutil.rmtree(f / "data"),
    "an empty folder": lambda f: [shutil.rmtree(f), f.mkdir()],
    "a flipped byte of an array": lambda f: flip(biggest(f / "params" / "ocdbt.process_0" / "d")),
    "a flipped byte of the position": lambda f: flip(f / "data" / "metadata"),
    "a flipped byte of the checksums": lambda f: flip(f / "checksums.txt"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(workdir, damage, capsys):
    DAMAGES[damage](workdir / "checkpoints" / "step_30")
    left = ["damaged_step_30", "step_10", "step_20"]
    assert go_on(workdir) == (20, {"examples": 80}, left)
    said = capsys.readouterr().out
    assert re.search(
        r"NOTE: checkpoint step_30 is damaged \(.+\); it is now .*damaged_step_30", said
    )
    assert go_on(workdir) == (20, {"examples": 80}, left)


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_checksums_damage_is_found_by_reading(workdir, damage):
    """Checkpoints of a run that was killed as it wrote them; a flipped byte may pass unseen."""
    if "flipped" in damage:
        return
    folder = workdir / "checkpoints" / "step_30"
    (folder / "checksums.txt").unlink()
    DAMAGES[damage](folder)
    assert go_on(workdir)[0] == 20


def test_a_position_without_examples(workdir):
    folder = workdir / "checkpoints" / "step_30"
    (folder / "checksums.txt").unlink()
    (folder / "data" / "metadata").write_text('{"batches": 3}')
    assert go_on(workdir)[0] == 20


def test_a_whole_one_without_checksums_is_restored_with_a_note(workdir, capsys):
    (workdir / "checkpoints" / "step_30" / "checksums.txt").unlink()
    assert go_on(workdir)[0] == 30
    assert "step_30 has no checksums" in capsys.readouterr().out


def test_if_all_are_damaged_the_run_does_not_start_anew(workdir):
    for folder in (workdir / "checkpoints").iterdir():
        DAMAGES["a missing file"](folder)
    with pytest.raises(
        UserError, match=r"No checkpoint under .* can be restored \(step_30: .*miss"
    ):
        go_on(workdir)
    assert len(list((workdir / "checkpoints").glob("step_*"))) == 3


def test_one_that_is_asked_for(workdir, capsys):
    left = ["step_10", "unused_step_20", "unused_step_30"]
    assert go_on(workdir, resume_from=10) == (10, {"examples": 40}, left)
    assert "step_30 is not gone on from; it is now" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--resume_from is 20, but .* of the steps \[10\]"):
        go_on(workdir, resume_from=20)


def test_a_damaged_one_that_is_asked_for_is_an_error(workdir):
    DAMAGES["a missing file"](workdir / "checkpoints" / "step_20")
    with pytest.raises(UserError, match=r"can be restored \(step_20: .* is missing\)"):
        go_on(workdir, resume_from=20)


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"shape": (3, 5)}, r"3 have another shape, such as params/llm/w: \(3, 4\) in the"),
        (
            {"optimizer": "momentum"},
            r"2 arrays are in the checkpoint only, such as train/opt_state",
        ),
    ],
)
def test_what_the_config_changed_is_told(workdir, kwargs, told):
    changed = "config.optimizer.name was 'adam', is 'momentum'"
    with pytest.raises(UserError, match=rf"step_30 does not fit this config: {told}.*") as e:
        go_on(workdir, changed=changed, **kwargs)
    assert f"(since the run was started, {changed}); go on with the config" in str(e.value)
    assert len(list((workdir / "checkpoints").glob("step_*"))) == 3
