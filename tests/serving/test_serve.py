"""`pgjax serve` in a process of its own, with the tiny checkpoint."""

import concurrent.futures
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import PHOTOS, ROOT
from served_api import CHAT, Client, body

import pgjax

pytestmark = pytest.mark.slow
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

SIZES = ("--rows=8", "--longest_prompt=32")
LONG = {"temperature": 2, "max_tokens": 512}  # such answers hardly end by themselves
PROMPTS = ["caption en", "caption", "answer en what is it?", "detect flower", "count circle"]


@contextlib.contextmanager
def serving(folder, cache, *flags):
    """(client, process, log) of a server that runs until the block ends."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = folder / "log.txt"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    env["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pgjax", "serve", "tiny", f"--port={port}", *flags],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            client = Client(port)
            for _ in range(6000):  # compiling may be slow
                try:
                    assert client.send("/health")[0] == 200
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
            yield client, process, log
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)


@pytest.fixture(scope="module")
def client(tmp_path_factory, compilation_cache):
    folder = tmp_path_factory.mktemp("serve")
    flags = [*SIZES, "--queue=56", "--time_limit=600", f"--files={PHOTOS}"]
    with serving(folder, compilation_cache, *flags) as (client, process, log):
        yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def questions():
    """64 questions, and what `Model.generate` answers."""
    model = pgjax.load("tiny")
    photos = [p.name for p in sorted(PHOTOS.glob("*.jpg"))]
    asked = [(photos[i % 5], PROMPTS[i % 4 if i % 3 else 4], 8 + i % 40) for i in range(64)]
    want = [
        model.generate(PHOTOS / photo, prompt, max_new_tokens=longest)
        for photo, prompt, longest in asked
    ]
    return asked, want


def test_64_clients_at_once(client, questions):
    """None is lost, and each has the answer that it would have alone."""
    asked, want = questions

    def ask(question):
        photo, prompt, longest = question
        return client.text(url=photo, prompt=prompt, max_tokens=longest)

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        for _ in range(2):
            assert list(pool.map(ask, asked)) == want
    client.wait_until(0, 0)


def test_streams_among_others(client, questions):
    asked, want = questions

    def stream(question):
        photo, prompt, longest = question
        chunks, done = client.events(url=photo, prompt=prompt, max_tokens=longest)
        assert done
        return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert list(pool.map(stream, asked[:24])) == want[:24]


def test_a_seed_gives_the_same_answer(client):
    """Alone or beside others, and as `Model.generate` draws."""
    question = {"temperature": 1.5, "max_tokens": 24, "n": 3, "url": "flower.jpg"}

    def ask(seed):
        choices = client.ask(seed=seed, **question)["choices"]
        return [choice["message"]["content"] for choice in choices]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, [*range(6), *range(6)]))
    assert together[:6] == together[6:] and together[3] == ask(3)
    assert len({tuple(texts) for texts in together}) == 6
    model = pgjax.load("tiny")
    flowers = [PHOTOS / "flower.jpg"] * 3
    options = {"sampler": "temperature(1.5)", "seed": 3, "max_new_tokens": 24}
    assert together[3] == model.generate(flowers, "caption en", **options)


def test_clients_that_leave_lose_nothing_of_others(client, questions):
    """Half of the clients break off at any moment."""
    asked, want = questions
    rng = random.Random(0)

    def ask(i):
        photo, prompt, longest = asked[i]
        if i % 2:
            return client.text(url=photo, prompt=prompt, max_tokens=longest)
        with contextlib.closing(client.connect()) as connection:
            data = body(url=photo, stream=bool(i % 4), **LONG)
            connection.request("POST", CHAT, json.dumps(data))
            time.sleep(rng.random() / 5)
        return None

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        got = list(pool.map(ask, range(64)))
    assert got[1::2] == want[1::2]
    client.wait_until(0, 0)


def test_who_is_too_many_is_told_so(client):
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: client.send(CHAT, body(**LONG)), range(200)))
    statuses = [status for status, _ in answers]
    assert {*statuses} <= {200, 429} and statuses.count(200) >= 64
    client.wait_until(0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_end(tmp_path, compilation_cache, number):
    with serving(tmp_path, compilation_cache, *SIZES, "--nowarm_up") as (client, process, log):
        client.text(max_tokens=2)  # compiles
        with contextlib.closing(client.connect()) as connection:
            connection.request("POST", CHAT, json.dumps(body(stream=True, n=8, seed=1, **LONG)))
            response = connection.getresponse()
            response.readline()  # it has begun
            process.send_signal(number)
            assert response.read().endswith(b"data: [DONE]\n\n")
        assert process.wait(60) == 0, log.read_text()
        said = log.read_text()
        assert "Traceback" not in said and "tiny answers 8 requests at a time" in said


def test_a_port_that_is_taken_is_told_before_anything(program):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = program("serve", "tiny", f"--port={port}", status=1).err
    assert f"--port {port} cannot be listened on (Address already in use)." in said


def test_keys_come_from_files(program, tmp_path):
    (tmp_path / "empty").touch()
    for name, what in (("empty", "is empty, expected a key."), ("none", "cannot be read")):
        assert what in program("serve", "tiny", f"--api_key_file={tmp_path / name}", status=1).err
