"""`pgjax serve`."""

import importlib.util
import os
import pathlib
from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.errors import UserError


class Serve(Command):
    """Serves a checkpoint to programs, by OpenAI's chat completions over HTTP.

    Requests are answered together: each joins and leaves the batch between two tokens. Only this
    machine can ask, unless --host says otherwise. It needs the extra serve: pip install
    'paligemma-jax[serve]'.
    """

    name = "serve"
    arguments = "CHECKPOINT"
    example = "pgjax serve mix-224 --rows 16"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._name = self.text(
            "name", None, "Name that requests give as model; left out: CHECKPOINT."
        )
        self._quantize = self.choice(
            "quantize", None, ["int8", "int4", "nf4"],
            "Keep the decoder's matrices in 8 or 4 bits; left out: as the checkpoint has them.",
        )  # fmt: skip
        self._host = self.text(
            "host", "127.0.0.1", "Address to listen on; 0.0.0.0 opens the server to the network."
        )
        self._port = self.integer("port", 8000, "Port to listen on; 0 for a free one.", 0)
        self._names = self.items(
            "names", "Names under which a proxy asks the server; others than this machine's own "
            "are refused.",
        )  # fmt: skip
        self._key_file = self.text(
            "api_key_file", None, "File that holds a key, which requests must then send."
        )
        self._files = self.text(
            "files", None, "Folder; requests may name image files below it instead of sending them."
        )
        self._rows = self.integer(
            "rows", 0, "Answers generated together; 0 for as many as fit into memory, up to 64.", 0
        )
        self._queue = self.integer(
            "queue", 128, "Answers that may wait for a row; further ones are refused (429).", 0
        )
        self._prompt = self.integer(
            "longest_prompt", 128, "Longest prompt in tokens, with bos and newline.", 16
        )
        self._answer = self.integer("longest_answer", 512, "Longest answer in tokens.", 1)
        self._seconds = self.integer(
            "time_limit", 120, "Seconds that a request may take, waiting included.", 1
        )
        self._grace = self.integer(
            "grace", 30, "Seconds that answers have to end when the server is told to stop.", 0
        )
        self._warm_up = self.boolean(
            "warm_up", True, "Compile everything before the first request."
        )

    def run(self) -> None:
        """Serves until it is told to stop."""
        if any(importlib.util.find_spec(package) is None for package in ("starlette", "uvicorn")):
            raise UserError("Serving needs more packages: pip install 'paligemma-jax[serve]'.")
        from pgjax.access import warn_if_open
        from pgjax.inference.load import load
        from pgjax.loading.compiler_options import cache_compilations
        from pgjax.serving.http_server import ServeOptions, bound, serve

        cache_compilations()
        (checkpoint,) = self.positional
        options = ServeOptions(
            name=self._name.value or checkpoint,
            rows=self._rows.value,
            queue=self._queue.value,
            longest_prompt=self._prompt.value,
            longest_answer=self._answer.value,
            time_limit=self._seconds.value,
            grace=self._grace.value,
            files=pathlib.Path(self._files.value).expanduser() if self._files.value else None,
            api_key=_key(self._key_file.value) if self._key_file.value else None,
            names=[self._host.value, *self._names.value],
            warm_up=self._warm_up.value,
        )
        host, port = self._host.value, self._port.value
        with bound(host, port) as sock:
            key = "who has the key" if options.api_key else "without a password"
            warn_if_open(
                host,
                port,
                "opens the server to the network: whoever reaches port {port} of this machine can "
                f"ask its checkpoint, {key} and without encryption",
            )
            mesh = {"data": 1, "model": -1}  # devices share each row's work
            serve(load(checkpoint, quantize=self._quantize.value, mesh=mesh), options, sock)


def _key(path: str) -> str:
    """The key that a file holds.

    Raises:
      UserError: the file cannot be read, or is empty.
    """
    try:
        with open(os.path.expanduser(path)) as file:
            key = file.read().strip()
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise UserError(f"--api_key_file {path} cannot be read ({reason}).") from None
    if not key:
        raise UserError(f"--api_key_file {path} is empty, expected a key.")
    return key
