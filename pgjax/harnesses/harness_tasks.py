"""Which config a harness's benchmark is asked by, and its questions as examples of that config."""

import pathlib
import re
import string
from collections.abc import Mapping
from typing import Any

from pgjax.checkpoints import released
from pgjax.metrics.choices import answer_letter

# The harness's name of a benchmark, in lower case without "_" and "-" -> the config.
_CONFIGS = {
    "ai2d": "ai2d",
    "aokvqa": "aokvqa_mc",
    "chartqa": "chartqa",
    r"coco\d*(cap|karpathy)?": "cococap",
    "countbenchqa": "countbenchqa",
    "docvqa": "docvqa",
    "gqa": "gqa",
    "infovqa": "infovqa",
    "nocaps": "nocaps",
    "ocrvqa": "ocrvqa",
    "okvqa": "okvqa",
    "pope": "pope",
    "scienceqa": "science_qa",
    "stvqa": "stvqa",
    "tallyqa": "tallyqa",
    "textcaps": "textcaps",
    "textvqa": "textvqa",
    "vizwiz(vqa)?": "vizwizvqa",
    "vqav2": "vqav2",
}
# What may follow the name: splits and parts, which are asked alike.
_PARTS = r"(adv|balanced|core|dev|full|img|lite|mini|nomask|pop|random|test|train|val|2014|2017)*"
_ASK = "answer en {question}"  # how checkpoints of many tasks have learned to be asked
_QUESTION = re.compile(r"strfmt\('(answer en )?\{question\}', 'prefix'\)")
_OPTIONS = ("choices", "options")  # columns that hold a list


def config_of(benchmark: str) -> str:
    """The config of a harness's benchmark, such as `docvqa` of `DocVQA_VAL`; "" for none."""
    name = re.sub("[-_]", "", benchmark.lower())
    return next((c for pattern, c in _CONFIGS.items() if re.fullmatch(pattern + _PARTS, name)), "")


def prompt_operations(config: str, prompt: str, checkpoint: str) -> str:
    """The operations that make the prompt with which a checkpoint was tuned on such questions.

    A released checkpoint that was tuned on questions is asked every question as in its own tuning,
    those of POPE excepted, whose published scores are of the question alone.

    Args:
      config: from `config_of`; "" for a benchmark without one.
      prompt: the config's operations; "" where there is no config.
      checkpoint: what is asked: a released name, or anything else.
    """
    release = released.get(pathlib.PurePath(checkpoint).name)
    if not prompt:
        return f"strfmt({_ASK!r}, 'prefix')"
    if release is None or config == "pope" or not _QUESTION.fullmatch(prompt):
        return prompt
    own = f"strfmt({release.prompt or _ASK!r}, 'prefix')"
    return own if _QUESTION.fullmatch(own) else prompt


def example_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The example that a harness's row is to the config: question, hint and options, where known.

    Args:
      row: lmms-eval's document, or VLMEvalKit's line, which has an option in each column A, B, ….
    """
    example: dict[str, Any] = {"hint": _text(row.get("hint"))}
    if question := _text(row.get("question")):
        example["question"] = question
    options = next((row[key] for key in _OPTIONS if row.get(key) is not None), None)
    if options is None:
        options = filter(None, (_text(row.get(letter)) for letter in string.ascii_uppercase))
    if options := [str(option) for option in options]:
        example |= {"choices": options, "correct": 0}  # the right one is the harness's business
    return example


def harness_answer(config: str, text: str, example: Mapping[str, Any]) -> str:
    """An answer as the harness scores it: the letter of an option where it lists them by letters.

    Args:
      config: from `config_of`.
      text: the checkpoint's answer: "The answer is B." on ScienceQA, else an option's text.
      example: from `example_of`.

    Returns:
      The letter, or the text where it is none of the options.
    """
    if config == "science_qa":
        return (answer_letter(text) or "").upper() or text
    options = [option.strip().lower() for option in example.get("choices", ())]
    said = text.strip().lower()
    return string.ascii_uppercase[options.index(said)] if said in options else text


def _text(value: Any) -> str:
    """The text of a cell; "" for None and for an empty cell, which pandas reads as NaN."""
    return "" if value is None or value != value else str(value)
