"""Which config a harness's benchmark is asked by, with which prompt, and how answers go back."""

import pytest

from pgjax.commands.config_files import packaged_configs
from pgjax.harnesses.harness_tasks import (
    _CONFIGS,
    config_of,
    example_of,
    harness_answer,
    prompt_operations,
)

ALONE = "strfmt('{question}', 'prefix')"
ANSWER = "strfmt('answer en {question}', 'prefix')"
CAPTION = "strfmt('caption en', 'prefix')"


def test_configs_exist():
    assert set(_CONFIGS.values()) <= set(packaged_configs())


@pytest.mark.parametrize(
    ("benchmark", "config"),
    [
        ("vqav2_val_lite", "vqav2"), ("ok_vqa_val2014", "okvqa"), ("docvqa_test", "docvqa"),
        ("coco2017_cap_val", "cococap"), ("coco_karpathy_test", "cococap"), ("stvqa", "stvqa"),
        ("vizwiz_vqa_val", "vizwizvqa"), ("scienceqa_img", "science_qa"), ("pope_adv", "pope"),
        ("ai2d_no_mask", "ai2d"), ("gqa_lite", "gqa"),
        ("TextVQA_VAL", "textvqa"), ("InfoVQA_TEST", "infovqa"), ("OCRVQA_TESTCORE", "ocrvqa"),
        ("GQA_TestDev_Balanced", "gqa"), ("COCO_VAL", "cococap"), ("ScienceQA_TEST", "science_qa"),
        ("A-OKVQA", "aokvqa_mc"), ("VizWiz", "vizwizvqa"), ("CountBenchQA", "countbenchqa"),
        # Others, whose names only begin alike.
        ("chartqapro", ""), ("gqa_ru", ""), ("MMBench_DEV_EN", ""), ("mmvp", ""), ("", ""),
    ],
)  # fmt: skip
def test_config_of(benchmark, config):
    assert config_of(benchmark) == config


@pytest.mark.parametrize(
    ("config", "prompt", "checkpoint", "expected"),
    [
        ("docvqa", ALONE, "ft-docvqa-896", ALONE),
        ("docvqa", ALONE, "runs/mine", ALONE),
        ("docvqa", ALONE, "mix-448", ANSWER),
        ("docvqa", ALONE, "google/paligemma-3b-mix-448", ANSWER),
        ("chartqa", ALONE, "paligemma2-3b-mix-448", ANSWER),
        ("docvqa", ALONE, "ft-vqav2-448.bf16", ANSWER),
        ("stvqa", ANSWER, "ft-docvqa-448", ALONE),
        ("stvqa", ANSWER, "ft-stvqa-896", ANSWER),
        ("stvqa", ANSWER, "ft-cococap-448", ANSWER),
        ("pope", ALONE, "mix-448", ALONE),  # as its scores are published
        ("pope", ALONE, "ft-vqav2-448", ALONE),
        ("cococap", CAPTION, "mix-448", CAPTION),
        ("", "", "mix-448", ANSWER),
        ("", "", "runs/mine", ANSWER),
    ],
)
def test_checkpoints_are_asked_as_they_were_tuned(config, prompt, checkpoint, expected):
    assert prompt_operations(config, prompt, checkpoint) == expected


def test_example_of_a_document():
    document = {"question": "what?", "options": ["a", 2], "hint": None, "image": object()}
    assert example_of(document) == {
        "question": "what?", "hint": "", "choices": ["a", "2"], "correct": 0,
    }  # fmt: skip
    assert example_of({"answer": ["a caption"]}) == {"hint": ""}


def test_example_of_a_line_with_empty_cells():
    nan = float("nan")
    line = {"question": "what?", "hint": nan, "A": "red", "B": 3, "C": nan, "D": nan, "answer": "A"}
    assert example_of(line) == {
        "question": "what?", "hint": "", "choices": ["red", "3"], "correct": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ("science_qa", "The answer is b.", "B"),
        ("science_qa", "red", "red"),
        ("ai2d", "Blue ", "B"),
        ("ai2d", "green", "green"),
        ("vqav2", "red", "red"),
    ],
)
def test_options_go_back_as_letters(config, text, expected):
    choices = {} if config == "vqav2" else {"choices": ["red", "blue"]}
    assert harness_answer(config, text, choices) == expected
