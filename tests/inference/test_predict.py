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
from pgjax.inference.prediction_file import PredictionFile, as_line
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


def test_what_folders_hold_beside_images(tmp_path, capsys):
    for name in ("a.tif", "b.JFIF", "c.avif", "d.png", "._A.PNG", "e.tiff", "sub/f.jpe"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "d.png")
    want = ["a.tif", "b.JFIF", "c.avif", "d.png", "e.tiff", "link.jpg", "f.jpe"]
    assert [p.name for p in image_files(str(tmp_path))] == want
    told = capsys.readouterr().err
    assert "1 folders are left out" in told and "._A.PNG" in told and "gone.jpg" in told
    assert [p.name for p in image_files(str(tmp_path / "*.jpg"))] == ["link.jpg"]
    with pytest.raises(UserError, match="of which none is a file"):
        image_files(str(tmp_path / "x.*"))


def test_the_file_of_predictions(tmp_path):
    path, identity = tmp_path / "out.jsonl", {"checkpoint": "tiny", "seed": 0}
    file = PredictionFile(path, identity, restart=False)
    file.add({"index": 2, "prediction": "größer \ud800"})
    file.add({"index": 0, "prediction": "b"})
    part = tmp_path / "out.jsonl.part"
    part.write_bytes(part.read_bytes() + b'{"index": 1, "predi')  # the process ended here
    again = PredictionFile(path, identity, restart=False)
    assert again.done == {0, 2} and not path.exists()
    again.add({"index": 1, "prediction": "c"})
    assert again.finish() == 3 and not part.exists()
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert lines[2]["prediction"] == "größer \ud800"
    with pytest.raises(UserError, match="exists already; --restart replaces it"):
        PredictionFile(path, identity, restart=False)
    PredictionFile(path, identity, restart=True)
    assert path.exists()  # until the new ones are there
    path.unlink()
    with pytest.raises(UserError, match="with seed 0, not 1"):
        PredictionFile(path, {**identity, "seed": 1}, restart=False)
    part.write_text("what is this")
    with pytest.raises(UserError, match="--restart discards it"):
        PredictionFile(path, identity, restart=False)
    with pytest.raises(UserError, match="does not exist"):
        PredictionFile(tmp_path / "no" / "out.jsonl", identity, restart=False)
    with pytest.raises(UserError, match="is a folder"):
        PredictionFile(tmp_path, identity, restart=False)


def test_bad_lines_are_skipped_and_work_goes_on(tmp_path, command):
    """A JSONL with a missing image: skipped, or the end; what is done is not done again."""
    scene = SceneSource("predict", tasks=("caption",), max_shapes=1)[0]
    Image.fromarray(scene["image"]).save(tmp_path / "a.png")
    names = ["a.png", "none.png", "a.png"]
    lines = [json.dumps({"image": name, "prefix": "caption"}) for name in names]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out.jsonl"
    args = ["-m", "pgjax.predict", "--checkpoint=tiny", f"--jsonl={tmp_path / 'in.jsonl'}"]
    args += [f"--out={out}", "--batch_size=1", "--max_new_tokens=3"]
    done = command(*args, check=False)
    assert done.returncode == 1 and "in.jsonl:2" in done.stderr and not out.exists()
    stored = out.with_name("out.jsonl.part").read_text().splitlines()
    assert len(stored) >= 1
    done = command(*args, "--on_bad_example=skip")
    assert "1 of" in done.stderr and "are left out" in done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in found] == [0, 2] and found[0]["ended"] is False
    assert found[0]["prediction"] == found[1]["prediction"]
    done = command(*args, check=False)
    assert done.returncode == 1 and "exists already" in done.stderr
    ascii_terminal = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    args[3] = f"--image={tmp_path / 'a.png'}"
    done = command(*args[:4], "--prompt=größer", "--task=detect", env=ascii_terminal)
    assert "größer" in done.stdout


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
