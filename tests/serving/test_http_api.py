"""The HTTP interface, with programs that answer by a script."""

import concurrent.futures
import contextlib
import json
import socket
import threading
import time

import pytest
from scripted_rows import SCRIPT, TEXT, ScriptedRows
from served_api import CHAT, body, served

import pgjax
from pgjax.serving.engine import FAILED

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny")


@pytest.fixture
def serve(model, monkeypatch):
    """Serves by a script; returns (client, programs)."""
    from pgjax.serving import http_server

    with contextlib.ExitStack() as stack:

        def start(rows=3, **options):
            programs = ScriptedRows(rows)
            monkeypatch.setattr(http_server, "RowPrograms", lambda *_: programs)
            chosen = {"queue": 8, "longest_answer": 64, "warm_up": False, "time_limit": 60}
            options = http_server.ServeOptions(name="tiny", rows=rows, **chosen | options)
            client = stack.enter_context(served(model, options))
            stack.callback(programs.held.set)  # before the server ends
            return client, programs

        yield start


def test_an_answer(serve):
    client, _ = serve()
    answer = client.ask()
    assert answer["object"] == "chat.completion" and answer["model"] == "tiny"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT, "refusal": None}
    assert choice["finish_reason"] == "stop" and choice["logprobs"] is None
    prompt = answer["usage"]["prompt_tokens"]
    assert answer["usage"] == {
        "prompt_tokens": prompt, "completion_tokens": len(SCRIPT),
        "total_tokens": prompt + len(SCRIPT),
    }  # fmt: skip
    assert prompt == 64 + len(pgjax.load("tiny").context.tokenizer.encode("caption en\n")) + 1


def test_lengths_and_stops(serve):
    client, _ = serve()
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.ask(**{name: 5})
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 5
        assert TEXT.startswith(answer["choices"][0]["message"]["content"])
    answer = client.ask(stop=["blue", "purple"])
    assert answer["choices"][0]["message"]["content"] == TEXT.partition("blue")[0]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert client.refused(body(max_tokens=65)) == (
        400, "max_tokens is 65; this server answers with at most 64 tokens (--longest_answer).",
    )  # fmt: skip


def test_log_probabilities(serve):
    client, _ = serve()
    answer = client.ask(logprobs=True, top_logprobs=2, n=2)
    for choice in answer["choices"]:
        found = choice["logprobs"]["content"]
        assert "".join(x["token"] for x in found).strip() == TEXT
        assert bytes(b for x in found for b in x["bytes"]).decode().strip() == TEXT
        assert [x["logprob"] for x in found] == pytest.approx([-t / 1000 for t in SCRIPT[:-1]])
        assert all([y["logprob"] for y in x["top_logprobs"]] == [0, -0.1] for x in found)


def test_streams(serve):
    client, programs = serve()
    programs.seconds = 0.002
    chunks, done = client.events(n=2, stream_options={"include_usage": True}, logprobs=True)
    assert done and {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({c["id"] for c in chunks}) == 1 and chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2 * len(SCRIPT)
    for index in range(2):
        mine = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["delta"].get("content", "") for c in mine) == TEXT and len(mine) > 3
        reasons = [c["finish_reason"] for c in mine]
        assert reasons == [None] * (len(mine) - 1) + ["stop"] and mine[-1]["delta"] == {}
        tokens = [x["token"] for c in mine if c["logprobs"] for x in c["logprobs"]["content"]]
        assert "".join(tokens).strip() == TEXT
    chunks, done = client.events(stop="blue")
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert done and text == TEXT.partition("blue")[0]


def test_models_and_health(serve):
    client, _ = serve()
    status, found = client.send("/v1/models")
    assert status == 200 and [m["id"] for m in found["data"]] == ["tiny"]
    assert client.send("/v1/models/tiny") == (200, found["data"][0])
    assert client.send("/health") == (200, {"status": "ok", "running": 0, "waiting": 0})
    assert client.refused(None, "/v1/models/other")[0] == 404
    assert client.refused(None, "/v1/nothing") == (404, "Not Found.")
    assert client.refused(None, CHAT)[0] == 405


