"""Prompts as users write them, made into those that the model was trained on."""

import re
from collections.abc import Sequence
from typing import TypeVar

from pgjax.errors import note

Prompt = TypeVar("Prompt", str, str | None)

# Tokens of an answer: by the first word of the prompt, room for ten objects; else the last value.
ANSWER_LENGTHS = {"detect": 128, "segment": 320}
ANSWER_LENGTH = 64
OBJECT_LENGTH = 13  # tokens of a box and its label

# What the processor of transformers puts around a prompt, and what its users therefore write.
_MARKERS = re.compile(r"\s*(?:(?:<image>|<bos>)\s*)+")


def answer_length(prompt: str | None, objects: int = 0) -> int:
    """The longest answer to a prompt, in tokens, where the caller names none.

    Args:
      prompt: the prompt.
      objects: how many objects the answer lists; 0 for any number.
    """
    if objects:
        return objects * OBJECT_LENGTH
    words = (prompt or "").split(maxsplit=1)
    return ANSWER_LENGTHS.get(words[0], ANSWER_LENGTH) if words else ANSWER_LENGTH


def clean_prompt(prompt: str) -> str:
    """Leaves out `<image>`, `<bos>` and line breaks at the end, which pgjax adds by itself."""
    if _MARKERS.search(prompt):
        prompt = _MARKERS.sub(" ", prompt).strip(" ")
    return prompt.rstrip("\r\n")


def clean_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Cleans each prompt, and says so where one changes; None stays None."""
    cleaned = [None if p is None else clean_prompt(p) for p in prompts]
    changed = [(old, new) for old, new in zip(prompts, cleaned, strict=True) if old != new]
    if changed:
        old, new = changed[0]
        note(
            f"the prompt {old!r} was read as {new!r}: <image>, <bos> and line breaks at the end "
            "are left out, because pgjax adds them itself."
        )
    return cleaned  # pyright: ignore[reportReturnType]  # None only where there was None


def with_verb(verb: str, prompt: str) -> str:
    """Puts `detect` or `segment` in front of a prompt that does not begin with it."""
    return f"{verb} {prompt.removeprefix(f'{verb} ')}"
