"""The launch scripts run, with stand-ins for what starts processes, and pgjax takes their flags."""

import os
import shlex
import subprocess

import pytest
import yaml
from conftest import ROOT
from test_snippets import check_pgjax

LAUNCH = ROOT / "docs" / "launch"
SCRIPTS = sorted(p for p in LAUNCH.iterdir() if p.suffix in (".sbatch", ".sh"))
# Each stand-in does what the program would do with the command that it is given.
STAND_INS = {
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "sudo": "true",
    "python3": 'mkdir -p "$HOME/venv/bin"; printf "#!/bin/sh\\n" > "$HOME/venv/bin/pip"; '
    'chmod +x "$HOME/venv/bin/pip"',
    "mountpoint": "true",
    "xpk": 'for a in "$@"; do last=$a; done; exec bash -c "$last"',
    "gcloud": 'for a in "$@"; do [ "$before" = --command ] && { bash -c "$a"; exit; }; before=$a; '
    "done; true",
}


@pytest.fixture
def launched(tmp_path):
    """Runs a script; returns the command lines of pgjax that it came to."""
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    log.touch()
    for name, body in STAND_INS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (programs / "pgjax").write_text(
        "#!/usr/bin/env bash\n"
        f"printf '%s\\0' \"$@\" | tr '\\0\\n' '\\n ' >> {shlex.quote(str(log))}\n"
        f"echo END >> {shlex.quote(str(log))}\n"
    )
    for program in programs.iterdir():
        program.chmod(0o755)

    def run(*command, **variables):
        env = {
            "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path), **variables
        }  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [x.splitlines() for x in log.read_text().split("END\n") if x]

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_syntax(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def checked(starts):
    (args,) = starts
    check_pgjax(args, "launch script")
    return args


def test_slurm(launched):
    args = checked(launched("bash", LAUNCH / "slurm.sbatch"))
    assert args[0] == "train" and "--distributed" in args


def test_xpk(launched):
    args = checked(launched("bash", LAUNCH / "xpk.sh", CLUSTER="c", IMAGE="i"))
    assert args[0] == "train" and "--distributed" in args


def test_tpu_vm(launched):
    variables = {"NAME": "t", "ZONE": "z", "NFS": "10.0.0.2:/share", "WHEEL": "pgjax.whl"}
    args = checked(launched("bash", LAUNCH / "tpu_vm.sh", **variables))
    assert args[0] == "train" and "--distributed" in args


def test_gke(launched):
    service, job = yaml.safe_load_all((LAUNCH / "gke_gpu.yaml").read_text())
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    args = checked(launched(*container["command"], *container["args"], JOB_COMPLETION_INDEX="1"))
    host = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert f"--coordinator={host}:8476" in args and "--process_id=1" in args
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert f"--num_processes={spec['completions']}" in args
    assert spec["completions"] == spec["parallelism"]


def test_the_image_has_what_the_package_needs():
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    copied = {w for line in lines if line.startswith("COPY") for w in line.split()[1:-1]}
    assert {"setup.py", "README.md", "LICENSE", "pgjax", "configs", "transfers"} <= copied
    assert all((ROOT / name).exists() for name in copied)
