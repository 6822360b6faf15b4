"""A local relay to the coordinator, so that losing it is an event and not an abort.

jax's client of the coordination service aborts its process, with a native stack, as soon as the
connection to the service closes. It connects to this relay instead, which keeps the client's side
open, tells that the service's side is gone, and leaves it to `peers` to end the process.
"""

import contextlib
import socket
import threading
import time

RETRY_SECONDS = 0.3
CHUNK_BYTES = 1 << 16


class Relay:
    """Forwards connections on a local port to HOST:PORT, waiting for it as long as it takes."""

    def __init__(self, address: str):
        """Listens from here on; `port` is the local port.

        Args:
          address: `HOST:PORT` of the service.
        """
        host, _, port = address.rpartition(":")
        self._target = (host.strip("[]"), int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []  # a socket that is collected would be closed
        self.port: int = self._server.getsockname()[1]
        self.connected = threading.Event()
        self.lost = threading.Event()
        _run(self._accept)

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            self._open.append(client)
            _run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        while True:
            try:
                service = socket.create_connection(self._target, timeout=10)
                break
            except OSError:
                time.sleep(RETRY_SECONDS)
        service.settimeout(None)
        self._open.append(service)
        self.connected.set()
        left = threading.Event()
        _run(self._forward_requests, client, service, left)
        _forward(service, client)
        if not left.is_set():
            self.lost.set()

    def _forward_requests(
        self, client: socket.socket, service: socket.socket, left: threading.Event
    ) -> None:
        _forward(client, service)
        left.set()  # the client closed first: an orderly end
        with contextlib.suppress(OSError):
            service.shutdown(socket.SHUT_WR)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)


def _run(function, *args) -> None:
    threading.Thread(target=function, args=args, daemon=True).start()
