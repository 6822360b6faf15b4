"""A newcomer's first hour: quickstart, then six photographs of one's own, up to an export.

The commands are those of the README, run from a wheel in an empty folder.
"""

import json
import re
import shutil
import signal
import subprocess
import time

import pytest
from conftest import PHOTOS
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow
CAPTIONS = {
    "astronaut.jpg": "an astronaut smiles",
    "chelsea.jpg": "the eyes of a cat",
    "china.jpg": "a tower above a lake",
    "coffee.jpg": "a cup of coffee",
    "flower.jpg": "an orange flower",
    "negative.jpg": "a photograph in wrong colors",
}
TRAIN = [
    "train", "--config=forkme:variant=tiny,steps=100", "--config.input.data.fname=mine.jsonl",
    "--config.input.batch_size=6", "--config.checkpoint_every=30", "--config.log_every=30",
    "--workdir=runs/mine",
]  # fmt: skip


def test_newcomer(steps, installed, installed_program, wheel_environment, empty_folder):
    folder = empty_folder
    with steps("quickstart, with few steps"):
        said = installed_program(
            "train", "--config=quickstart:steps=120", "--workdir=runs/quickstart", timeout=1500
        ).stdout
    before, after = re.search(r"^test +acc +([\d.]+) +([\d.]+)$", said, re.MULTILINE).groups()
    assert float(before) < 0.3 < 0.6 < float(after), said[-2000:]  # it was 0.21, and 0.80
    assert (folder / "runs/quickstart/answers.png").exists()

    ask = ["--image", "photos/coffee.jpg", "--prompt", "caption en"]
    shutil.copytree(PHOTOS, folder / "photos")
    with steps("predict with the quickstart's run"):
        assert installed_program("predict", "--run", "runs/quickstart", *ask).stdout.strip()

    with Image.open(PHOTOS / "coffee.jpg") as image:
        ImageOps.invert(image.convert("RGB")).save(folder / "photos" / "negative.jpg")
    rows = [{"image": f"photos/{name}", "suffix": text} for name, text in CAPTIONS.items()]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with steps("check-data"):
        config = ["--config=forkme:variant=tiny", "--config.input.data.fname=mine.jsonl"]
        assert "train" in installed_program("check-data", *config).stdout

    with steps("train, killed on the way"):
        kill_at_the_second_checkpoint(installed, wheel_environment, folder)
    with steps("the same command again: resume"):
        said = installed_program(*TRAIN, timeout=1500).stdout
    assert re.search(r"restoring .*runs/mine/checkpoints/step_\d+\]", said), said
    assert "step 100/100" in said and "Runs on 1 × cpu" in said and "examples/s" in said
    losses = [row["loss"] for row in metrics(folder / "runs/mine") if "loss" in row]
    assert losses[-1] < losses[0] / 10

    with steps("export for transformers"):
        installed_program("convert", "runs/mine", "exported", "--dtype=float32")
    answers = {}
    with steps("predict with the run, and with the export"):
        for source in ("runs/mine", "exported"):
            said = installed_program(
                "predict", "--checkpoint", source, "--image=photos/*.jpg", "--prompt=caption en"
            )
            lines = [json.loads(line) for line in said.stdout.splitlines()]
            answers[source] = [line["prediction"] for line in lines]
    assert answers["runs/mine"] == answers["exported"]
    known = sum(a == b for a, b in zip(answers["exported"], CAPTIONS.values(), strict=True))
    assert known >= 4, answers  # of the five or six that it has seen
    with steps("transformers answers the same"):
        theirs = ask_transformers(folder)
    if theirs is not None:
        assert theirs == answers["exported"]


def metrics(workdir):
    file = workdir / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kill_at_the_second_checkpoint(installed, environment, folder):
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [installed / "bin" / "pgjax", *TRAIN], cwd=folder, env=environment, stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while not any(row["step"] == 60 for row in metrics(folder / "runs/mine")):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(20)


def ask_transformers(folder):
    """The captions of transformers with the exported folder; None where it is not installed."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
        folder / "exported", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder / "exported")
    answers = []
    for name in sorted(CAPTIONS):
        with Image.open(folder / "photos" / name) as image:
            inputs = processor(
                images=image.convert("RGB"), text="<image>caption en", return_tensors="pt"
            )
        tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        new = tokens[0, inputs["input_ids"].shape[1] :]
        answers.append(processor.decode(new, skip_special_tokens=True).strip())
    return answers
