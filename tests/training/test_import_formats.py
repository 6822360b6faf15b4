"""One set of drawn scenes in every format: the same lines, and a run that learns from them."""

import collections
import io
import json
import tarfile
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from pgjax.data.scenes import COLORS, SceneSource

pytestmark = pytest.mark.slow

SIDE = 64
NAMES = list(COLORS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """(file name, [(label, x, y, width, height)]) of scenes, which lie as PNGs in a folder."""
    folder = tmp_path_factory.mktemp("photos")
    source = SceneSource("own", style="rich", tasks=("caption",), max_shapes=2)
    found = []
    for i in range(480):
        example, shapes = source.draw(i)
        Image.fromarray(example["image"]).save(folder / f"{i:04}.png")
        objects = []
        for shape in shapes:
            y0, x0, y1, x1 = (2 * v for v in shape.box)
            objects.append((shape.color, x0, y0, x1 - x0, y1 - y0))
        found.append((f"{i:04}.png", objects))
    return folder, found


def as_coco(folder, scenes):
    annotations = [
        {"id": 0, "image_id": i, "category_id": NAMES.index(label), "bbox": box}
        for i, (_, objects) in enumerate(scenes)
        for label, *box in objects
    ]
    content = {
        "images": [
            {"id": i, "file_name": name, "width": SIDE, "height": SIDE}
            for i, (name, _) in enumerate(scenes)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [{**one, "id": i} for i, one in enumerate(annotations)],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def as_yolo(folder, scenes):
    (folder / "set/labels").mkdir(parents=True)
    (folder / "set/images").symlink_to(folder / "photos")
    for name, objects in scenes:
        lines = [
            " ".join(
                [
                    str(NAMES.index(label)),
                    *(f"{v / SIDE:.8f}" for v in (x + w / 2, y + h / 2, w, h)),
                ]
            )
            for label, x, y, w, h in objects
        ]
        (folder / f"set/labels/{name[:-4]}.txt").write_text("\n".join(lines))
    (folder / "set/data.yaml").write_text(json.dumps({"train": "images", "names": NAMES}))
    return folder / "set"


def as_voc(folder, scenes):
    (folder / "voc/Annotations").mkdir(parents=True)
    for name, objects in scenes:
        inner = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for label, x, y, w, h in objects
        )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
        text = f"<annotation><filename>{name}</filename>{size}{inner}</annotation>"
        (folder / f"voc/Annotations/{name[:-4]}.xml").write_text(text)
    return folder / "voc"


def rows(scenes):
    for name, objects in scenes:
        boxes = {"bbox": [box for _, *box in objects], "categories": [one[0] for one in objects]}
        yield {"file_name": name, "objects": boxes}


def as_imagefolder(folder, scenes):
    (folder / "meta").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows(scenes))
    (folder / "meta/metadata.jsonl").write_text(text)
    return folder / "meta"


def as_label_studio(folder, scenes):
    tasks = []
    for name, objects in scenes:
        result = [
            {
                "type": "rectanglelabels", "original_width": SIDE, "original_height": SIDE,
                "value": {"x": x / SIDE * 100, "y": y / SIDE * 100, "width": w / SIDE * 100,
                          "height": h / SIDE * 100, "rotation": 0, "rectanglelabels": [label]},
            }
            for label, x, y, w, h in objects
        ]  # fmt: skip
        url = f"/data/upload/1/0123abcd-{name}"
        tasks.append({"data": {"image": url}, "annotations": [{"result": result}]})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder / "tasks.json"


def as_cvat(folder, scenes):
    images = "".join(
        f'<image id="{i}" name="{name}" width="{SIDE}" height="{SIDE}">'
        + "".join(
            f'<box label="{label}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
            for label, x, y, w, h in objects
        )
        + "</image>"
        for i, (name, objects) in enumerate(scenes)
    )
    (folder / "cvat.xml").write_text(f"<annotations>{images}</annotations>")
    return folder / "cvat.xml"


def as_labelme(folder, scenes):
    (folder / "labelme").mkdir()
    for name, objects in scenes:
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[x + w, y], [x, y + h]]}
            for label, x, y, w, h in objects
        ]
        content = {"shapes": shapes, "imagePath": name, "imageHeight": SIDE, "imageWidth": SIDE}
        (folder / f"labelme/{name[:-4]}.json").write_text(json.dumps(content))
    return folder / "labelme"


def as_parquet(folder, scenes):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = [
        {"image": {"bytes": None, "path": row["file_name"]}, "objects": row["objects"]}
        for row in rows(scenes)
    ]
    pq.write_table(pa.Table.from_pylist(table), folder / "train.parquet")
    return folder / "train.parquet"


def as_webdataset(folder, scenes):
    with tarfile.open(folder / "set.tar", "w") as tar:
        for row in rows(scenes):
            name = row["file_name"]
            data = {name: (folder / "photos" / name).read_bytes()}
            data[f"{name[:-4]}.json"] = json.dumps({"objects": row["objects"]}).encode()
            for key, value in data.items():
                member = tarfile.TarInfo(key)
                member.size = len(value)
                tar.addfile(member, io.BytesIO(value))
    return folder / "set.tar"


