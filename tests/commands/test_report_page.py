"""`pgjax report` on a finished evaluation: the page holds what the records say."""

import base64
import html
import html.parser
import io
import json
import os
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from conftest import PHOTOS
from PIL import Image

from pgjax.errors import UserError
from pgjax.evaluation.gallery import Card, Gallery, drawn, read_question
from pgjax.evaluation.main_score import MainScore
from pgjax.evaluation.overview import compared, overview
from pgjax.evaluation.page import Plot
from pgjax.evaluation.store import Store
from pgjax.text.locations import shortened

LINES = [json.loads(line) for line in (PHOTOS / "photos.jsonl").read_text().splitlines()]


def finished(folder, right, checkpoint="ft-vqav2-448"):
    data = {"name": "jsonl", "fname": str(PHOTOS / "photos.jsonl")}
    about = {"checkpoint": checkpoint, "benchmark": "vqav2", "res": 448, "published": "vqav2"}
    store = Store(
        folder,
        "minival",
        {"kind": "answers", "data": data, "metric": {"name": "vqa_accuracy"}},
        about,
    )
    for i, line in enumerate(LINES):
        acc = float(i in right)
        kind = "even" if i % 2 == 0 else "odd"
        record = {k: v for k, v in line.items() if k != "image"}
        record |= {"index": i, "prediction": f"<b>{i}", "kind": kind}
        store.add({**record, "scores": {"acc": acc, f"acc/{kind}": acc}})
    store.finish()
    scores = {"acc": len(right) / 12, "acc/even": 0.5, "acc/odd": 0.0, "examples": 12}
    (folder / "scores.json").write_text(json.dumps({"minival": scores}))
    return folder


