"""Who may use a server on this machine: addresses it listens on, names, pages of other sites."""

import contextlib
import ipaddress
import socket
import urllib.parse
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from pgjax.errors import note

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_if_open(host: str, port: int, what: str) -> None:
    """Says so where a server can be reached from other machines.

    Args:
      host: the address to listen on.
      port: of that address.
      what: what is opened, and what whoever reaches it can do, such as `opens the page to the
        network: …`; without the full stop.
    """
    if not is_loopback(host):
        note(f"--host {host} {what.format(port=port)}.")


def known_names(host: str, more: Collection[str]) -> frozenset[str]:
    """The names under which a server may be asked, beside numeric addresses.

    Args:
      host: the address to listen on.
      more: such as that of a proxy.
    """
    own = () if is_loopback(host) else (socket.gethostname(), socket.getfqdn())
    return frozenset(name.lower() for name in ("localhost", host, *own, *more))


class OwnPagesOnly:
    """Middleware that refuses requests which another site's page makes in a visitor's browser.

    A foreign page is recognised by its `Origin`. A page whose name was made to point at this
    machine (DNS rebinding) is recognised by the `Host`: it is a name that this page does not have.
    """

    def __init__(self, app: Any, names: Collection[str], command: str) -> None:
        """Keeps the application behind it.

        Args:
          app: which answers other requests.
          names: from `known_names`.
          command: whose flag `--names` adds to them, such as `pgjax demo`.
        """
        self._app, self._names, self._command = app, names, command

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with status 403 and a sentence."""
        problem = self.problem(scope) if scope["type"] in ("http", "websocket") else ""
        if not problem:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            kind, body = self.refusal(problem)
            headers = [(b"content-type", kind.encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def refusal(self, problem: str) -> tuple[str, bytes]:
        """The content type and the body that say what is wrong."""
        return "text/plain; charset=utf-8", f"{problem}\n".encode()

    def problem(self, scope: Scope) -> str:
        """Why a request is refused, in one sentence; "" where it is not."""
        headers = [(k.lower(), v.decode("latin-1")) for k, v in scope["headers"]]
        hosts = [v for k, v in headers if k == b"host"]
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            got = ", ".join(map(repr, hosts)) or "nothing"
            return (
                f"This server was asked as {got[:80]}, which is no name of it; {self._command} "
                "--names takes the names of a proxy."
            )
        for key, origin in headers:
            if key == b"origin" and _host_of(origin) != hosts[0].lower():
                return f"Pages of {origin[:80]!r} may not use this server."
        return ""

    def _is_known(self, host: str) -> bool:
        try:
            name = (urllib.parse.urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))  # it cannot be made to point elsewhere
        return name in self._names


def _host_of(origin: str) -> str:
    """Name and port of an `Origin`, "" where it is none."""
    try:
        return urllib.parse.urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