FORMATS = [
    as_coco, as_yolo, as_voc, as_imagefolder, as_label_studio, as_cvat, as_labelme, as_parquet,
    as_webdataset,
]  # fmt: skip


@pytest.mark.parametrize("write", FORMATS, ids=lambda f: f.__name__.removeprefix("as_"))
def test_every_format_gives_the_same_lines(program, scenes, tmp_path, write):
    photos, objects = scenes
    (tmp_path / "photos").symlink_to(photos)
    out = tmp_path / "out.jsonl"
    args = ["--images", tmp_path / "set/images" if write is as_yolo else tmp_path / "photos"]
    source = write(tmp_path, objects)
    said = program("make-jsonl", source, *args, "--out", out, "--negatives=1")
    expected = {}
    for name, things in objects:
        for label, x, y, w, h in things:
            box = np.array([y, x, y + h, x + w]) / SIDE
            expected.setdefault((name, f"detect {label}"), []).append(box)
    count = 0
    for line in map(json.loads, out.read_text().splitlines()):
        key = (line["image"].rsplit("/", 1)[-1], line["prefix"])
        if line["suffix"]:
            np.testing.assert_allclose(line["boxes"], expected.pop(key), atol=1e-6)
            count += len(line["boxes"])
        else:
            assert key not in expected and line["boxes"] == []
    assert not expected
    assert f"{len(objects)} images" in said.out and f"{count:,} objects" in said.out


def counts_by_pycocotools(source, photos):
    coco = pytest.importorskip("pycocotools.coco").COCO(str(source))
    names = {one["id"]: one["name"] for one in coco.dataset["categories"]}
    return collections.Counter(names[one["category_id"]] for one in coco.anns.values())


def counts_by_supervision(source, photos):
    supervision = pytest.importorskip("supervision")
    if source.suffix == ".json":
        found = supervision.DetectionDataset.from_coco(str(photos), str(source))
    elif (source / "data.yaml").exists():
        found = supervision.DetectionDataset.from_yolo(
            str(photos), str(source / "labels"), str(source / "data.yaml")
        )
    else:
        found = supervision.DetectionDataset.from_pascal_voc(
            str(photos), str(source / "Annotations")
        )
    return collections.Counter(found.classes[i] for _, _, one in found for i in one.class_id)


def counts_by_etree(source, photos):
    files = [source] if source.is_file() else sorted(source.rglob("*.xml"))
    roots = [ElementTree.parse(file).getroot() for file in files]
    found = [one.findtext("name") for root in roots for one in root.iter("object")]
    return collections.Counter(
        found + [one.get("label") for root in roots for one in root.iter("box")]
    )


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (as_coco, counts_by_pycocotools), (as_coco, counts_by_supervision),
        (as_yolo, counts_by_supervision), (as_voc, counts_by_supervision),
        (as_voc, counts_by_etree), (as_cvat, counts_by_etree),
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("default")
def test_counts_are_those_of_other_readers(program, scenes, tmp_path, write, read):
    photos, objects = scenes
    (tmp_path / "photos").symlink_to(photos)
    source, out = write(tmp_path, objects[:60]), tmp_path / "out.jsonl"
    images = tmp_path / "set/images" if write is as_yolo else tmp_path / "photos"
    program("make-jsonl", source, "--images", images, "--out", out)
    labels = [json.loads(line)["labels"] for line in out.read_text().splitlines()]
    found = collections.Counter(label for some in labels for label in some)
    assert found == +read(source, images) and found.total() > 60


def test_one_epoch_raises_average_precision(program, command, scenes, tmp_path):
    """From the lines of one format, since all give the same ones."""
    photos, objects = scenes
    source = as_coco(tmp_path, objects)
    fname = tmp_path / "out.jsonl"
    program("make-jsonl", source, "--images", photos, "--out", fname)
    command(
        "-m", "pgjax.train", "--config=forkme:variant=tiny", f"--workdir={tmp_path / 'run'}",
        f"--config.input.data.fname={fname}", f"--config.input.data.root={photos}",
        "--config.total_epochs=1", "--config.input.batch_size=4", "--config.eval_first=True",
        "--config.evals.answers.metric.name=mean_average_precision",
        "--config.evals.answers.max_new_tokens=32", "--config.model.remat=none",
        timeout=900,
    )  # fmt: skip
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    scores = [line["answers/mAP"] for line in lines if "answers/mAP" in line]
    assert len(scores) == 2 and scores[1] > scores[0] + 0.02, scores


@pytest.mark.parametrize("count", [1, 4])
def test_a_few_examples_are_enough_to_overfit(command, scenes, tmp_path, count):
    photos, _ = scenes
    lines = [{"image": f"{i:04}.png", "suffix": f"number {i}"} for i in range(count)]
    fname = tmp_path / "few.jsonl"
    fname.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command(
        "-m", "pgjax.train", "--config=forkme:variant=tiny,steps=60",
        f"--workdir={tmp_path / 'run'}", f"--config.input.data.fname={fname}",
        f"--config.input.data.root={photos}", "--config.input.batch_size=4",
        "--config.evals.answers.max_new_tokens=8", timeout=600,
    )  # fmt: skip
    metrics = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [x["answers/acc"] for x in metrics if "answers/acc" in x][-1] == 1.0
