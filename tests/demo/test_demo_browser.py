"""The demo page in a headless browser, wide and on a phone; screenshots go to $PGJAX_ARTEFACTS."""

import io
import json
import os
import pathlib
import shutil
import time
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageColor
from served_demo import serving

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
pytest.importorskip("gradio")
webdriver = pytest.importorskip("selenium.webdriver")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not (CHROMIUM and shutil.which("chromedriver")):
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, command):
    """Two checkpoints: the tiny one, and its export, which is asked as a released one would be."""
    folder = tmp_path_factory.mktemp("demo")
    command("-m", "pgjax", "convert", "tiny", folder / "exported")
    with serving(folder, f"--checkpoints=tiny,{folder / 'exported'}") as demo:
        yield demo


class Visitor:
    """Someone with a browser whose window has a given width."""

    def __init__(self, demo, width, downloads):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update",
                     "--disable-sync", "--disable-quic"):  # fmt: skip
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.browser = webdriver.Chrome(options, service)
        self.width, self.downloads = width, downloads
        screen = {"width": width, "height": 1000 if width > 600 else 2200}
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {**screen, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
        )
        self.browser.get(demo.url)
        self.until(lambda: self.all("#examples img"))

    def until(self, condition, seconds=240):
        return WebDriverWait(
            self.browser, seconds, ignored_exceptions=[StaleElementReferenceException, IndexError]
        ).until(lambda _: condition())

    def all(self, selector):
        return [
            x for x in self.browser.find_elements(By.CSS_SELECTOR, selector) if x.is_displayed()
        ]

    def text(self, selector):
        return " ".join(x.text for x in self.all(selector))

    def value(self, selector):
        return self.all(selector)[0].get_attribute("value")

    def click(self, selector, label=""):
        element = self.until(lambda: next((x for x in self.all(selector) if label in x.text), None))
        self.browser.execute_script("arguments[0].scrollIntoView(); arguments[0].click()", element)

    def choose(self, menu, label):
        self.all(f"#{menu} input")[0].click()
        option = self.until(
            lambda: next((x for x in self.all("[role=option]") if label in x.text), None)
        )
        self.browser.execute_script(
            "arguments[0].dispatchEvent(new MouseEvent('mousedown', {bubbles: true}))", option
        )

    def answered(self, prompt, panel=0):
        """Waits for the answer to a prompt, and returns what is written."""
        self.until(
            lambda: (
                f"asked: {prompt}" in (said := self.text(f"#answer{panel}")) and "tokens" in said
            )
        )
        return self.text(f"#answer{panel}")

    def picture(self, panel=0):
        image = self.until(lambda: self.all(f"#picture{panel} img")[0])
        with urllib.request.urlopen(image.get_attribute("src")) as response:
            return Image.open(io.BytesIO(response.read())).convert("RGB")

    def download(self, label):
        self.click("#answer0 a.pg-download", label)
        name = self.all("#answer0 a.pg-download")[0].get_attribute("download")
        ending = {"JSON": "_boxes.json", "COCO": "_coco.json", "PNG": "_masks.zip"}[label]
        path = self.downloads / (name.rpartition("_")[0] + ending)
        for _ in range(100):
            if path.exists():
                return path
            time.sleep(0.1)
        raise AssertionError(f"{path.name} did not come: {os.listdir(self.downloads)}")

    def photograph(self, name):
        folder = pathlib.Path(os.environ.get("PGJAX_ARTEFACTS", self.downloads))
        folder.mkdir(parents=True, exist_ok=True)
        self.browser.execute_script("scrollTo(0, 0)")
        time.sleep(0.5)
        self.browser.save_screenshot(str(folder / f"demo_{name}_{self.width}.png"))


@pytest.fixture(params=[1300, 420])
def visitor(request, demo, tmp_path):
    visitor = Visitor(demo, request.param, tmp_path)
    yield visitor
    visitor.browser.quit()


