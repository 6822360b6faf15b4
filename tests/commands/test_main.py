"""The program: its commands, their flags and help, and the configs that they find by name."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

import pgjax
from pgjax.commands.config_files import packaged_configs
from pgjax.commands.main import COMMANDS, command_class
from pgjax.errors import UsageError


def test_every_command_in_one_process():
    """Two commands that have the same flag can be made at once, and twice."""
    made = [command_class(name)([]) for name in COMMANDS for _ in range(2)]
    assert [command.name for command in made] == [name for name in COMMANDS for _ in range(2)]


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, program):
    said = program(name, "--help").out
    lines = said.splitlines()
    assert lines[0].endswith(".") and len(lines[0]) <= 90
    command = command_class(name)([])
    for flag in command.flags:
        shown = re.compile(rf"  --(\[no\])?{flag}(\[?=.*)?")
        (line,) = (i for i, x in enumerate(lines) if shown.fullmatch(x))
        assert lines[line + 1].startswith("      ") and lines[line + 1].strip()
    assert all(len(line) <= 100 for line in lines), [x for x in lines if len(x) > 100]
    assert lines[lines.index("Example:") + 1].startswith(f"  pgjax {name} ")
    statuses = lines[lines.index("Exit status:") + 1 :]
    assert [int(line.split()[0]) for line in statuses] == sorted({0, 1, 2, *command.statuses})


def test_help_needs_neither_jax_nor_numpy():
    code = (
        "import sys\nfrom pgjax.commands.main import COMMANDS, command_class\n"
        "from pgjax.commands.help_text import command_help\n"
        "for name in COMMANDS:\n    name == 'prepare' or command_help(command_class(name)([]))\n"
        "bad = {'jax', 'numpy', 'flax', 'PIL', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_program_itself(program):
    said = program().out
    assert said == program("--help").out and all(f"\n  {name} " in said for name in COMMANDS)
    assert program("--version").out == f"pgjax {pgjax.__version__}\n"
    assert "did you mean 'train'?" in program("trian", status=2).err
    assert program("trian", status=2).err.startswith("error: ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train"], "--config is missing"),
        (["train", "--config=forkme"], "--workdir is missing"),
        (["train", "--workdirr=x"],
         "--workdirr is not a flag of pgjax train; did you mean --workdir?"),
        (["train", "x"], "pgjax train got the arguments ['x']"),
        (["train", "--copy_config=forkme"], "expected [KEY|FILE]"),
        (["train", "--config"], "Missing value for flag --config"),
        (["train", "--config=vqav"],
         "'vqav' is not a config that comes with pgjax"),
        (["train", "--config=vqav"], "did you mean 'vqav2'"),
        (["train", "--config=nowhere/forkme.py:res=448"], "is called forkme:res=448."),
        (["train", "--config=forkme:varient=tiny"], "forkme: config argument 'varient' is unknown"),
        (["train", "--config=mix_eval"], "mix_eval stands for 2 configs, expected one"),
        (["train", "--config=forkme", "--config.optimiser.lr=1"],
         "the nearest is config.optimizer.lr"),
        (["train", "--config=forkme", "--config.optimizer.lr=x"],
         "--config.optimizer.lr=x: expected a number."),
        (["plan", "--config=forkme", "--mesh=3"], "--mesh is '3', expected sizes such as data=8"),
        (["plan", "--config=forkme", "--frames=-1"], "--frames=-1: -1 is not"),
        (["train", "--config=forkme", "--coordinator=a:1", "--workdir=r"], "--coordinator needs"),
        (["evaluate"], "Give one of --run, --config and --benchmarks."),
        (["evaluate", "--benchmarks=vqav2,cocoap"], "'cocoap' is not a config"),
        (["predict", "--checkpoint=tiny"], "Give either --image or --jsonl."),
        (["predict", "--image=x"], "Give either --checkpoint or --run"),
        (["prepare"], "Name a benchmark"),
        (["prepare", "vqa"], "did you mean 'vqav2'?"),
        (["prepare", "vqav2"], "--source is missing"),
        (["prepare", "vqav2", "--frames=3"], "--frames is not a flag"),
        (["list", "config"], "did you mean 'configs'?"),
        (["make-jsonl", "x.json"], "--out is needed"),
    ],
)  # fmt: skip
def test_wrong_usage(args, message, program):
    err = program(*args, status=2).err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


def test_configs_by_name_from_anywhere(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = program("list", "configs").out.splitlines()
    assert [line.split()[0] for line in listed] == [*packaged_configs()]
    assert all(line.split(maxsplit=1)[1].endswith((".", "…")) for line in listed)
    assert {"forkme", "quickstart", "mix_eval", "vqav2"} <= packaged_configs().keys()

    config = pgjax.read_config("forkme:variant=tiny", {"input.batch_size": 8})
    assert (config.model.res, config.input.batch_size) == (64, 8)
    with pytest.raises(UsageError, match=r"config.input.batch_sise .* config.input.batch_size\."):
        pgjax.read_config("forkme", {"input.batch_sise": 8})
    assert (
        program("train", "--config", "vqav2:res=448", "--print_config").out.count("res: 448") == 1
    )
    said = program(
        "train", "--config=quickstart:steps=40", "--noconfig.eval_first", "--print_config"
    )
    assert "total_steps: 40" in said.out and "eval_first: false" in said.out


def test_a_copy_of_a_config(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program("train", "--copy_config", "forkme", "mine.py")
    text = (tmp_path / "mine.py").read_text()
    assert text == packaged_configs()["forkme"].read_text()
    assert (
        "mine.py exists already"
        in program("train", "--copy_config=forkme", "mine.py", status=1).err
    )
    assert "ends in .py" in program("train", "--copy_config=forkme", "mine", status=1).err
    (tmp_path / "mine.py").write_text(text.replace("batch_size=32", "batch_size=12"))
    assert pgjax.read_config("mine.py:variant=tiny").input.batch_size == 12
    assert "did you mean 'mine.py'?" in program("train", "--config=mine", status=2).err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(:", "own.py fails with SyntaxError: invalid syntax (own.py, line 1)."),
        ("def get_config():\n    return 1/0",
         "own.py fails with ZeroDivisionError: division by zero."),
        ("def get_config():\n    return {}",
         "own.py: get_config() returns dict, expected a ConfigDict"),
        ("x = 1", "own.py fails with AttributeError"),
    ],
)  # fmt: skip
def test_a_config_file_that_fails(code, message, program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(code)
    assert message in program("train", "--config=own.py", "--print_config", status=2).err


@pytest.mark.parametrize(
    "script", ["check_data", "convert", "demo", "make_jsonl", "prepare", "report"]
)
def test_former_names_do_the_same(script, program):
    done = subprocess.run(
        [sys.executable, ROOT / f"tools/{script}.py", "--help"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == program(script.replace("_", "-"), "--help").out


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_modules_that_do_the_same(name, command, program):
    assert command("-m", f"pgjax.{name}", "--help").stdout == program(name, "--help").out


def test_lists_show_what_the_registries_hold(program):
    from pgjax import registry
    from pgjax.commands.list import REGISTRIES

    for what, name in REGISTRIES.items():
        said = program("list", what).out
        assert all(key in said for key in getattr(registry, name)), what
    said = program("list", "metrics", "--imports=no_such_module", status=1)
    assert "no_such_module" in said.err
