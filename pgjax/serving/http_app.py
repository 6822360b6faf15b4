"""The HTTP interface: requests are checked and limited, and answers go back as they are made."""

import asyncio
import contextlib
import dataclasses
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pgjax.access import OwnPagesOnly
from pgjax.errors import UserError
from pgjax.inference.prompts import answer_length
from pgjax.inference.sent_images import MOST_BYTES
from pgjax.serving.chat_answer import ChatAnswer, error_body, to_json
from pgjax.serving.chat_request import ChatRequest, read_messages, read_request
from pgjax.serving.engine import FAILED, STOPPED, Engine, Job, Progress, QueueFull
from pgjax.serving.prompt_reader import PromptReader
from pgjax.serving.row_programs import Inputs
from pgjax.text.tokenizer import Tokenizer

MOST_BODY = MOST_BYTES * 4 // 3 + 100_000  # bytes: an image in base64, and the rest
_MOST_BODIES = 10 * MOST_BODY  # bytes of all bodies that are being received or read
_BODY_SECONDS = 30  # that a client may take to send a body
_READING = 4  # bodies that are decoded at the same time

# The types of OpenAI's errors, by status; those of the client's have a common one.
_TYPES = {404: "invalid_request_error", 429: "rate_limit_error"}
_FAULTS = {500: "server_error", 503: "server_error", 504: "timeout_error"}


class Refused(Exception):
    """An answer that says what is wrong, with its status."""

    def __init__(self, status: int, message: str, **details: str) -> None:
        """Keeps what `error_body` is made of."""
        super().__init__(message)
        self.status, self.details = status, details

    def response(self) -> Response:
        """The answer."""
        kind = (_TYPES | _FAULTS).get(self.status, "invalid_request_error")
        body = error_body(str(self), kind, **self.details)
        headers = {"retry-after": "1"} if self.status in (429, 503) else None
        return _json(body, self.status, headers)


class _Gone(Exception):
    """The client has left."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may take.

    Attributes:
      answer_tokens: of the longest answer.
      seconds: from its arrival to the end of its answer.
    """

    answer_tokens: int
    seconds: float


