"""Serves a model until the process is told to stop, and lets answers end before."""

import asyncio
import contextlib
import dataclasses
import pathlib
import signal
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pgjax.access import known_names
from pgjax.errors import UserError, note
from pgjax.inference.batch_size import largest_batch_size
from pgjax.inference.model import Model
from pgjax.serving.engine import Engine, compile_all
from pgjax.serving.http_app import ChatApi, Limits
from pgjax.serving.prompt_reader import PromptReader
from pgjax.serving.row_programs import RowPrograms

_MOST_ROWS = 64  # of the batch, where memory allows more
_CONNECTIONS = 1000  # open at a time
_HEAD_SECONDS = 30  # that the head of a request may take


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a model is served; the flags of `pgjax serve` explain each.

    Attributes:
      name: under which requests ask the model.
      rows: answers generated together; 0 for as many as fit.
      queue: answers that may wait for a row.
      longest_prompt: in tokens.
      longest_answer: in tokens.
      time_limit: of a request, in seconds.
      grace: seconds that answers have when the server is told to stop.
      files: the folder of which requests may name files; None for none.
      api_key: that requests must send; None for none.
      names: under which the server may be asked, beside its own.
      warm_up: whether all programs are compiled before the first request.
    """

    name: str
    rows: int = 0
    queue: int = 128
    longest_prompt: int = 128
    longest_answer: int = 512
    time_limit: float = 120
    grace: int = 30
    files: pathlib.Path | None = None
    api_key: str | None = None
    names: Sequence[str] = ()
    warm_up: bool = True


@contextlib.contextmanager
def opened(model: Model, options: ServeOptions, sock: socket.socket) -> Iterator[uvicorn.Server]:
    """A server of a model, to be run; leaving the block ends its thread.

    Args:
      model: that answers.
      options: how it does.
      sock: the bound socket that it is going to listen on.

    Raises:
      UserError: the model cannot be served in this way.
    """
    reader = PromptReader(model, options.longest_prompt, options.files)
    longest = options.longest_answer
    rows = options.rows or min(_MOST_ROWS, largest_batch_size(model.context, longest))
    programs = RowPrograms(model, reader.example, rows, reader.longest_prompt, longest)
    if options.warm_up:
        compile_all(programs, reader.example)
    tokenizer = model.context.tokenizer
    engine = Engine(programs, tokenizer, options.queue)
    api = ChatApi(
        engine,
        reader,
        tokenizer,
        name=options.name,
        image_tokens=programs.image_tokens,
        limits=Limits(answer_tokens=longest, seconds=options.time_limit),
        api_key=options.api_key,
    )
    host, port = sock.getsockname()[:2]
    config = uvicorn.Config(
        api.app(known_names(host, options.names)),
        http=_Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=options.grace,
    )
    place = f"[{host}]" if ":" in host else host
    note(f"{options.name} answers {rows} requests at a time at http://{place}:{port}/v1.")
    try:
        yield uvicorn.Server(config)
    finally:
        if not engine.close(options.grace):
            note("A program is still being compiled; the process ends without it.")


class _Connection(H11Protocol):
    """A connection that is closed where a client begins no request, or does not end its head."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Looks after it from now on."""
        super().connection_made(transport)
        self.loop.call_later(_HEAD_SECONDS, self._look, None)

    def _look(self, before: object) -> None:
        """Closes the connection if nothing has been asked since the request before."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is before:
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(_HEAD_SECONDS, self._look, self.cycle)


def bound(host: str, port: int) -> socket.socket:
    """A socket that nobody can connect to yet, so that a taken port is known before any work.

    Raises:
      UserError: the address cannot be listened on.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as e:
        sock.close()
        reason = getattr(e, "strerror", None) or e
        raise UserError(f"--host {host} --port {port} cannot be listened on ({reason}).") from None
    return sock


def serve(model: Model, options: ServeOptions, sock: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM comes; then, answers that have begun may end.

    Args:
      model: that answers.
      options: how it does.
      sock: from `bound`.

    Raises:
      UserError: as `opened`.
    """
    with opened(model, options, sock) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn passes on what it was stopped by
        server.run([sock])
