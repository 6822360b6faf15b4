"""Every tool and benchmark explains itself with `--help`, and writes nothing by that."""

import json

from conftest import ROOT

HELP = """
import contextlib, io, json, runpy, sys
texts = {}
for path in sys.argv[1:]:
    sys.argv, sys.path[0] = [path, "--help"], path.rpartition("/")[0]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as e:
            assert not e.code, (path, e.code)
    texts[path] = out.getvalue()
print(json.dumps(texts))
"""


def test_help(command, tmp_path):
    tools = [*ROOT.glob("tools/*.py"), *ROOT.glob("tools/bench/*.py")]
    programs = sorted(str(p) for p in tools if "ArgumentParser(" in p.read_text())
    script = tmp_path / "help.py"
    script.write_text(HELP)
    before = {p: p.stat().st_mtime_ns for p in ROOT.glob("*") if p.is_file()}
    done = command(script, *programs)
    texts = json.loads(done.stdout.splitlines()[-1])
    assert len(texts) >= 15
    for path, text in texts.items():
        assert text.startswith("usage: ") and "-h, --help" in text, path
    assert {p: p.stat().st_mtime_ns for p in ROOT.glob("*") if p.is_file()} == before