class ChatApi:
    """The interface of one model under one name."""

    def __init__(
        self,
        engine: Engine,
        reader: PromptReader,
        tokenizer: Tokenizer,
        *,
        name: str,
        image_tokens: int,
        limits: Limits,
        api_key: str | None,
    ) -> None:
        """Takes what answers.

        Args:
          engine: that generates.
          reader: of prompts and images.
          tokenizer: of the model.
          name: of the model, which requests must give.
          image_tokens: of an image, for the count of what was used.
          limits: of requests.
          api_key: that requests must send; None for none.
        """
        self._engine, self._reader, self._tokenizer = engine, reader, tokenizer
        self._name, self._image_tokens, self._limits = name, image_tokens, limits
        self._api_key = api_key
        self._started = int(time.time())
        self._bytes = 0
        self._reading = asyncio.Semaphore(_READING)

    def app(self, names: frozenset[str]) -> Starlette:
        """The application, which may be asked under these names."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ],
            middleware=[Middleware(_ApiGuard, names=names, command="pgjax serve")],
            exception_handlers={
                Refused: _refusal,
                HTTPException: _refusal,
                Exception: _refusal,
            },
        )

    async def health(self, request: Request) -> Response:
        """Whether answers are generated, and how many are and wait; needs no key."""
        alive = self._engine.is_alive()
        running, waiting = self._engine.counts()
        state = {"status": "ok" if alive else "stopping", "running": running, "waiting": waiting}
        return _json(to_json(state), 200 if alive else 503)

    async def models(self, request: Request) -> Response:
        """The one model."""
        self._check_key(request)
        return _json(to_json({"object": "list", "data": [self._described()]}))

    async def model(self, request: Request) -> Response:
        """The model of a name."""
        self._check_key(request)
        self._check_name(request.path_params["name"])
        return _json(to_json(self._described()))

    async def chat(self, request: Request) -> ASGIApp:
        """Answers a question; the end of the time that it has is the end of every wait in it."""
        self._check_key(request)
        end = asyncio.get_running_loop().time() + self._limits.seconds
        async with contextlib.AsyncExitStack() as call:
            try:
                async with asyncio.timeout_at(end):
                    asked, inputs = await self._read(request)
                    answer = self._answer_to(asked, inputs)
                    feed = await call.enter_async_context(self._submitted(request, asked, inputs))
                    if asked.stream:
                        first = await anext(feed)  # what fails until then has a status
                        return _Stream(answer, first, feed, end, call.pop_all())
                    found = {i: progress async for i, progress in feed}
            except TimeoutError:
                raise self._late() from None
            except (_Gone, ClientDisconnect):
                return Response(status_code=499)  # nobody reads it
        return _json(to_json(answer.whole([found[i] for i in range(asked.n)])))

    def _answer_to(self, asked: ChatRequest, inputs: Inputs) -> ChatAnswer:
        tokens = int(inputs["mask_input"].sum()) + self._image_tokens
        return ChatAnswer(asked, self._tokenizer, tokens)

    def _late(self) -> Refused:
        return Refused(
            504, f"The answer was not complete within {self._limits.seconds:g} s (--time_limit)."
        )

    def _check_key(self, request: Request) -> None:
        if self._api_key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(key.strip().encode(), self._api_key.encode())
        if scheme.lower() != "bearer" or not same:
            raise Refused(401, "The request lacks this server's key.", code="invalid_api_key")

    def _check_name(self, name: str) -> None:
        if name != self._name:
            what = f"The model {name[:80]!r} is not served here, expected {self._name!r}."
            raise Refused(404, what, param="model", code="model_not_found")

    def _described(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._started, "owned_by": "pgjax"}

    async def _read(self, request: Request) -> tuple[ChatRequest, Inputs]:
        """Receives the body, and reads what it asks.

        Raises:
          Refused: something that cannot be asked.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in request.stream():
                    body += part
                    self._bytes += len(part)
                    if len(body) > MOST_BODY:
                        raise Refused(413, f"The body is larger than {MOST_BODY / 1e6:.0f} MB.")
                    if self._bytes > _MOST_BODIES:
                        raise Refused(429, "The server receives more than it can take now.")
            if self._engine.is_full():  # before images are decoded
                raise Refused(429, "As many answers wait as may; ask again later.")
            async with self._reading:
                return await asyncio.to_thread(self._understood, bytes(body))
        except TimeoutError:
            raise Refused(408, f"The body did not come within {_BODY_SECONDS} s.") from None
        finally:
            self._bytes -= len(body)

    def _understood(self, body: bytes) -> tuple[ChatRequest, Inputs]:
        """Runs in a thread, because images take time."""
        try:
            asked = read_request(body)
            self._check_name(asked.model)
            if (asked.longest or 0) > self._limits.answer_tokens:
                raise Refused(
                    400,
                    f"max_tokens is {asked.longest}; this server answers with at most "
                    f"{self._limits.answer_tokens} tokens (--longest_answer).",
                    param="max_tokens",
                )
            prompt, url = read_messages(asked.messages)
            if asked.longest is None:
                longest = min(answer_length(prompt), self._limits.answer_tokens)
                asked = dataclasses.replace(asked, max_tokens=longest)
            return asked, self._reader.inputs(prompt, url)
        except UserError as e:
            said = str(e).removeprefix("request.")
            param = said.partition(" ")[0]  # which the message begins with
            raise Refused(400, said, **({"param": param} if said != str(e) else {})) from None
        except RecursionError:
            raise Refused(400, "The body is nested too deeply.") from None

    @contextlib.asynccontextmanager
    async def _submitted(
        self, request: Request, asked: ChatRequest, inputs: Inputs
    ) -> AsyncIterator[AsyncIterator[tuple[int, Progress]]]:
        """What is generated for a request; it is cancelled where the block ends before.

        Yields:
          An iterator over (choice, its progress), which raises `_Gone` when the client leaves.

        Raises:
          Refused: too many wait, or, from the iterator, generation fails.
        """
        news: asyncio.Queue[tuple[int, Progress] | None] = asyncio.Queue()
        jobs = _jobs(asked, inputs, news)
        try:
            self._engine.submit(jobs)
        except QueueFull as e:
            raise Refused(429, str(e)) from None
        except UserError as e:
            raise Refused(503, str(e)) from None
        watch = asyncio.create_task(_watch(request, news))
        try:
            yield _feed(news, len(jobs))
        finally:
            watch.cancel()
            self._engine.cancel(jobs)


