import io
import json
import re
import struct

import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from pgjax.console import Phase, table
from pgjax.errors import UserError
from pgjax.loading.best_checkpoint import scores_at
from pgjax.training.live_line import LiveLine
from pgjax.training.metrics_writer import MetricsWriter
from pgjax.training.parameter_tables import parameter_summary, parameter_table
from pgjax.training.trackers import Answers


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_rows_of_a_file(tmp_path):
    metrics = MetricsWriter(tmp_path, 0)
    metrics.write(1, {"loss": 2.5})
    metrics.write(2, {"loss": 1.5, "val/loss": 3.0})
    assert len(rows(tmp_path)) == 2  # to be read while the run goes on
    metrics.close()
    assert rows(tmp_path) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.5, "val/loss": 3.0}]
    assert list((tmp_path / "tb").glob("events*"))


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": i, "loss": float(i)}) for i in range(1, 6)]
    path.write_text("\n".join([*lines, '{"step": 6, "lo']))  # killed while it wrote
    metrics = MetricsWriter(tmp_path, 3)
    metrics.write(4, {"loss": 40.0})
    metrics.close()
    assert [(r["step"], r["loss"]) for r in rows(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert [p.name for p in tmp_path.glob("metrics*")] == ["metrics.jsonl"]


def events(workdir):
    """The values of all event files, read as the format of records is documented."""
    for path in sorted((workdir / "tb").glob("events*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            yield from ((event.step, value) for value in event.summary.value)
            data = data[12 + size + 4 :]


def test_tensorboard_has_pictures_and_texts(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    metrics = MetricsWriter(tmp_path, 0)
    picture = Image.new("RGB", (5, 3), (255, 0, 0))
    metrics.show(7, Answers("val", picture, ("prompt", "answer"), [("caption", "a | b")]))
    metrics.write(7, {"lr": 0.5})
    metrics.close()
    found = {value.tag: (step, value) for step, value in events(tmp_path)}
    assert found["config"][1].tensor.string_val == [b"```json\n{}\n```"]
    assert found["config"][1].metadata.plugin_data.plugin_name == "text"
    step, value = found["val/answers"]
    shown = Image.open(io.BytesIO(value.image.encoded_image_string))
    assert step == 7 and (value.image.width, value.image.height) == (5, 3)
    assert shown.getpixel((0, 0)) == (255, 0, 0)
    step, value = found["val/predictions"]
    table = b"| prompt | answer |\n| --- | --- |\n| caption | a \\| b |"
    assert step == 7 and value.tensor.string_val == [table]
    assert (found["lr"][0], found["lr"][1].simple_value) == (7, 0.5)


@pytest.mark.parametrize("line", ["", "nonsense", "[1, 2]", '{"loss": 1}', "null", "3"])
def test_lines_that_are_no_rows_are_dropped(tmp_path, line):
    good = '{"step": 1, "loss": 2.0}'
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{line}\n")
    MetricsWriter(tmp_path, 5).close()
    assert (tmp_path / "metrics.jsonl").read_text() == good + "\n"


def test_parameters_by_module():
    shapes = {
        "img/head/kernel": (2, 3), "llm/layers/mlp/linear": (2, 5, 7), "img/head/bias": (3,),
        "llm/layers/attn/q/w": (2, 4), "llm/layers/attn/q/w_lora_a": (2, 1),
    }  # fmt: skip
    trains = {"llm/layers/attn/q/w_lora_a": 1.0, "img/head/bias": 0.1}
    rows = parameter_summary(shapes, trains, dict.fromkeys(shapes, "bfloat16")).splitlines()
    cells = [re.split(r"  +", row) for row in rows[2:-1]]
    assert cells == [
        ["img/head", "6 in 1", "bfloat16", "frozen"],
        ["llm/layers/mlp", "70 in 1", "bfloat16", "frozen"],
        ["img/head", "3 in 1", "bfloat16", "trains at lr × 0.1"],
        ["llm/layers/attn", "8 in 1", "bfloat16", "frozen"],
        ["llm/layers/attn, adapters", "2 in 1", "bfloat16", "trains"],
    ]
    assert rows[-1].startswith("5 parameters train, 84 are frozen.") and "--parameters" in rows[-1]


def test_parameter_table():
    shapes = {"img/kernel": (3, 4), "llm/w": (5, 1000), "llm/s": ()}
    text = parameter_table(shapes, {"llm/w": 1.0, "llm/s": 0.1}, dict.fromkeys(shapes, "bfloat16"))
    lines = text.splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["img/kernel", "3×4", "bfloat16", "frozen"],
        ["llm/w", "5×1000", "bfloat16", "trains"],
        ["llm/s", "scalar", "bfloat16", "trains", "at", "lr", "×", "0.1"],
    ]
    assert lines[-1] == "5,001 parameters train, 12 are frozen."


def test_table_is_aligned():
    assert table(("a", "long name"), [("word", "1"), ("x", "22")]).splitlines() == [
        "a     long name",
        "---------------",
        "word  1",
        "x     22",
    ]
    assert table(("a",), []).splitlines() == ["a", "-"]


def test_phase_says_begin_and_end(capsys):
    with Phase("loading"):
        assert capsys.readouterr().out == "[loading] …\n"
    assert capsys.readouterr().out.startswith("[loading] 0.0 s")
    with pytest.raises(KeyError), Phase("failing"):
        raise KeyError
    assert capsys.readouterr().out == "[failing] …\n"


def test_live_line(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("pgjax.training.live_line.time.perf_counter", lambda: now[0])
    line = LiveLine(10, 4000)
    now[0] += 5.0
    line.waited = 2.0
    assert line.update(20, 1.25, batch_size=8) == {
        "steps_per_second": 2.0,
        "examples_per_second": 16.0,
        "input_wait": 0.4,
    }
    now[0] += 1.0
    rates = line.update(30, 1.0, batch_size=8)
    line.close()
    assert rates["steps_per_second"] == 10.0 and rates["input_wait"] == 0.0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("  ") == [
        "step 20/4000", "loss 1.2500", "2.00 steps/s", "16 examples/s", "ETA 0:33:10",
        "input wait 40%",
    ]  # fmt: skip
    assert "ETA 0:06:37" in second


def test_a_full_disk_is_one_sentence(tmp_path):
    metrics = MetricsWriter(tmp_path, 0)
    metrics.write(1, {"loss": 1.0})
    metrics._file.close()
    metrics._file = io.FileIO("/dev/full", "wb")
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written \(No space left on dev"):
        metrics.write(2, {"loss": 1.0})
    metrics.close()


def test_scores_of_the_last_step_are_known_again(tmp_path):
    metrics = MetricsWriter(tmp_path, 0)
    metrics.write(4, {"val/loss": 9.0})
    metrics.write(5, {"loss": 2.5})
    metrics.write(5, {"val/loss": 3.0, "val/examples": 2})
    metrics.write(5, {"answers/acc": 0.5})
    metrics.write(6, {"later/acc": 0.5})
    metrics.close()
    again = MetricsWriter(tmp_path, 5)
    again.close()
    assert scores_at(tmp_path, 5) == {"val": {"loss": 3.0, "examples": 2}, "answers": {"acc": 0.5}}
    assert [row["step"] for row in rows(tmp_path)] == [4, 5, 5, 5]
