"""The command for a real device, rehearsed with the tiny model on a CPU."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import GOLDEN, ROOT

KIT = ROOT / "tools/bench/device.py"
# What reads data sets; the kit's processes must do without.
BLOCKED = ("grain", "tensorflow_datasets", "array_record", "tensorflow")


@pytest.fixture
def run(tmp_path):
    """Runs the kit in processes that cannot import what is blocked."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in BLOCKED:
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is blocked')\n")
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(blocked),
        # Quickly compiled rather than quickly run.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }

    def call(*args, **more):
        command = [sys.executable, KIT, "--json", tmp_path / "out/device.json", *args]
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env={**env, **more},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        path = tmp_path / "out/device.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    return call


@pytest.mark.slow
def test_every_part_prints_rows_and_none_fails(run):
    done, found = run("--size", "tiny")
    assert not done.returncode, done.stdout + done.stderr
    assert found["failed"] == [] and all(row["ok"] for row in found["rows"])
    parts = {row["part"] for row in found["rows"]}
    wanted = {"machine", "checks", "train", "decode", "t4"}
    assert parts - {"transformers"} == wanted
    assert found["machine"].startswith("1 × cpu")
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["golden forward, float32"]["value"] <= 1
    planned = [row for what, row in rows.items() if what.endswith("planned peak")]
    assert len(planned) == 4 and all(row["value"] > 0 for row in planned)
    assert {"answers, nf4, batch 3: each token", "answers, int8, batch 3: rate"} <= rows.keys()
    assert all(row["value"] is not None for row in found["rows"])
    if "transformers" in parts:
        assert rows["full tuning, examples/s over transformers'"]["value"] > 0
    assert "Traceback" not in found["machine"] + done.stderr


def test_programs_compiled_beforehand_are_not_compiled_again(run, tmp_path):
    cache = tmp_path / "cache"
    only = ("--size", "tiny", "--only", "t4", "--workers", "2", "--cache", cache)
    done, found = run(*only)
    assert not done.returncode, done.stdout + done.stderr
    assert "compiling 1 cases" in done.stdout
    kept = {p.name for p in cache.iterdir() if p.name.startswith("jit_step")}
    assert len([name for name in kept if name.endswith("-cache")]) == 1, kept
    (planned,) = (row for row in found["rows"] if row["what"].endswith("planned peak"))
    assert "temporaries" in planned["note"] and planned["value"] > 0


def test_a_failing_case_is_one_line_and_the_next_one_runs(run, tmp_path):
    broken = tmp_path / "golden"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    only = ("--size", "tiny", "--only", "checks", "--cases", "golden", "loss", "--golden", broken)
    done, found = run(*only)
    assert done.returncode == 1
    (failure,) = found["failed"]
    assert "golden" in failure and "KeyError" in failure and "\n" not in failure
    assert any("loss of" in row["what"] for row in found["rows"])
    assert "Traceback" in (tmp_path / "out/device.log").read_text()


def test_a_case_is_stopped_when_its_time_is_over(run):
    done, found = run("--size", "tiny", "--only", "t4", "--minutes", "0.1")
    assert done.returncode == 1
    assert any(re.search("stopped after|time is over", text) for text in found["failed"])


def test_results_are_appended_as_markdown(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "tools/bench")
    from common import Row
    from device_parts.report import Report

    results = tmp_path / "RESULTS.md"
    results.write_text("# Measured\n")
    report = Report(tmp_path / "device.json", results)
    report.machine = "1 × gpu"
    report.row("train", Row("step | full", 0.3251, "s", "a note"))
    report.row("checks", Row("attention", float("nan"), "relative"), ok=False)
    text = results.read_text()
    assert text.startswith("# Measured\n") and text.count("| part |") == 1 and "1 × gpu" in text
    assert "| train | step \\| full | 0.325 | s | a note |" in text
    assert "| checks | attention | nan | relative | FAILED |" in text
    found = json.loads((tmp_path / "device.json").read_text())
    assert [row["value"] for row in found["rows"]] == [0.3251, None]
    assert found["failed"] == ["checks: attention"]
    assert "FAILED attention" in capsys.readouterr().out


def test_list_and_help(run):
    done, found = run("--size", "3b", "--list", "--golden", GOLDEN)
    assert found is None and not done.returncode, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("train") and "896 px, batch 2" in line for line in lines)
    assert any(line.startswith("decode") and "nf4" in line for line in lines)
    done, _ = run("--list", "--only", "train", "decode", "--skip", "decode")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"train"}
    done, _ = run("--help")
    assert "Units" in done.stdout and "--workers" in done.stdout
