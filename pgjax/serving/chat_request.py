"""The body of a request to `/v1/chat/completions`, checked: anybody may send anything."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pgjax.decoding.continuous import MOST_TOPS
from pgjax.errors import UserError
from pgjax.inference.prompts import clean_prompt
from pgjax.schema import field, parse, shown

MOST_CHOICES = 8  # answers to one request
_MOST_STOPS = 4
_MOST_SEED = 2**31 - 1

# Parameters of OpenAI's that change no answer of a model like this.
_WITHOUT_EFFECT = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "parallel_tool_calls",
}  # fmt: skip
# Parameters that would change it, and the values with which they do not.
_UNCHANGED: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
}


@dataclasses.dataclass(frozen=True)
class _StreamOptions:
    include_usage: bool = False
    include_obfuscation: bool = False


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """The parameters of a request; those of OpenAI's that are missing here are refused."""

    model: str
    messages: Sequence[Any] = field(empty=False, expected="a list of one message")
    max_tokens: int | None = field(None, at_least=1)
    max_completion_tokens: int | None = field(None, at_least=1)
    temperature: float | None = field(None, at_least=0, at_most=2)
    top_p: float | None = field(None, above=0, at_most=1)
    seed: int | None = field(None, at_least=0, at_most=_MOST_SEED)
    stop: str | Sequence[str] = ()
    n: int = field(1, at_least=1, at_most=MOST_CHOICES)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: int = field(0, at_least=0, at_most=MOST_TOPS)

    def __post_init__(self) -> None:
        """Checks what parameters are to each other.

        Raises:
          UserError: they do not go together.
        """
        if self.top_logprobs and not self.logprobs:
            raise UserError("request.top_logprobs needs logprobs to be true.")
        if self.stream_options and not self.stream:
            raise UserError("request.stream_options needs stream to be true.")
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise UserError("request.max_tokens and max_completion_tokens differ, give one.")
        if len(self.stops) > _MOST_STOPS or not all(self.stops):
            raise UserError(
                f"request.stop is {shown(self.stop)}; expected up to {_MOST_STOPS} texts that are "
                "not empty."
            )

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def longest(self) -> int | None:
        """The longest answer in tokens, where it is given."""
        return self.max_tokens or self.max_completion_tokens

    @property
    def heat(self) -> float:
        """The temperature: where none is given 0, as `pgjax.load` answers, but 1 with top_p."""
        if self.temperature is None:
            return 0.0 if self.top_p is None else 1.0
        return self.temperature


def read_request(body: bytes) -> ChatRequest:
    """Parses a body.

    Raises:
      UserError: it is not JSON, a parameter has another type or is out of range, or a parameter
        that would change the answer is not supported.
    """
    try:
        given = json.loads(body, parse_constant=_refused)
    except (ValueError, RecursionError) as e:
        raise UserError(f"The body is not JSON ({str(e)[:80]}).") from None
    if not isinstance(given, dict):
        raise UserError(f"The body is {shown(given)}; expected a JSON object.")
    given = {k: v for k, v in given.items() if v is not None and k not in _WITHOUT_EFFECT}
    for name, values in _UNCHANGED.items():
        if name in given and given.pop(name) not in values:
            raise UserError(f"request.{name} is not supported; PaliGemma has no such thing.")
    return parse(ChatRequest, given, "request")


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def read_messages(messages: Sequence[Any]) -> tuple[str | None, str]:
    """The prompt and the image's URL of a conversation, which is one message with one image.

    A prompt is what the checkpoint was tuned on: the text as it is, without a template around it.

    Returns:
      (the prompt, or None where there is no text; the URL of the image).

    Raises:
      UserError: there is something else.
    """
    for i, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role != "user" or len(messages) > 1:
            what = f"of the role {shown(role)}" if role != "user" else "of several"
            raise UserError(
                f"request.messages[{i}] is one {what}; PaliGemma answers one prompt about one "
                "image and knows no system message and no earlier turns, expected one message of "
                "the role 'user'."
            )
    content = messages[0].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise UserError(
            f"request.messages[0].content is {shown(content)}; expected a list of a part "
            "'image_url' and a part 'text'."
        )
    texts, images = [], []
    for i, part in enumerate(parts):
        where = f"request.messages[0].content[{i}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            texts.append(_text(part, "text", where))
        elif kind == "image_url":
            image = part.get("image_url")
            if not isinstance(image, Mapping):
                raise UserError(f"{where}.image_url is {shown(image)}; expected an object.")
            images.append(_text(image, "url", f"{where}.image_url"))
        else:
            raise UserError(
                f"{where} is {shown(part)}; expected a part of type 'text' or 'image_url'."
            )
    if len(images) != 1 or len(texts) > 1:
        raise UserError(
            f"request.messages[0].content has {len(images)} images and {len(texts)} texts; "
            "expected one image and one text."
        )
    prompt = clean_prompt(texts[0]) if texts else ""
    return prompt or None, images[0]


def _text(part: Mapping[str, Any], name: str, where: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise UserError(f"{where}.{name} is {shown(value)}; expected text.")
    return value
