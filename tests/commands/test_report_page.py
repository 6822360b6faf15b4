"""`pgjax report` on a finished evaluation: the page holds what the records say."""

import base64
import html.parser
import io
import json
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import PHOTOS
from PIL import Image

from pgjax.errors import UserError
from pgjax.evaluation.overview import compared, overview
from pgjax.evaluation.page import bars
from pgjax.evaluation.store import Store

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
        self.feed(text)
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
    cells = [row for row in parsed.rows if row[3:4] == ["acc"]]
    assert [row[:5] for row in cells] == [
        ["ft-vqav2-448", "vqav2", "minival", "acc", "25.00"],
        ["<other>", "vqav2", "minival", "acc", "16.67"],
    ]
    assert cells[0][6:8] == ["85.64", "-60.64"]
    assert ["even", "6", "0.5000"] in [row[:3] for row in parsed.rows]
    assert [i["alt"] for i in parsed.images] == ["best", "worst", "random"] * 2
    for image in parsed.images:
        data = base64.b64decode(image["src"].partition(",")[2])
        assert Image.open(io.BytesIO(data)).convert("RGB").getcolors(1 << 20).__len__() > 1000
    assert parsed.svg == 1 + 2 * 2
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # nothing from elsewhere


def test_markdown(tmp_path):
    page = overview([finished(tmp_path / "a", {1})], [], 2)
    page.write(tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert any(line.startswith("| ft-vqav2-448 | vqav2 | minival | acc | 8.33 |") for line in lines)
    files = [line.partition("](")[2][:-1] for line in lines if line.startswith("![")]
    assert len(files) == 5 and all((tmp_path / file).stat().st_size > 200 for file in files)
    for file in files[:2]:
        ElementTree.parse(tmp_path / file)
    with pytest.raises(UserError, match=r"expected a path that ends in \.html or \.md"):
        page.write(tmp_path / "report.pdf")


def test_bars_are_to_scale():
    root = ElementTree.fromstring(
        bars([("a<", 50.0, (40.0, 60.0), 100.0), ("b", None, None, 25.0)])
    )
    space = "{http://www.w3.org/2000/svg}"
    [bar] = root.findall(f"{space}rect")
    interval, diamond, other = (p.get("d") for p in root.findall(f"{space}path"))
    start, width = float(bar.get("x")), float(bar.get("width"))
    assert width == pytest.approx(280) and float(diamond[1:].split()[0]) == start + 560
    assert float(other[1:].split()[0]) == start + 140
    assert interval.startswith(f"M{start + 224} ") and f"H{start + 336}" in interval
    assert next(t.text for t in root.findall(f"{space}text")) == "a<"


def test_compared(tmp_path):
    a, b = finished(tmp_path / "a", {0, 2, 4, 6}), finished(tmp_path / "b", {0, 1})
    text, page = compared(a, b, 2)
    row = next(r for r in map(str.split, text.splitlines()) if r[:2] == ["minival", "acc"])
    assert row[:6] == ["minival", "acc", "12", "0.3333", "0.1667", "+0.1667"]
    assert row[-2:] == ["3", "1"]
    page.write(tmp_path / "c.html")
    rows = Parsed((tmp_path / "c.html").read_text()).rows
    assert [LINES[1]["prefix"], "<b>1", "<b>1", LINES[1]["suffix"]] in rows


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
