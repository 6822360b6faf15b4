"""`pgjax demo` in a process of its own, and requests to it."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from typing import NamedTuple

from conftest import ROOT


class Demo(NamedTuple):
    """A page that is served.

    Attributes:
      port: of 127.0.0.1.
      folder: TMPDIR of the process, in which its own folder lies.
      log: file of what it prints.
    """

    port: int
    folder: object
    log: object

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def get(self, path, headers=(), body=None):
        """Status and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST" if body else "GET", path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")

    def upload(self, path):
        """Uploads a file, and returns what stands for it in a question."""
        edge = "----edge"
        body = (
            f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode() + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()  # fmt: skip
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        status, text = self.get("/gradio_api/upload", kind, body)
        assert status == 200, text
        return {"path": json.loads(text)[0], "meta": {"_type": "gradio.FileData"}}

    def ask(self, image, prompt="caption", sampler="greedy", length=24, seed=0, orient=False):
        """The answer as a dict, or the message of an error."""
        data = ["tiny", image, prompt, sampler, length, seed, orient]
        body = json.dumps({"data": data})
        status, text = self.get("/gradio_api/call/ask", {"Content-Type": "application/json"}, body)
        if status != 200:
            return json.loads(text).get("detail", text)
        event = json.loads(text)["event_id"]
        with urllib.request.urlopen(f"{self.url}/gradio_api/call/ask/{event}", timeout=300) as s:
            lines = s.read().decode().splitlines()
        kind, content = lines[-3:-1] if not lines[-1] else lines[-2:]
        content = json.loads(content.removeprefix("data: "))
        return content[0] if kind == "event: complete" else content["error"]


@contextlib.contextmanager
def serving(folder, *flags):
    """Serves the page from a folder until the block ends."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = folder / "log.txt"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "TMPDIR": str(folder)}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pgjax", "demo", f"--port={port}", *flags],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT, umask=0o022,
        )  # fmt: skip
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.5)
            yield Demo(port, folder, log)
        finally:
            process.terminate()
            process.wait(30)
