"""Broken input ends in one clear sentence, a non-zero exit and an intact workdir."""

import concurrent.futures
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from conftest import GOLDEN, PHOTOS, TESTS
from PIL import Image

CONFIG = "--config=transfers/forkme.py:variant=tiny,steps=2"
SMALL = (
    "--config.input.batch_size=2",
    "--config.evals.answers.max_new_tokens=2",
    "--config.init=",
)


def png_header(width, height):
    """A PNG that claims to be large."""
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + data))
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + data + crc
    return header + struct.pack(">I", 4) + b"IDAT" + bytes(8)


def lines(path, *rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def cases(tmp):
    """name -> (module, argv, what stderr must say, largest file in bytes or None)."""
    photo = (PHOTOS / "flower.jpg").read_bytes()
    (tmp / "whole.jpg").write_bytes(photo)
    (tmp / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    (tmp / "bomb.png").write_bytes(png_header(100_000, 100_000))
    (tmp / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp / "empty.jpg").touch()
    good = {"image": "whole.jpg", "suffix": "a flower"}

    def data(name, *rows):
        return f"--config.input.data.fname={lines(tmp / name, *rows)}"

    def bad_image(image):
        return data(f"{image.replace('/', '_')}.jsonl", *[{**good, "image": image}] * 20)

    photos = f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}"
    golden = GOLDEN / "params.npz"
    (tmp / "cut.npz").write_bytes(golden.read_bytes()[:5000])
    np.savez(tmp / "foreign.npz", weights=np.zeros(3))
    (tmp / "typo.py").write_text(
        "from pgjax.recipes import default_config\n"
        "def get_config():\n    c = default_config()\n    c.learning_rate = 1.0\n    return c\n"
    )
    (tmp / "syntax.py").write_text("def get_config(:\n")
    (tmp / "occupied").write_text("not a folder")
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")

    train = "pgjax.train"
    return {
        "missing file": (train, ["--config.input.data.fname=none.jsonl"], r"none\.jsonl .*read"),
        "no file given": (train, [], r"fname is empty; set config\.input\.data\.fname"),
        "bad JSON line": (train, [data("bad.jsonl", *[good, "{oops"] * 9)],
                          r"bad\.jsonl:\d+: .*not JSON"),
        "line without image": (train, [data("noimage.jsonl", *[{"suffix": "x"}] * 20)],
                               r"noimage\.jsonl:\d+: .*has no 'image'"),
        "missing image": (train, [bad_image("gone.jpg")], r"jsonl:\d+: image .*gone\.jpg"),
        "truncated JPEG": (train, [bad_image("cut.jpg")], r"jsonl:\d+: .*decode.*truncated"),
        "empty image": (train, [bad_image("empty.jpg")], r"jsonl:\d+: .*decode"),
        "not an image": (train, [bad_image("drawing.svg")], r"jsonl:\d+: .*decode"),
        "decompression bomb": (train, [bad_image("bomb.png")], r"jsonl:\d+: .*pixels"),
        "path outside root": (train, [bad_image("../whole.jpg")], r"outside"),
        "empty data set": (train, [data("empty.jsonl")], r"empty\.jsonl holds no example"),
        "empty split": (train, [photos, "--config.input.data.split=train[5:5]"], r"is empty"),
        "bad split": (train, [photos, "--config.input.data.split=train[:ten]"], r"train\[:ten\]"),
        "text too long": (train, [data("long.jsonl", *[{**good, "suffix": "word " * 200}] * 20)],
                          r"long\.jsonl:\d+: .*text_len"),
        "unknown op": (train, [photos, "--config.input.pp=decode|resise(64)"],
                       r"resise.*did you mean.*resize"),
        "wrong op argument": (train, [photos, "--config.input.pp=decode|resize(64, antalias=1)"],
                              r"op 2.*antalias"),
        "image size": (train, [photos, "--config.model.res=72"], r"shape \(64, 64, 3\).*res 72"),
        "wrong config key": (train, [photos, "--config.optimiser.lr=1"], r"optimiser"),
        "key nobody reads": (train, [f"--config={tmp / 'typo.py'}"],
                             r"config\.learning_rate is not a known key"),
        "config missing": (train, ["--config=transfers/forkmee.py"], r"forkmee\.py"),
        "config syntax": (train, [f"--config={tmp / 'syntax.py'}"], r"syntax"),
        "config argument": (train, ["--config=transfers/forkme.py:varient=tiny"],
                            r"'varient' is unknown"),
        "unknown flag": (train, [photos, "--workdirr=x"], r"--workdirr .*--workdir\?"),
        "mis-shaped checkpoint": (train, [photos, f"--config.init={golden}"],
                                  r"does not fit the model"),
        "truncated npz": (train, [photos, f"--config.init={tmp / 'cut.npz'}"],
                          r"cut\.npz .*truncated"),
        "foreign npz": (train, [photos, f"--config.init={tmp / 'foreign.npz'}"],
                        r"foreign\.npz is no PaliGemma: "),
        "missing checkpoint": (train, [photos, "--config.init=pt224"],
                               r"neither a path nor a released name. Did you mean 'pt-224'"),
        "checkpoint of other sizes": (train, [photos, "--config.init=pt-224"],
                                      r"config\.init is 'pt-224', whose img .* 'So400m/14'"),
        "batch not divisible": (train, [photos, "--config.grad_accum_steps=3"],
                                r"batch_size is 2; expected a multiple of"),
        "mesh": (train, [photos, "--config.mesh.model=3"], r"does not fit 1 device"),
        "nothing trains": (train, [photos, "--config.trainable=(('.*',False),)"],
                           r"freezes every parameter"),
        "dead rule": (train, [photos, "--config.trainable=(('lm/.*',False),('.*',True))"],
                      r"'lm/\.\*' matches no parameter"),
        "vocabulary": (train, [photos, f"--config.tokenizer={PHOTOS / 'photos.jsonl'}"],
                       r"photos\.jsonl"),
        "workdir is a file": (train, [photos, f"--workdir={tmp / 'occupied'}"], r"occupied"),
        "loss not finite": (train, [photos, "--config.optimizer.lr=1e30",
                                    "--config.schedule.warmup_percent=0.0",
                                    "--config.total_steps=6"],
                            r"stopped at step \d+, because .*Last good checkpoint"),
        "no space left": (train, [photos], r"checkpoint.*could not be saved", 300_000),
        "not a run": ("pgjax.predict", [f"--run={tmp}", f"--image={PHOTOS}"],
                      r"is not of a known checkpoint format"),
        "nothing to predict": ("pgjax.predict", [f"--run={tmp}", f"--image={tmp}/none"],
                               r"none does not exist"),
        "unknown sampler": ("pgjax.predict", [f"--run={tmp}", f"--image={PHOTOS}",
                                              "--sampler=beem"], r"sampler 'beem'"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(command, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("broken")
    todo = []
    table = cases(tmp)
    for name, (module, argv, _, *limit) in table.items():
        if module == "pgjax.train":
            own = {arg.split("=")[0] for arg in argv}
            common = [CONFIG] * ("--config" not in own) + [*SMALL] * ("--config" not in own)
            workdir = [f"--workdir={tmp / 'runs' / name.replace(' ', '_')}"]
            argv = [*common, *workdir * ("--workdir" not in own), *argv]
        todo.append({"module": module, "argv": argv, "max_file": limit[0] if limit else None})

    def half(start):
        """Every other one; two run at a time."""
        out = tmp / f"outcomes_{start}.json"
        given = json.dumps(todo[start::2])
        command(TESTS / "broken_driver.py", out, input=given, timeout=900)
        return json.loads(out.read_text())

    results = [None] * len(todo)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results[::2], results[1::2] = pool.map(half, (0, 1))
    return tmp, dict(zip(table, results, strict=True)), table


def test_at_least_twenty_kinds(outcomes):
    assert len(outcomes[1]) >= 20


@pytest.mark.parametrize(
    "name", cases(__import__("pathlib").Path(__import__("tempfile").mkdtemp()))
)
def test_one_sentence(outcomes, name):
    tmp, results, table = outcomes
    result = results[name]
    errors = [line for line in result["stderr"].splitlines() if line.startswith("error: ")]
    assert result["status"] not in (0, None), result
    assert result["status"] > 0, result
    assert "Traceback" not in result["stderr"], result["stderr"]
    text = result["stderr"][result["stderr"].index("error: ") :] if errors else ""
    assert len(errors) == 1, result["stderr"]
    assert re.search(table[name][2], text, re.DOTALL), text
    workdir = tmp / "runs" / name.replace(" ", "_")
    if workdir.exists():  # nothing half-written under a final name, nothing left over
        assert not list(workdir.rglob("*.part"))
        for step in (workdir / "checkpoints").glob("step_*"):
            assert (step / "_CHECKPOINT_METADATA").exists()