def test_a_visit(visitor, demo):
    # An example of the first checkpoint is asked by a click.
    visitor.photograph("start")
    visitor.click("#examples button", "segment")
    prompt = visitor.until(lambda: (v := visitor.value("#prompt textarea")).startswith("seg") and v)
    said = visitor.answered(prompt)
    label = prompt.removeprefix("segment ")
    assert label in said and "<loc" not in said and "<seg" not in said and "%" in said
    visitor.photograph("segment")

    # The answer stands beside the picture, or on a phone below it; nothing is cut off.
    asked, answer = (visitor.all(x)[0].rect for x in ("#image", "#picture0"))
    if visitor.width > 600:
        assert answer["x"] >= asked["x"] + asked["width"]
        assert answer["y"] < asked["y"] + asked["height"]
    else:
        assert answer["y"] >= asked["y"] + asked["height"]
    wide = "return document.documentElement.scrollWidth"
    assert visitor.browser.execute_script(wide) <= visitor.width

    # The object is drawn in the color of its place in the list.
    swatch = visitor.all("#answer0 .pg-objects li")[0].get_attribute("style")
    color = np.array(ImageColor.getrgb(swatch.partition("--pg-color:")[2].strip(" ;")))
    drawn = np.asarray(visitor.picture(), int)
    assert (np.abs(drawn - color).max(-1) < 40).mean() > 0.003

    # What was found can be taken away.
    boxes = json.loads(visitor.download("JSON").read_text())
    assert [x["label"] for x in boxes["objects"]] == [label] and boxes["prefix"] == prompt
    coco = json.loads(visitor.download("COCO").read_text())
    assert coco["categories"] == [{"id": 1, "name": label}]
    with zipfile.ZipFile(visitor.download("PNG")) as archive:
        mask = np.asarray(Image.open(io.BytesIO(archive.read(archive.namelist()[0]))))
    assert mask.shape == (boxes["height"], boxes["width"]) and mask.any() and not mask.all()

    # What the model wrote is folded away.
    assert not visitor.all("#raw0 textarea")
    visitor.click("#written0 button")
    visitor.until(lambda: "<seg" in visitor.value("#raw0 textarea"))

    # A threshold hides objects, and shows them again, without another question.
    for value, shown in (("100", 0), ("0", 1)):
        slider = visitor.all("#threshold input[type=range]")[0]
        visitor.browser.execute_script(
            "arguments[0].value = arguments[1];"
            "for (const kind of ['input', 'change', 'pointerup', 'mouseup'])"
            " arguments[0].dispatchEvent(new Event(kind, {bubbles: true}))",
            slider, value,
        )  # fmt: skip
        visitor.until(lambda shown=shown: len(visitor.all("#answer0 .pg-objects li")) == shown)

    # Another task writes another prompt.
    visitor.click("#task label", "Detect")
    visitor.until(lambda: visitor.value("#prompt textarea") == f"detect {label}")
    visitor.click("#ask")
    assert label in visitor.answered(f"detect {label}")
    visitor.click("#task label", "Caption")
    visitor.until(lambda: visitor.value("#prompt textarea") == "caption")

    # Two checkpoints side by side, each asked in its own words.
    visitor.choose("second", "exported")
    visitor.click("#ask")
    visitor.answered("caption")
    visitor.answered("caption en", panel=1)
    visitor.photograph("two")
    first, second = (visitor.all(f"#panel{i}")[0].rect for i in range(2))
    assert (second["x"] > first["x"]) == (visitor.width > 600)
    assert (second["y"] > first["y"]) == (visitor.width < 600)

    # The other one brings its own tasks and examples.
    visitor.choose("checkpoint", "exported")
    visitor.until(lambda: "Read text" in visitor.text("#task"))
    visitor.until(lambda: "ocr" in visitor.text("#examples"))
    visitor.photograph("other")

    # Nothing went wrong on the page, and nothing came from elsewhere.
    problems = [x for x in visitor.browser.get_log("browser") if x["level"] == "SEVERE"]
    assert not problems
    sent = [json.loads(x["message"])["message"] for x in visitor.browser.get_log("performance")]
    urls = [
        x["params"]["request"]["url"] for x in sent if x["method"] == "Network.requestWillBeSent"
    ]
    assert urls and all(url.startswith((demo.url, "data:", "blob:")) for url in urls)


def test_a_visitor_without_a_picture_is_told_so(demo, tmp_path):
    visitor = Visitor(demo, 1300, tmp_path)
    try:
        visitor.click("#ask")
        visitor.until(lambda: "There is no image yet" in visitor.text("body"))
    finally:
        visitor.browser.quit()
