"""Boxes of one's own: annotations, JSONL, a run, mAP, answers everywhere, and export."""

import json

import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax.data.scenes import COLORS, SceneSource
from pgjax.demo.answering import Models
from pgjax.demo.questions import Question

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Scenes of the quickstart as photographs with COCO annotations; objects go by colour."""
    folder = tmp_path_factory.mktemp("photos")
    source = SceneSource("own", style="rich", tasks=("caption",), max_shapes=2)
    ids = {name: i for i, name in enumerate(COLORS, 1)}
    content = {
        "images": [], "annotations": [],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }  # fmt: skip
    for i in range(600):
        example, shapes = source.draw(i)
        Image.fromarray(example["image"]).save(folder / f"{i:04}.png")
        content["images"].append({"id": i, "file_name": f"{i:04}.png", "width": 64, "height": 64})
        for shape in shapes:
            y0, x0, y1, x1 = (2 * v for v in shape.box)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]), "image_id": i,
                    "category_id": ids[shape.color], "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def run(photos, command, tmp_path_factory):
    """A run through forkme, and its mAP before and after."""
    fname = photos / "objects.jsonl"
    command(
        "-m", "pgjax", "make-jsonl", photos / "instances.json", "--images", photos, "--out", fname
    )
    workdir = tmp_path_factory.mktemp("runs") / "own"
    command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny,steps=250",
        f"--workdir={workdir}", f"--config.input.data.fname={fname}",
        "--config.evals.answers.metric.name=mean_average_precision", "--config.eval_first=True",
        "--config.model.remat=none", "--config.frozen_dtype=float32",
        timeout=500,
    )  # fmt: skip
    return workdir


def test_average_precision_rises(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [line["answers/mAP"] for line in lines if "answers/mAP" in line]
    assert len(scores) >= 2
    assert scores[-1] > max(0.3, scores[0] + 0.2), scores


def test_it_answers_everywhere(run, photos, command, tmp_path):
    line = json.loads((photos / "objects.jsonl").read_text().splitlines()[0])
    image, label = photos / line["image"], line["labels"][0]
    found = pgjax.load(run).detect(image, label)
    assert [x.label for x in found] == [label] * len(found) and found
    assert all(0 < x.score <= 1 and max(x.box) <= 64 for x in found)

    out = tmp_path / "out.jsonl"
    command(
        "-m", "pgjax.predict", f"--run={run}", f"--image={image}", "--task=detect",
        f"--prompt={label}", f"--pictures={tmp_path}", f"--out={out}",
    )  # fmt: skip
    said = json.loads(out.read_text())
    assert [x["label"] for x in said["objects"]] == [x.label for x in found]
    np.testing.assert_allclose([x["box"] for x in said["objects"]], [x.box for x in found])

    question = Question(image.read_bytes(), image.name, f"detect {label}", length=32)
    *_, result = Models(None).ask(str(run), question)
    assert result.text == said["prediction"]
    assert result.found.draw(colors=result.colors).size == (64, 64)


@pytest.mark.torch
def test_transformers_loads_the_export(run, photos, command, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    command("-m", "pgjax", "convert", run, tmp_path / "hf", "--dtype=float32")
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "hf")
    line = json.loads((photos / "objects.jsonl").read_text().splitlines()[0])
    mine = pgjax.load(run)
    want = mine.generate(photos / line["image"], line["prefix"], max_new_tokens=12)
    with Image.open(photos / line["image"]) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float32) / 127.5 - 1
    tokenizer = mine.context.tokenizer
    ids = tokenizer.encode(line["prefix"], bos=True) + tokenizer.encode("\n")
    ids = [model.config.image_token_index] * 64 + ids
    with torch.no_grad():
        out = model.eval().generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=torch.tensor(pixels.transpose(2, 0, 1)[None]),
            max_new_tokens=12, do_sample=False,
        )  # fmt: skip
    assert tokenizer.decode(out[0, len(ids) :].tolist()) == want
