"""What can be asked of each kind of checkpoint, in its own words."""

import json

import numpy as np
import pytest
from conftest import PHOTOS
from PIL import Image

from pgjax.checkpoints.released import RELEASES
from pgjax.data.scenes import SceneSource
from pgjax.demo.examples import examples_of
from pgjax.demo.tasks import OWN, read_prompt, tasks_of, translate

KINDS = ("tiny", "mix-224", "paligemma2-3b-pt-448", "ft-vqav2-448", "ft-docvqa-896",
         "ft-chartqa-448", "ft-cococap-224", "ft-refcoco-seg-448", "ft-science-qa-224",
         "ft-ai2d-448")  # fmt: skip


@pytest.mark.parametrize(
    "checkpoint, task, text, prompt",
    [
        ("mix-224", "caption", "", "caption de"),
        ("mix-224", "question", "how many bees?", "answer de how many bees?"),
        ("paligemma2-3b-mix-448", "detect", " bee ; flower ", "detect bee ; flower"),
        ("some/folder", "segment", "bee", "segment bee"),
        ("pt-448", "read", "", "ocr"),
        ("tiny", "caption", "", "caption"),
        ("tiny", "question", "count square", "count square"),
        ("tiny", "detect", "red circle", "detect red circle"),
        ("ft-vqav2-448", "question", "how many bees?", "answer de how many bees?"),
        ("downloads/paligemma-3b-ft-docvqa-448.npz", "question", "the sum?", "the sum?"),
        ("ft-refcoco-seg-448", "segment", "the left bee", "the left bee"),
        ("ft-cococap-448", "caption", "", "caption de"),
        ("mix-224", OWN, "describe {language}", "describe {language}"),
    ],
)
def test_prompts_are_in_the_checkpoints_language(checkpoint, task, text, prompt):
    written = tasks_of(checkpoint)[task].prompt(text, "de")
    assert written == prompt
    name, found, language = read_prompt(checkpoint, written)
    assert tasks_of(checkpoint)[name].prompt(found, language) == written


def test_checkpoints_of_one_task_offer_that_task():
    for name, release in RELEASES.items():
        offered = list(tasks_of(name))
        assert offered[-1] == OWN
        assert len(offered) == (2 if release.prompt else 6), name
    assert tasks_of("paligemma2-3b-ft-docci-448.b16.npz").keys() == {"caption", OWN}
    assert "read" not in tasks_of("tiny")


def test_the_same_question_for_another_checkpoint():
    assert translate("caption", "tiny", "mix-224") == "caption en"
    assert translate("caption fr", "mix-224", "tiny") == "caption"
    assert translate("answer en how many?", "mix-224", "ft-docvqa-448") == "how many?"
    assert translate("detect bee", "mix-224", "ft-vqav2-448") == "detect bee"  # has no such task
    assert translate("describe en", "mix-224", "tiny") == "describe en"


@pytest.mark.parametrize("checkpoint", KINDS)
def test_every_kind_of_checkpoint_has_examples(checkpoint, tmp_path):
    rows = examples_of(checkpoint, tmp_path)
    tasks = {read_prompt(checkpoint, prompt)[0] for _, prompt in rows}
    assert tasks == set(tasks_of(checkpoint)) - {OWN}
    for path, _ in rows:
        with Image.open(path) as picture:
            assert min(picture.size) >= 200


def test_examples_of_the_tiny_checkpoint_are_scenes_of_its_training(tmp_path):
    kinds = {prompt.split()[0] for _, prompt in examples_of("tiny", tmp_path)}
    source = SceneSource(tasks=("caption", "count", "color", "detect", "segment"), wording="pt")
    assert kinds == {source[i]["prefix"].split()[0] for i in range(5)}


def test_examples_of_a_run_are_from_its_data(tmp_path):
    from pgjax.commands.config_files import read_config
    from pgjax.config import parse_config, to_dict

    fname = str(PHOTOS / "photos.jsonl")
    config = read_config("forkme:variant=tiny", {"input.data.fname": fname})
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(to_dict(parse_config(config))))
    (run / "run.json").write_text(json.dumps({"format": 1, "trained": []}))
    lines = [json.loads(line) for line in (PHOTOS / "photos.jsonl").read_text().splitlines()]
    rows = examples_of(str(run), tmp_path / "examples")
    assert len(rows) == 6
    for path, prompt in rows:
        shown = np.asarray(Image.open(path))
        files = [PHOTOS / line["image"] for line in lines if line["prefix"] == prompt]
        assert any(np.array_equal(shown, np.asarray(Image.open(file))) for file in files)


def test_a_run_whose_data_is_gone_has_no_examples(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert examples_of(str(run), tmp_path / "examples") == []
    assert "there are no examples" in capsys.readouterr().err