@pytest.mark.parametrize(
    "data, status, said",
    [
        (b"{", 400, "The body is not JSON"),
        (b"\xff", 400, "The body is not JSON"),
        (b"[" * 100_000, 400, "The body is not JSON"),
        (b"[" * 900 + b"]" * 900, 400, "expected a JSON object"),
        (b'{"model": "tiny", "messages": %s}' % (b"[" * 900 + b"]" * 900), 400, ""),
        (body(model="other"), 404, "The model 'other' is not served here, expected 'tiny'."),
        (body(model="\ud800"), 404, "is not served here"),
        (body(temperature=3), 400, "temperature is 3; expected"),
        (body(tools=[{}]), 400, "tools is not supported"),
        (body(url="http://localhost/a.png"), 400, "does not fetch"),
        (body(url="/etc/passwd"), 400, "neither a data URL"),
        (body(url="data:image/png;base64,AAAA"), 400, "Not an image"),
        (body(prompt="word " * 500), 400, "at most 128 tokens go"),
        (body(prompt="\ud800"), 400, "half of a surrogate pair"),
        (body(n=9), 400, "n is 9"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_gets_one_sentence(serve, data, status, said):
    client, programs = serve()
    got, message = client.refused(data)
    assert got == status and said.lower() in message.lower()
    assert client.text() == TEXT and programs.calls.count(("empty", 3)) == 1


def test_large_bodies_are_refused_while_they_come(serve):
    from pgjax.serving.http_app import MOST_BODY

    client, _ = serve()
    with contextlib.closing(client.connect()) as connection:
        connection.putrequest("POST", CHAT)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        sent, part = 0, b"%x\r\n%s\r\n" % (2**20, b"x" * 2**20)
        with contextlib.suppress(ConnectionError):  # it may be closed before all of it is sent
            while sent < 2 * MOST_BODY:
                connection.send(part)
                sent += 2**20
        with contextlib.suppress(ConnectionError):
            response = connection.getresponse()
            assert response.status == 413
            assert "larger than 27 MB" in json.loads(response.read())["error"]["message"]
    assert client.text() == TEXT


def test_keys(serve):
    client, _ = serve(api_key="sesame")
    for key in ("", "Bearer", "Bearer other", "Basic sesame", "sesame", "Bearer \u00e9"):
        headers = {"Authorization": key.encode()}
        for path, data in ((CHAT, body()), ("/v1/models", None)):
            status, said = client.refused(data, path, headers)
            assert status == 401 and said == "The request lacks this server's key."
    assert client.send(CHAT, body(), {"Authorization": "Bearer sesame"})[0] == 200
    assert client.send("/health")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
     {"Origin": "http://[::1"}],
)  # fmt: skip
def test_other_sites_are_refused(serve, headers):
    client, _ = serve()
    assert client.refused(body(), headers=headers)[0] == 403
    own = {"Host": "proxy.example", "Origin": "https://proxy.example"}
    assert client.refused(body(), headers=own)[0] == 403
    client, _ = serve(names=["proxy.example"])
    assert client.send(CHAT, body(), own)[0] == 200


def test_who_comes_beyond_the_queue_is_told_so(serve):
    client, programs = serve(rows=1, queue=4)
    programs.held.clear()
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        taken = [pool.submit(client.text) for _ in range(5)]
        client.wait_until(1, 4)
        status, said = client.refused(body())
        assert status == 429 and "ask again later" in said
        programs.held.set()
        assert [one.result(60) for one in taken] == [TEXT] * 5
    status, said = client.refused(body(n=6))
    assert status == 429 and "6 more would be too many" in said


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_row(serve, stream):
    client, programs = serve(rows=1)
    programs.held.clear()
    connection = client.connect()
    connection.request("POST", CHAT, json.dumps(body(stream=stream)))
    client.wait_until(1)
    waiting = client.connect()
    waiting.request("POST", CHAT, json.dumps(body()))
    client.wait_until(1, 1)
    waiting.close()
    client.wait_until(1, 0)
    connection.close()
    client.wait_until(0, 0)
    programs.held.set()
    assert client.text() == TEXT


def test_a_client_that_leaves_in_the_middle_of_a_stream(serve):
    client, programs = serve(rows=1)
    connection = client.connect()
    programs.seconds = 0.2
    connection.request("POST", CHAT, json.dumps(body(stream=True)))
    response = connection.getresponse()
    assert b"assistant" in response.readline()
    programs.held.clear()
    response.close()
    connection.close()
    client.wait_until(0)
    programs.held.set()
    programs.seconds = 0
    assert client.text() == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_of_a_request_ends(serve, stream):
    client, programs = serve(rows=1, time_limit=0.5)
    programs.held.clear()
    status, said = client.refused(body(stream=stream))
    assert status == 504 and said == "The answer was not complete within 0.5 s (--time_limit)."
    client.wait_until(0)


def test_the_time_of_a_stream_ends(serve):
    client, programs = serve(rows=1, time_limit=1)
    programs.seconds = 0.3
    chunks, done = client.events()
    assert not done and "not complete in time" in chunks[-1]["error"]["message"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    client.wait_until(0)


@pytest.mark.filterwarnings("default")
def test_failures_are_told(serve):
    client, programs = serve()
    programs.fails = 1
    assert client.refused(body()) == (500, FAILED)
    assert client.text() == TEXT


def test_clients_that_send_nothing_do_not_block_others(serve):
    client, _ = serve()
    with contextlib.ExitStack() as held:
        for sent in (b"", b"POST /v1/chat/comp", b"POST /v1/chat/completions HTTP/1.1\r\n"
                     b"Host: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"):  # fmt: skip
            for _ in range(20):
                one = socket.create_connection(("127.0.0.1", client.port), timeout=10)
                one.sendall(sent)
                held.enter_context(one)
        assert client.text() == TEXT
    assert client.text() == TEXT


def test_heads_that_do_not_end_are_given_up(serve, monkeypatch):
    monkeypatch.setattr("pgjax.serving.http_server._HEAD_SECONDS", 0.5)
    client, _ = serve()
    head = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for sent in (b"", head, head + b"\r\n" + head):  # the last after a whole request
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as one:
            one.sendall(sent)
            got = b""
            while part := one.recv(1000):
                got += part
            assert (b"200 OK" in got) == (sent.count(b"GET") == 2)


def test_answers_may_end_when_the_server_stops(serve):
    client, programs = serve(rows=1, grace=30)
    programs.held.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.text)
        client.wait_until(1)
        client.server.should_exit = True
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # it takes no further connection
            try:
                socket.create_connection(("127.0.0.1", client.port), timeout=10).close()
            except OSError:
                break
        threading.Timer(0.2, programs.held.set).start()
        assert answer.result(30) == TEXT


@pytest.mark.filterwarnings("default")
def test_what_does_not_end_in_time_is_given_up(serve):
    client, programs = serve(rows=1, grace=1)
    programs.held.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.ask)
        client.wait_until(1)
        client.server.should_exit = True
        with pytest.raises((ConnectionError, AssertionError, ValueError, OSError)):
            answer.result(30)
        programs.held.set()


def test_the_client_of_openai(serve):
    openai = pytest.importorskip("openai")
    client, _ = serve(api_key="sesame")
    url = f"http://127.0.0.1:{client.port}/v1"
    with openai.OpenAI(base_url=url, api_key="sesame", max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["tiny"]
        asked = body()
        got = api.chat.completions.create(**asked, logprobs=True, top_logprobs=3, seed=1)
        assert got.choices[0].message.content == TEXT and got.choices[0].finish_reason == "stop"
        assert len(got.choices[0].logprobs.content) == len(SCRIPT) - 1
        chunks = list(api.chat.completions.create(**asked, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
        with pytest.raises(openai.BadRequestError, match="temperature is 3"):
            api.chat.completions.create(**asked, temperature=3)
        with pytest.raises(openai.NotFoundError, match="is not served here"):
            api.chat.completions.create(**{**asked, "model": "gpt"})
    other = openai.OpenAI(base_url=url, api_key="other", max_retries=0)
    with other, pytest.raises(openai.AuthenticationError):
        other.models.list()
