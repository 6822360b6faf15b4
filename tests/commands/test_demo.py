"""The demo page in a headless browser, under many requests at once, and with bad uploads."""

import concurrent.futures
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

pytest.importorskip("gradio")
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = tmp_path_factory.mktemp("demo") / "log.txt"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pgjax", "demo", f"--port={port}"],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(address, timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        yield address
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    from pgjax.data.scenes import SceneSource

    source = SceneSource("demo_test", tasks=("detect",), max_shapes=1, style="plain", wording="pt")
    example = source[0]
    path = tmp_path_factory.mktemp("scene") / "visitor.png"
    Image.fromarray(example["image"]).resize((256, 256), Image.Resampling.NEAREST).save(path)
    return path, example


def ask(client, path, prompt, sampler="greedy", length=24):
    file = None if path is None else handle_file(path)
    return client.predict("tiny", file, prompt, sampler, length, 0, api_name="/ask")


def test_fifty_requests_at_once_are_all_answered(url, scene):
    path, _ = scene
    client = Client(url, verbose=False, download_files=False)
    want = ask(client, path, "caption")[0]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: ask(client, path, "caption")[0], range(50)))
    assert answers == [want] * 50


def test_bad_uploads_get_a_clear_message(url, scene, tmp_path):
    client = Client(url, verbose=False)
    huge = Image.fromarray(np.zeros((25_000, 20_000), np.uint8)).convert("1")
    huge.save(tmp_path / "huge.png")  # 500 megapixels in a small file
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "empty.png").touch()
    for path, prompt, message in (
        (tmp_path / "huge.png", "caption", "the image is too large"),
        (tmp_path / "a.svg", "caption", "not an image of a known format"),
        (tmp_path / "empty.png", "caption", "the image is empty"),
        (scene[0], "x" * 10_000, "The prompt has 10,000 characters"),
        (None, "caption", "There is no image yet"),
    ):
        with pytest.raises(AppError, match=message):
            ask(client, path, prompt)
    assert ask(client, scene[0], "caption")[0]


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--disable-quic", "--window-size=1200,1000"):  # fmt: skip
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def test_a_visitor_sees_boxes(url, scene, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    path, example = scene
    browser.get(url)
    wait = WebDriverWait(browser, 60)
    upload = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "input[type=file]"))
    upload.send_keys(str(path))
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "img[src*='visitor']"))
    prompt = browser.find_element(By.CSS_SELECTOR, "#prompt textarea")
    prompt.clear()
    prompt.send_keys(example["prefix"])
    browser.find_element(By.ID, "ask").click()
    answer = "#answer textarea"
    wait.until(lambda b: "<loc" in b.find_element(By.CSS_SELECTOR, answer).get_attribute("value"))
    picture = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "#picture img"))
    wait.until(lambda _: picture.get_attribute("naturalWidth") == "256")
    artefacts = pathlib.Path(os.environ.get("PGJAX_ARTEFACTS", tmp_path))
    artefacts.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(artefacts / "demo.png"))
    with urllib.request.urlopen(picture.get_attribute("src")) as response:
        drawn = np.asarray(Image.open(response).convert("RGB")).astype(int)
    before = np.asarray(Image.open(path).convert("RGB")).astype(int)
    changed = (np.abs(drawn - before).max(axis=-1) > 20).mean()
    y0, x0, y1, x1 = example["boxes"][0]
    area = (y1 - y0) * (x1 - x0)
    assert 0 < changed < area  # a frame and a label
