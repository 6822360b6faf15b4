"""Who may use the page: names under which it is opened, other sites, files of uploads."""

import contextlib
import ipaddress
import os
import pathlib
import re
import signal
import socket
import sys
import tempfile
import urllib.parse
from collections.abc import Awaitable, Callable, Collection, Iterator, MutableMapping
from typing import Any

from pgjax.errors import note

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# Gradio would fetch other sites for a visitor; nothing on this page needs it.
_FETCHES = re.compile(r"/(?:gradio_api/)?(?:file=\s*https?:|proxy=)", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_if_open(host: str, port: int) -> None:
    """Says so where a page can be reached from other machines."""
    if not is_loopback(host):
        note(
            f"--host {host} opens the page to the network: whoever reaches port {port} of this "
            "machine can ask its checkpoints, without a password and without encryption."
        )


def known_names(host: str, more: Collection[str]) -> frozenset[str]:
    """The names under which the page may be opened, beside numeric addresses.

    Args:
      host: the address to listen on.
      more: such as that of a proxy.
    """
    own = () if is_loopback(host) else (socket.gethostname(), socket.getfqdn())
    return frozenset(name.lower() for name in ("localhost", host, *own, *more))


@contextlib.contextmanager
def private_folder() -> Iterator[pathlib.Path]:
    """A folder for the page's files, which only this user can read, and which is deleted at last.

    Gradio, which must not have been imported before, keeps its uploads there.
    """
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # which cleans up
    with tempfile.TemporaryDirectory(prefix="pgjax_demo_") as folder:
        uploads = pathlib.Path(folder) / "uploads"
        uploads.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        yield pathlib.Path(folder)


class OwnPagesOnly:
    """Middleware that refuses requests which another site's page makes in a visitor's browser.

    A foreign page is recognised by its `Origin`. A page whose name was made to point at this
    machine (DNS rebinding) is recognised by the `Host`: it is a name that this page does not have.
    """

    def __init__(self, app: Any, names: Collection[str]) -> None:
        """Keeps the application behind it, and `known_names`."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with status 403 and a sentence."""
        problem = self._problem(scope) if scope["type"] in ("http", "websocket") else ""
        if not problem:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": problem.encode()})

    def _problem(self, scope: Scope) -> str:
        headers = [(k.lower(), v.decode("latin-1")) for k, v in scope["headers"]]
        hosts = [v for k, v in headers if k == b"host"]
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            got = ", ".join(map(repr, hosts)) or "nothing"
            return (
                f"This page was opened as {got[:80]}, which is no name of it; pgjax demo --names "
                "takes the names of a proxy.\n"
            )
        for key, origin in headers:
            own = urllib.parse.urlsplit(origin).netloc.lower() if key == b"origin" else None
            if own is not None and own != hosts[0].lower():
                return f"Pages of {origin[:80]!r} may not use this page.\n"
        if _FETCHES.match(scope["path"]):
            return "This page fetches nothing from other sites.\n"
        return ""

    def _is_known(self, host: str) -> bool:
        try:
            name = (urllib.parse.urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))  # it cannot be made to point elsewhere
        return name in self._names
