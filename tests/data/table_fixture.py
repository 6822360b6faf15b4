"""The same examples as JSONL, parquet, folders of `datasets`, and WebDataset tars."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

COUNT = 11


def png(i):
    pixels = np.random.default_rng(i).integers(0, 256, (12, 16, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def examples(count=COUNT):
    """Without a prompt in every third; JSONL leaves the key out where tables have an empty cell."""
    rows = [{"prefix": f"prompt {i}", "suffix": f"answer {i}", "id": i} for i in range(count)]
    for row in rows[::3]:
        del row["prefix"]
    return rows


def write_images(folder, count=COUNT):
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"photos/{i:03}.png").write_bytes(png(i))


def write_jsonl(folder, names=None):
    write_images(folder)
    lines = [{"image": f"photos/{i:03}.png", **row} for i, row in enumerate(examples())]
    names = names or {}
    lines = [{names.get(k, k): v for k, v in line.items()} for line in lines]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "data.jsonl"


def rows(form="struct", names=None):
    """Rows with images in one of the forms that a column can have."""
    images = {
        "struct": lambda i: {"bytes": png(i), "path": f"{i:03}.png"},
        "struct with paths": lambda i: {"bytes": None, "path": f"photos/{i:03}.png"},
        "binary": png,
        "path": lambda i: f"photos/{i:03}.png",
    }
    names = names or {}
    found = []
    for i, row in enumerate(examples()):
        row = {"image": images[form](i), "prefix": None, **row}
        found.append({names.get(k, k): v for k, v in row.items()})
    return found


def write_parquet(path, form="struct", names=None, part=slice(None), **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    if form in ("path", "struct with paths"):
        write_images(path.parent)
    pq.write_table(pa.Table.from_pylist(rows(form, names)[part]), path, **options)
    return path


def write_saved(folder, form="struct", cuts=(4, 7), batch=3):
    """As `Dataset.save_to_disk` writes it: state.json, and arrow's stream format in shards."""
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder)
    table = pa.Table.from_pylist(rows(form))
    files = []
    for n, (start, stop) in enumerate(zip((0, *cuts), (*cuts, COUNT), strict=True)):
        files.append({"filename": f"data-{n:05}-of-{len(cuts) + 1:05}.arrow"})
        with (
            pa.OSFile(str(folder / files[-1]["filename"]), "wb") as f,
            pa.ipc.new_stream(f, table.schema) as writer,
        ):
            writer.write_table(table.slice(start, stop - start), batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write_tar(path, files, **options):
    """Writes {name: bytes}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample_files(i, row):
    """The image, `.txt` as the target, and the other keys as `.json`."""
    others = {k: v for k, v in row.items() if k != "suffix"}
    return {
        f"photos/{i:03}.png": png(i),
        f"photos/{i:03}.txt": f"{row['suffix']}\n".encode(),
        f"photos/{i:03}.json": json.dumps(others).encode(),
    }


def write_shards(folder, cuts=(4, 7)):
    """Returns the pattern of three tars."""
    for n, (start, stop) in enumerate(zip((0, *cuts), (*cuts, COUNT), strict=True)):
        files = {}
        for i in range(start, stop):
            files |= sample_files(i, examples()[i])
        write_tar(folder / f"{n:03}.tar", files)
    return folder / "{000..002}.tar"
