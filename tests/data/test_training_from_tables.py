"""A run from parquet, a folder of `datasets` or tars is that from JSONL, to the last bit."""

import io
import json

import pytest
from PIL import Image
from table_fixture import write_tar

import pgjax
from pgjax.data.scenes import SceneSource

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The same drawn scenes in every form, by the name of the source."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("tables")
    source = SceneSource("tables", tasks=("caption", "detect"))
    rows, lines, files = [], [], {}
    for i in range(24):
        example = source[i]
        data = io.BytesIO()
        Image.fromarray(example["image"]).save(data, "PNG")
        (folder / f"{i:02}.png").write_bytes(data.getvalue())
        texts = {"prefix": example["prefix"], "caption": example["suffix"]}
        lines.append(json.dumps({"image": f"{i:02}.png", **texts}) + "\n")
        rows.append({"image": {"bytes": data.getvalue(), "path": None}, **texts})
        files |= {f"{i:02}.png": data.getvalue(), f"{i:02}.json": json.dumps(texts).encode()}
    (folder / "data.jsonl").write_text("".join(lines))
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.slice(0, 15), folder / "part-0.parquet", row_group_size=4)
    pq.write_table(table.slice(15), folder / "part-1.parquet")
    (folder / "saved").mkdir()
    with (
        pa.OSFile(str(folder / "saved/data-00000-of-00001.arrow"), "wb") as f,
        pa.ipc.new_stream(f, table.schema) as writer,
    ):
        writer.write_table(table, 5)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "saved/state.json").write_text(json.dumps(state))
    write_tar(folder / "0.tar", dict(list(files.items())[:20]))
    write_tar(folder / "1.tar", dict(list(files.items())[20:]))
    return {
        "jsonl": folder / "data.jsonl",
        "parquet": folder / "part-*.parquet",
        "datasets": folder / "saved",
        "webdataset": folder / "{0..1}.tar",
    }


@pytest.fixture(scope="module")
def trained(tables):
    """Trains one epoch; returns what the run has measured, and the final scores."""

    def run(name, workdir):
        config = pgjax.read_config(
            f"forkme:variant=tiny,source={name}",
            {
                "input.data.fname": str(tables[name]),
                "input.data.suffix": "caption",
                "input.batch_size": 4,
                "input.workers": 0 if name == "jsonl" else 1,
                "total_epochs": 1.0,
                "evals.answers.max_new_tokens": 4,
            },
        )
        losses = []

        def add(step, values):
            losses.append((step, values.get("loss")))

        scores = pgjax.finetune(config, workdir, on_metrics=add).scores
        return losses, {name: {**s, "seconds": 0} for name, s in scores.items()}

    return run


@pytest.fixture(scope="module")
def wanted(trained, tmp_path_factory):
    return trained("jsonl", tmp_path_factory.mktemp("jsonl") / "run")


@pytest.mark.parametrize("name", ["parquet", "datasets", "webdataset"])
def test_one_epoch(trained, wanted, tmp_path, name, tables, program):
    assert trained(name, tmp_path / "run") == wanted and len(wanted[0]) >= 5
    said = program(
        "check-data", f"--config=forkme:variant=tiny,source={name}",
        f"--config.input.data.fname={tables[name]}", "--config.input.data.suffix=caption",
    )  # fmt: skip
    assert "22 examples, 22 looked at" in said.out and "cannot be read" not in said.out
