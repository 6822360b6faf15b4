"""Requests to a server of `pgjax serve`, and such a server in a thread of this process."""

import base64
import contextlib
import http.client
import json
import threading
import time

from conftest import PHOTOS

URL = "data:image/jpeg;base64," + base64.b64encode((PHOTOS / "flower.jpg").read_bytes()).decode()
CHAT = "/v1/chat/completions"


def body(prompt="caption en", url=URL, **changes):
    """The JSON of a question about an image."""
    image = {"type": "image_url", "image_url": {"url": url}}
    content = [image, {"type": "text", "text": prompt}]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}]} | changes


class Client:
    """Asks a server on a port of 127.0.0.1."""

    def __init__(self, port):
        self.port = port

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def send(self, path, data=None, headers=()):
        """Status and JSON of an answer."""
        data = json.dumps(data) if isinstance(data, dict) else data
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET" if data is None else "POST", path, data, dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def ask(self, **question):
        """The answer as JSON."""
        status, answer = self.send(CHAT, body(**question))
        assert status == 200, answer
        return answer

    def text(self, **question):
        return self.ask(**question)["choices"][0]["message"]["content"]

    def refused(self, data, path=CHAT, headers=()):
        """Status and message of an error in OpenAI's form."""
        status, answer = self.send(path, data, headers)
        assert answer.keys() == {"error"}, answer
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        assert answer["error"]["message"].endswith("."), answer
        return status, answer["error"]["message"]

    def events(self, **question):
        """The chunks of a stream, and whether it ended as it should."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("POST", CHAT, json.dumps(body(stream=True, **question)))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            parts = response.read().decode().split("\n\n")
        assert parts.pop() == "" and all(part.startswith("data: ") for part in parts)
        parts = [part.removeprefix("data: ") for part in parts]
        done = parts[-1] == "[DONE]"
        return [json.loads(part) for part in parts[: len(parts) - done]], done

    def wait_until(self, running, waiting=0):
        """Waits until so many answers are generated, and so many wait."""
        end = time.monotonic() + 60
        while True:
            _, state = self.send("/health")
            if (state["running"], state["waiting"]) == (running, waiting):
                return
            assert time.monotonic() < end, state
            time.sleep(0.01)


@contextlib.contextmanager
def served(model, options):
    """Serves a model in a thread, which ends with the block."""
    from pgjax.serving.http_server import bound, opened

    before = set(threading.enumerate())
    with bound("127.0.0.1", 0) as sock, opened(model, options, sock) as server:
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        client = Client(sock.getsockname()[1])
        client.server = server
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
    left = set(threading.enumerate()) - before
    assert not left, left
