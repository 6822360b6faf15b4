"""Answers in the form of OpenAI's chat completions."""

import dataclasses
import json
import re
import time
import uuid
from typing import Any

import pgjax
from pgjax.inference.answer import Answer, next_piece, read_answer
from pgjax.serving.chat_request import ChatRequest
from pgjax.serving.engine import Progress
from pgjax.text.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # the piece of a byte


def to_json(value: Any) -> bytes:
    """JSON in ASCII: what was sent may hold halves of surrogate pairs, which UTF-8 has not."""
    return json.dumps(value, separators=(",", ":")).encode()


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body of an answer that says what is wrong."""
    message = re.sub(r"^the ", "The ", message)  # of errors that elsewhere follow a file's name
    return to_json({"error": {"message": message, "type": kind, "param": param, "code": code}})


@dataclasses.dataclass
class _Told:
    """What a stream has told of one choice."""

    text: str = ""
    tokens: int = 0


class ChatAnswer:
    """The answer to one request."""

    def __init__(self, request: ChatRequest, tokenizer: Tokenizer, prompt_tokens: int) -> None:
        """Gives it an id.

        Args:
          request: that is answered.
          tokenizer: of the model.
          prompt_tokens: of image and text.
        """
        self._request, self._tokenizer, self._prompt_tokens = request, tokenizer, prompt_tokens
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": f"pgjax-{pgjax.__version__}",
        }
        self._told = [_Told() for _ in range(request.n)]
        self._counts = [0] * request.n

    def whole(self, found: list[Progress]) -> dict[str, Any]:
        """The body of an answer that is not streamed, from the progress of each choice."""
        choices = []
        for i, progress in enumerate(found):
            answer = self._read(i, progress)
            choices.append(
                {
                    "index": i,
                    "message": {"role": "assistant", "content": answer.text, "refusal": None},
                    "logprobs": self._logprobs(answer, progress, 0),
                    "finish_reason": _reason(answer),
                }
            )
        usage = self._usage()
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage}

    def opening(self) -> list[dict[str, Any]]:
        """The first chunks of a stream, which say whose words follow."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(i, delta) for i in range(self._request.n)]

    def chunks(self, index: int, progress: Progress) -> list[dict[str, Any]]:
        """The chunks of a stream that tell what is new of a choice."""
        told, answer = self._told[index], self._read(index, progress)
        if progress.ended:
            piece = answer.text[len(told.text) :]
        else:
            piece = next_piece(answer, self._request.stops, told.text)
        logprobs = self._logprobs(answer, progress, told.tokens)
        found = []
        if piece or (logprobs and logprobs["content"]):
            found.append(self._chunk(index, {"content": piece}, logprobs))
        told.text, told.tokens = told.text + piece, len(answer.tokens)
        if progress.ended:
            found.append(self._chunk(index, {}, reason=_reason(answer)))
        return found

    def closing(self) -> list[dict[str, Any]]:
        """The last chunk of a stream, where it was asked for: what was used."""
        options = self._request.stream_options
        if not (options and options.include_usage):
            return []
        kind = "chat.completion.chunk"
        return [{**self._head, "object": kind, "choices": [], "usage": self._usage()}]

    def _read(self, index: int, progress: Progress) -> Answer:
        tokens, logprobs, *_ = progress.found
        answer = read_answer(self._tokenizer, tokens, logprobs, self._request.stops)
        self._counts[index] = len(answer.tokens)
        return answer

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _usage(self) -> dict[str, int]:
        prompt, answers = self._prompt_tokens, sum(self._counts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answers,
            "total_tokens": prompt + answers,
        }

    def _logprobs(self, answer: Answer, progress: Progress, start: int) -> dict[str, Any] | None:
        """Log-probabilities of an answer's tokens from `start`, without that of eos."""
        if not self._request.logprobs:
            return None
        count, content = self._request.top_logprobs, []
        for i in range(start, len(answer.tokens)):
            if (token := int(answer.tokens[i])) == self._tokenizer.eos_id:
                break
            tops = zip(progress.found.top_tokens[i], progress.found.top_logprobs[i], strict=True)
            best = [self._token(int(t), float(p)) for t, p in list(tops)[:count]]
            content.append(self._token(token, float(answer.logprobs[i])) | {"top_logprobs": best})
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        piece = self._tokenizer.piece(token)
        if match := _BYTE.fullmatch(piece):
            return {"token": piece, "logprob": logprob, "bytes": [int(match[1], 16)]}
        text = piece.replace("\u2581", " ")
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _reason(answer: Answer) -> str:
    return "stop" if answer.ended else "length"
