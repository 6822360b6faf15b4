"""Records for the command line: files, objects, pictures."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PHOTOS, ROOT
from PIL import Image

import pgjax
from pgjax.data.scenes import SceneSource
from pgjax.errors import UserError
from pgjax.inference.images import PromptedImages
from pgjax.inference.prediction_file import as_line
from pgjax.inference.prediction_records import image_files, records


def test_files(tmp_path):
    for name in ("b.jpg", "a.PNG", "deep/c.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [p.name for p in image_files(str(tmp_path))]
    assert names == ["a.PNG", "b.jpg", "c.webp"]
    assert [p.name for p in image_files(str(tmp_path / "*.jpg"))] == ["b.jpg"]
    assert [p.name for p in image_files(str(tmp_path / "**" / "*.webp"))] == ["c.webp"]
    with pytest.raises(UserError, match=r"none\.jpg does not exist"):
        image_files(str(tmp_path / "none.jpg"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        image_files(str(tmp_path / "empty"))


def test_objects_and_pictures(tmp_path):
    source = SceneSource("predict", tasks=("detect",), max_shapes=1, style="plain", wording="pt")
    scenes = [source[i] for i in range(3)]
    asked = PromptedImages([s["image"] for s in scenes], [s["prefix"] for s in scenes])
    options = {"task": "detect", "pictures": tmp_path, "max_new_tokens": 16}
    found = list(records(pgjax.load("tiny"), asked, **options))
    for i, (scene, record) in enumerate(zip(scenes, found, strict=True)):
        assert record["where"] == f"image {i}" and record["prefix"] == scene["prefix"]
        (thing,) = record["objects"]
        assert thing["label"] == scene["labels"][0] and 0 < thing["score"] <= 1
        np.testing.assert_allclose(thing["box"], np.array(scene["boxes"][0]) * 64, atol=4)
        drawn = np.asarray(Image.open(record["picture"]))
        assert drawn.shape == (64, 64, 3) and (drawn != scene["image"]).any()
        assert json.loads(as_line(record))["objects"] == record["objects"]


def test_the_command_line(tmp_path):
    """A folder, objects and pictures to files, from a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pgjax.predict", "--checkpoint=tiny", f"--image={PHOTOS}"]
    command += ["--task=detect", "--prompt=red circle", "--max_new_tokens=8"]
    command += [f"--out={tmp_path / 'out.jsonl'}", f"--pictures={tmp_path / 'drawn'}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == len(image_files(str(PHOTOS))) == len(list((tmp_path / "drawn").iterdir()))
    assert all(line["prefix"] == "detect red circle" for line in lines)
    assert f"{len(lines)} answers in" in done.stderr


@pytest.mark.parametrize(
    ("args", "message", "status"),
    [
        (["--image=x.jpg", "--checkpoint=tiny"], "--image x.jpg does not exist", 1),
        (["--image=.", "--jsonl=x", "--checkpoint=tiny"], "either --image or --jsonl", 2),
        (["--image=tests/photos"], "either --checkpoint or --run", 2),
        (["--image=tests/photos", "--checkpoint=pt-2240"], "Did you mean 'pt-224'", 1),
        (
            ["--image=tests/photos", "--checkpoint=tiny", "--pictures=x"],
            "--pictures needs --task",
            2,
        ),
    ],
)
def test_mistakes(args, message, status, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pgjax.predict", *args]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status and message in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough():
    """As in `python -m pgjax.predict --list | head`."""
    command = [sys.executable, "-m", "pgjax.predict", "--list"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