class _ApiGuard(OwnPagesOnly):
    """Refuses in JSON."""

    def refusal(self, problem: str) -> tuple[str, bytes]:
        """The content type and the body that say what is wrong."""
        return "application/json", error_body(problem, "invalid_request_error")


class _Stream:
    """An answer that is told as it is made, as server-sent events."""

    def __init__(
        self,
        answer: ChatAnswer,
        first: tuple[int, Progress],
        feed: AsyncIterator[tuple[int, Progress]],
        end: float,
        call: contextlib.AsyncExitStack,
    ) -> None:
        """Takes over the request.

        Args:
          answer: its form.
          first: of what the feed gave.
          feed: the rest.
          end: of its time, by the clock of the event loop.
          call: is left when the stream ends.
        """
        self._answer, self._first, self._feed, self._end = answer, first, feed, end
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends everything."""

        async def tell(chunks: Sequence[dict[str, Any]], more: bool = True) -> None:
            data = b"".join(b"data: %s\n\n" % to_json(chunk) for chunk in chunks)
            data += b"" if more else b"data: [DONE]\n\n"
            await send({"type": "http.response.body", "body": data, "more_body": more})

        async with self._call:
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            try:
                async with asyncio.timeout_at(self._end):
                    await tell(self._answer.opening() + self._answer.chunks(*self._first))
                    async for index, progress in self._feed:
                        await tell(self._answer.chunks(index, progress))
                    await tell(self._answer.closing(), more=False)
            except _Gone:
                return
            except (TimeoutError, Refused) as e:
                late = "The answer was not complete in time (--time_limit)."
                body = error_body(late if isinstance(e, TimeoutError) else str(e), "server_error")
                async with asyncio.timeout(1):  # the client may not read at all
                    data = b"data: %s\n\n" % body
                    await send({"type": "http.response.body", "body": data})


def _jobs(
    asked: ChatRequest, inputs: Inputs, news: "asyncio.Queue[tuple[int, Progress] | None]"
) -> list[Job]:
    loop = asyncio.get_running_loop()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed

    def job(index: int) -> Job:
        def tell(progress: Progress) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(news.put_nowait, (index, progress))

        return Job(
            inputs=inputs,
            limit=asked.longest or 1,
            tell=tell,
            streams=asked.stream,
            stop=asked.stops,
            temperature=asked.heat,
            top_p=asked.top_p or 1.0,
            seed=seed,
            place=index,
            tops=asked.top_logprobs > 0,
        )

    return [job(i) for i in range(asked.n)]


async def _watch(request: Request, news: "asyncio.Queue[tuple[int, Progress] | None]") -> None:
    """Tells when the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    news.put_nowait(None)


async def _feed(
    news: "asyncio.Queue[tuple[int, Progress] | None]", count: int
) -> AsyncIterator[tuple[int, Progress]]:
    """Yields what is told of `count` choices, until all have ended."""
    while count:
        found = await news.get()
        if found is None:
            raise _Gone
        if problem := found[1].problem:
            raise Refused(503 if problem == STOPPED else 500, problem)
        count -= found[1].ended
        yield found


async def _refusal(request: Request, e: Exception) -> Response:
    """What an exception is to the client."""
    if isinstance(e, HTTPException):
        e = Refused(e.status_code, f"{e.detail}.")
    return (e if isinstance(e, Refused) else Refused(500, FAILED)).response()


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
