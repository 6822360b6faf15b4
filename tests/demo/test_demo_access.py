"""Who may use the demo page."""

import asyncio
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from pgjax.access import is_loopback, known_names, warn_if_open
from pgjax.demo.page_guard import OPEN, PageGuard


def request(headers, path="/", names=(), host="127.0.0.1"):
    """Status and text of what the middleware answers; 200 where the page is reached."""
    sent = []

    async def page(scope, receive, send):
        sent.append({"status": 200})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(PageGuard(page, known_names(host, names), "pgjax demo")(scope, None, send))
    return sent[0]["status"], sent[-1].get("body", b"").decode()


HERE = (b"host", b"127.0.0.1:7860")


@pytest.mark.parametrize(
    "headers",
    [
        [HERE],
        [(b"Host", b"localhost:7860")],
        [(b"host", b"LOCALHOST")],
        [(b"host", b"[::1]:7860")],
        [(b"host", b"192.168.1.5:7860")],  # through a forwarded port
        [HERE, (b"origin", b"http://127.0.0.1:7860")],
        [(b"host", b"demo.example.org"), (b"origin", b"https://demo.example.org")],
    ],
)
def test_its_own_pages_are_served(headers):
    assert request(headers, names=["demo.example.org"])[0] == 200


@pytest.mark.parametrize(
    "headers, said",
    [
        (
            [(b"host", b"evil.example:7860")],
            "asked as 'evil.example:7860', which is no name",
        ),
        ([(b"host", b"127.0.0.1.evil.example")], "no name of it"),
        ([(b"host", b"localhost.evil.example")], "no name of it"),
        ([(b"host", b"127.0.0.1@evil.example")], "no name of it"),
        ([(b"host", b"[::1")], "no name of it"),
        ([(b"host", b"")], "no name of it"),
        ([], "asked as nothing"),
        ([HERE, (b"host", b"evil.example")], "no name of it"),
        ([HERE, (b"origin", b"http://evil.example")], "Pages of 'http://evil.example' may not"),
        ([HERE, (b"origin", b"http://localhost:7860")], "may not use this server"),
        ([HERE, (b"origin", b"http://127.0.0.1:8000")], "may not use this server"),
        ([HERE, (b"origin", b"null")], "may not use this server"),
    ],
)
def test_other_pages_are_refused(headers, said):
    status, text = request(headers)
    assert status == 403 and said in text and text.endswith(".\n")


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=http://a.org", "/file=HTTPS://a", "/proxy=http://a"]
)
def test_the_page_fetches_nothing_for_others(path):
    assert request([HERE], path)[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_no_warning_for_this_machine_only(host, capsys):
    warn_if_open(host, 7860, OPEN)
    assert is_loopback(host) and not capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu-box"])
def test_a_page_that_is_open_to_the_network_warns(host, capsys):
    warn_if_open(host, 7860, OPEN)
    said = capsys.readouterr().err
    assert f"--host {host} opens the page to the network" in said and "without a password" in said


def test_files_of_the_page_are_readable_by_its_user_only():
    """In a process of its own, whose umask it changes."""
    code = (
        "import os, pathlib\n"
        "from pgjax.demo.page_guard import private_folder\n"
        "os.umask(0o022)\n"
        "with private_folder() as folder:\n"
        "    uploads = pathlib.Path(os.environ['GRADIO_TEMP_DIR'])\n"
        "    (uploads / 'a').mkdir(); (uploads / 'a/b.png').touch()\n"
        "    for path in (folder, uploads, uploads / 'a', uploads / 'a/b.png'):\n"
        "        print(oct(path.stat().st_mode & 0o777))\n"
        "print(folder.exists())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert said.stdout.split() == ["0o700", "0o700", "0o700", "0o600", "False"], said.stderr