class Parsed(html.parser.HTMLParser):
    """Cells of tables, pictures, drawings, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.open, self.svg = [], [], [], text.count("<svg")
        self.feed(text.replace("<!DOCTYPE html>", ""))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_html(tmp_path):
    finished(tmp_path / "runs" / "a", {0, 2, 4})
    finished(tmp_path / "runs" / "b", {0, 2}, "<other>")
    page = overview([tmp_path / "runs"], ["kind"], 3)
    page.write(tmp_path / "out" / "report.html")
    text = (tmp_path / "out" / "report.html").read_text()
    parsed = Parsed(text)
    cells = [row for row in parsed.rows if row[2:4] == ["minival", "acc"]]
    assert [row[:5] for row in cells] == [
        ["ft-vqav2-448", "vqav2", "minival", "acc", "25.00"],
        ["<other>", "vqav2", "minival", "acc", "16.67"],
    ]
    assert cells[0][6:8] == ["85.64", "-60.64"]
    assert ["even", "ft-vqav2-448", "6", "0.5000"] in [row[:4] for row in parsed.rows]
    assert parsed.svg == len(cells) + 2 * 2 + 2 * 2  # scores, categories, and those of `kind`
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # nothing from elsewhere


def test_each_picture_is_there_once(tmp_path):
    """With all its questions, and the answers of both checkpoints to each."""
    finished(tmp_path / "a", {0, 2, 4})
    finished(tmp_path / "b", {0, 2}, "other")
    overview([tmp_path], [], 12).write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    images = [image["src"].partition(",")[2] for image in Parsed(text).images]
    photos = {line["image"] for line in LINES}
    assert len(images) == len(set(images)) == len(photos) < len(LINES)
    for image in images:
        picture = Image.open(io.BytesIO(base64.b64decode(image)))
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100
    for i in range(len(LINES)):
        assert text.count(f">&lt;b&gt;{i}</q>") == 2
    assert text.count('data-tags="differing|right|wrong"') == 1
    for line in LINES:
        assert f">{html.escape(shortened(line['suffix']))}</q>" in text


def test_boxes_lie_above_the_picture(tmp_path):
    """In parts of its size: the expected one dashed, the answer with its label."""
    record = {
        "prefix": "detect a", "suffix": "<loc0000><loc0000><loc0512><loc0256> a & b", "index": 0,
        "prediction": "nothing", "scores": {"acc": 0.25},
    }  # fmt: skip
    question = read_question("worst", [(0, record)], MainScore("acc"))
    gallery = Gallery(["tiny"], "acc", [Card(np.zeros((20, 40, 3), np.uint8), [question])])
    text = gallery.html()
    assert 'style="--ratio:2.0000"' in text
    assert '<i class="box expected" style="left:0.00%;top:0.00%;width:25.00%;height:50.00%;' in text
    assert ' title="a &amp; b"></i>' in text and text.count("<i ") == 1  # the answer has none
    right = record | {"prediction": record["suffix"]}
    question = read_question("best", [(0, right)], MainScore("loss", True))
    gallery = Gallery(["tiny"], "loss", [Card(np.zeros((20, 40, 3), np.uint8), [question])])
    assert "<b>a &amp; b</b></i>" in gallery.html()
    drawn_picture = drawn(gallery.cards[0])
    assert drawn_picture.any() and drawn_picture.shape == (20, 40, 3)


def loss_only(folder):
    data = {"name": "jsonl", "fname": str(PHOTOS / "photos.jsonl")}
    about = {"checkpoint": "c", "benchmark": "mine", "res": 224, "published": ""}
    store = Store(folder, "val", {"kind": "perplexity", "data": data, "metric": {}}, about)
    for i in range(3):
        store.add({"index": i, "suffix": "text", "scores": {"loss": 1.0 + i}})
    store.finish()
    scores = {"val": {"loss": 2.0, "perplexity": 7.4, "examples": 3}}
    (folder / "scores.json").write_text(json.dumps(scores))


def test_losses_have_no_bars(tmp_path):
    loss_only(tmp_path / "a")
    overview([tmp_path], [], 1).write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<svg" not in text and ">2.000</td>" in text and "loss 3</span>" in text
    assert (
        "published" not in text.partition("<table>")[2].partition("</table>")[0]
    )  # no such column


def test_markdown(tmp_path):
    page = overview([finished(tmp_path / "a", {1})], [], 2)
    page.write(tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert any(line.startswith("| ft-vqav2-448 | vqav2 | minival | acc | 8.33 |") for line in lines)
    files = [line.partition("](")[2][:-1] for line in lines if line.startswith("![")]
    assert len(files) == len(set(files)) >= 2
    for file in files:
        with Image.open(tmp_path / file) as picture:
            assert 20 <= max(picture.size) <= 448
    line = LINES[1]
    assert f"| best | {line['prefix']} | <b>1 (1) | {shortened(line['suffix'])} |" in lines
    with pytest.raises(UserError, match=r"expected a path that ends in \.html or \.md"):
        page.write(tmp_path / "report.pdf")


def test_plots_are_to_scale():
    root = ElementTree.fromstring(Plot(50.0, (40.0, 60.0), 75.0, 100.0).svg())
    track, bar = root.findall("rect")
    interval, diamond = (p.get("d") for p in root.findall("path"))
    assert (track.get("width"), float(bar.get("width"))) == ("200", 100)
    assert interval.startswith("M80.0 8H120.0") and diamond.startswith("M150.0 ")
    said = root.findtext("title")
    assert said == "measured 50, 95 % from 40 to 60, published 75; from 0 to 100"


def test_compared(tmp_path):
    a, b = finished(tmp_path / "a", {0, 2, 4, 6}), finished(tmp_path / "b", {0, 1})
    text, page = compared(a, b, 2)
    row = next(r for r in map(str.split, text.splitlines()) if r[:2] == ["minival", "acc"])
    assert row[:6] == ["minival", "acc", "12", "0.3333", "0.1667", "+0.1667"]
    assert row[-2:] == ["3", "1"]
    page.write(tmp_path / "c.md")
    lines = (tmp_path / "c.md").read_text().splitlines()
    line = LINES[1]
    row = f"| B better | {line['prefix']} | <b>1 (0) | <b>1 (1) | {shortened(line['suffix'])} |"
    assert row in lines and sum(line.startswith("| A better") for line in lines) == 2


def test_data_that_is_gone_leaves_the_numbers(tmp_path):
    folder = finished(tmp_path / "a", {1})
    what = json.loads((folder / "minival.json").read_text())
    what["identity"]["data"]["fname"] = "/gone.jsonl"
    (folder / "minival.json").write_text(json.dumps(what))
    page = overview([folder], [], 2)
    page.write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "the data cannot be opened: jsonl: /gone.jsonl cannot be read" in text
    assert "<img" not in text


def test_the_command(tmp_path, program):
    folder = finished(tmp_path / "a", {1})
    program("report", folder, f"--out={tmp_path / 'r.md'}", "--cases=0", "--by=kind", "--by", "x")
    assert (tmp_path / "r.md").exists()
    assert "A higher" in program("report", folder, folder, "--compare").out
    said = program("report", folder, "--compare", status=2)
    assert said.err == "error: --compare takes two folders, got 1.\n"
    said = program("report", tmp_path / "nowhere", status=1)
    assert "nowhere nor a folder below it holds a scores.json" in said.err


SORTED = "return [...document.querySelector('tbody').rows].map(r => r.cells[0].textContent)"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1300, 420])
def test_in_a_browser(tmp_path, browser, width):
    """From the disk, at the width of a desk and of a telephone: sorted, filtered, searched."""
    for name, right in (("a", {0, 2, 4}), ("b", {0, 2}), ("c", set()), ("d", {0, 1, 2, 3, 5})):
        finished(tmp_path / name, right, name)
    loss_only(tmp_path / "e")
    overview([tmp_path], [], 2).write(tmp_path / "r.html")
    browser.set_window_size(width, 900)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get((tmp_path / "r.html").as_uri())

    def find(selector):
        return browser.find_elements("css selector", selector)

    def click(*names):
        for button in find("button"):
            if button.text.rstrip(" ↕↑↓") in names:
                button.click()
                return
        raise AssertionError(names)

    across = browser.execute_script("return document.documentElement.scrollWidth")
    assert across <= width  # nothing to scroll sideways
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0

    click("measured")  # the largest first, and those without a number last
    order = browser.execute_script(SORTED)
    numbers = browser.execute_script(SORTED.replace("cells[0]", "cells[4]"))
    given = [float(x) for x in numbers if x]
    assert given == sorted(given, reverse=True) and numbers == numbers[: len(given)] + [""] * (
        len(numbers) - len(given)
    )
    click("measured")
    again = browser.execute_script(SORTED.replace("cells[0]", "cells[4]"))
    assert [x for x in again if x] == [x for x in numbers if x][::-1]
    click("checkpoint")
    assert browser.execute_script(SORTED) == sorted(order)

    (field, *_) = find("input[aria-label='filter rows']")
    field.send_keys("MINIVAL")
    shown = [row for row in find("tbody")[0].find_elements("css selector", "tr")
             if row.is_displayed()]  # fmt: skip
    assert 0 < len(shown) < len(order) and all("minival" in row.text for row in shown)

    gallery = find(".gallery")[0]
    questions = gallery.find_elements("css selector", "section")
    click("worst")
    some = [each for each in questions if each.is_displayed()]
    assert some and all(each.text.startswith("worst") for each in some)
    assert all(card.is_displayed() == bool(card.text) for card in find(".card"))
    click("all")
    search = find("input[aria-label='search in examples']")[0]
    search.send_keys(LINES[0]["prefix"])
    assert all(
        LINES[0]["prefix"].lower() in each.text.lower()
        for each in questions if each.is_displayed()
    )  # fmt: skip
    assert not [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
    if folder := os.environ.get("PGJAX_SCREENSHOTS"):
        browser.save_screenshot(str(pathlib.Path(folder, f"report_{width}.png")))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("scores.json", "0.5", '"x"', r"scores\.json: minival is .*expected numbers by name"),
        ("scores.json", '"minival"', '"other"', r"other\.json does not exist"),
        ("scores.json", "{", "[", r"scores\.json:1 is not JSON"),
        ("minival.json", '"metric"', '"x"', r"minival\.json: identity\.metric is missing"),
        ("minival.json", '"res": 448', '"res": []', r"minival\.json: about\.res is \[\];"),
        (
            "minival.json",
            '"identity": {',
            '"identity": 5, "x": {',
            r"minival\.json: identity is 5",
        ),
        ("minival.jsonl", '"index": 3', '"index": "3"', r"minival\.jsonl:4: index is '3'; expec"),
        ("minival.jsonl", '"acc": 0.0', '"acc": {}', r"minival\.jsonl:2: scores is .*numbers by"),
        ("minival.jsonl", "{", "", r"minival\.jsonl:1 is not JSON"),
        ("minival.jsonl", '"prediction": "<b>0"', '"prediction": 1', r":1: prediction is 1; expe"),
    ],
)
def test_damaged_evaluations_are_refused_by_file_and_line(tmp_path, name, old, new, message):
    path = finished(tmp_path, {0, 2}) / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        overview([tmp_path], [], 2)


def test_pictures_that_are_not_there_are_left_out(tmp_path):
    path = finished(tmp_path, {0}) / "minival.json"
    for fname in ('"/nowhere.jsonl"', "5", '"\\u0000"'):
        content = json.loads(path.read_text())
        content["identity"]["data"]["fname"] = json.loads(fname)
        path.write_text(json.dumps(content))
        overview([tmp_path], [], 2).write(tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert "There are no pictures, because" in page and "<img" not in page
