"""The demo page under many requests at once, and under requests that nobody honest makes."""

import concurrent.futures
import json
import socket
import stat
import urllib.parse

import numpy as np
import pytest
from PIL import Image
from served_demo import serving

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    from pgjax.data.scenes import SceneSource

    example = SceneSource(
        "demo_test", tasks=("detect",), max_shapes=1, style="plain", wording="pt"
    )[0]
    path = tmp_path_factory.mktemp("scene") / "visitor.png"
    Image.fromarray(example["image"]).resize((256, 256), Image.Resampling.NEAREST).save(path)
    return path, example


def test_programs_get_text_and_objects(demo, scene):
    path, example = scene
    said = demo.ask(demo.upload(path), example["prefix"])
    (found,) = said["objects"]
    np.testing.assert_allclose(found["box"], np.array(example["boxes"][0]) * 256, atol=12)
    assert found["label"] == example["labels"][0] and 0 < found["score"] <= 1
    assert said["ended"] and said["logprob"] < 0 and said["text"].startswith("<loc")
    segment = demo.ask(demo.upload(path), example["prefix"].replace("detect", "segment"))
    assert segment["objects"][0]["segmentation"]["size"] == [256, 256]


@pytest.mark.parametrize("count", [50, 300])
def test_many_requests_at_once_are_answered_or_refused(demo, scene, count):
    """The queue takes 128; who comes beyond that is told so, and the page lives."""
    image = demo.upload(scene[0])
    want = demo.ask(image)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: demo.ask(image), range(count)))
    refused = [answer for answer in answers if answer != want]
    assert len(answers) - len(refused) >= min(count, 100)
    assert not refused if count <= 128 else all("queue is full" in str(x).lower() for x in refused)
    assert demo.ask(image) == want


def test_half_open_connections_do_not_block_others(demo, scene):
    held = []
    for sent in (
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    ):
        for _ in range(40):
            connection = socket.create_connection(("127.0.0.1", demo.port), timeout=10)
            connection.sendall(sent)
            held.append(connection)
    assert isinstance(demo.ask(demo.upload(scene[0])), dict)
    for connection in held:
        connection.close()


def test_files_elsewhere_are_not_served(demo, scene, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    uploaded = demo.upload(scene[0])["path"]
    assert demo.get(f"/gradio_api/file={uploaded}")[0] == 200
    up = "../" * 12
    for path in (secret, f"{uploaded}/{up}{secret}", demo.log, "/etc/passwd", f"{up}etc/passwd"):
        for name in (str(path), urllib.parse.quote(str(path), safe="")):
            for route in ("file=", "file/", "static/", "assets/", "theme.css/"):
                for prefix in ("/gradio_api/", "/"):
                    status, text = demo.get(f"{prefix}{route}{name}")
                    assert "a secret" not in text and "root:" not in text, (prefix, route, name)
                    assert status != 200 or text.lstrip().startswith(("<", ":", "/*", "@")), text[
                        :99
                    ]
    for path in (str(secret), "/etc/passwd", f"{uploaded}/{up}etc/passwd"):
        said = demo.ask({"path": path, "meta": {"_type": "gradio.FileData"}})
        assert not isinstance(said, dict) and "a secret" not in str(said)


def test_the_server_fetches_nothing_from_this_machine(demo):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        said = demo.ask({"path": url, "url": url, "meta": {"_type": "gradio.FileData"}})
        assert not isinstance(said, dict)
        assert demo.get(f"/gradio_api/file={url}")[0] == 403
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prompt": None}, "prompt is null"),
        ({"prompt": "x" * 10_000}, "The prompt has 10,000 characters"),
        ({"sampler": None}, "sampler is null"),
        ({"sampler": {"a": 1}}, "sampler is {'a': 1}"),
        ({"seed": None}, "seed is null"),
        ({"length": None}, "length is null"),
        ({"orient": None}, "orient is null"),
    ],
)
def test_wrong_values_get_one_sentence(demo, scene, change, said):
    message = demo.ask(demo.upload(scene[0]), **change)
    assert message.startswith(said) and message.endswith(".") and "Error" not in message


def test_bad_uploads_get_one_sentence(demo, scene, tmp_path):
    Image.fromarray(np.zeros((25_000, 20_000), np.uint8)).convert("1").save(tmp_path / "huge.png")
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "empty.png").touch()
    for name, said in (
        ("huge.png", "the image is too large"),
        ("a.svg", "not an image of a known format"),
        ("empty.png", "the image is empty"),
    ):
        assert said in demo.ask(demo.upload(tmp_path / name))
    assert "There is no image yet" in demo.ask(None)
    assert isinstance(demo.ask(demo.upload(scene[0])), dict)


def test_other_sites_cannot_use_the_page(demo, scene):
    image = demo.upload(scene[0])
    body = json.dumps({"data": ["tiny", image, "caption", "greedy", 8, 0, False]})
    kind = {"Content-Type": "application/json"}
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        for path, content in (("/", None), ("/config", None), ("/gradio_api/call/ask", body)):
            status, text = demo.get(path, {**kind, **headers}, content)
            assert status == 403 and text.endswith(".\n"), (headers, path, text)
    status, _ = demo.get("/", {"Origin": demo.url})
    assert status == 200


def test_uploads_are_readable_by_their_user_only(demo, scene):
    demo.upload(scene[0])
    (folder,) = demo.folder.glob("pgjax_demo_*")
    files = [folder, *folder.rglob("*")]
    assert any(path.name == "visitor.png" for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}


def test_a_page_that_is_open_to_the_network_says_so(tmp_path):
    with serving(tmp_path, "--host=0.0.0.0") as demo:
        assert demo.get("/", {"Host": "evil.example"})[0] == 403
        assert demo.get("/", {"Host": socket.gethostname()})[0] == 200
    assert "--host 0.0.0.0 opens the page to the network" in demo.log.read_text()
    assert not list(tmp_path.glob("pgjax_demo_*"))  # what was uploaded is gone
