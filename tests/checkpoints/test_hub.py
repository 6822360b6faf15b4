"""Downloads from a hub on loopback: the gate, redirects, a broken line, a wrong checksum."""

import os
import subprocess
import sys

import pytest
from conftest import GOLDEN, ROOT, TESTS
from hub_server import Hub

REPO = "google/paligemma-3b-pt-224"
CODE = (
    "import sys; from pgjax.checkpoints.formats import open_checkpoint\n"
    "from pgjax.errors import UserError\n"
    "try:\n c = open_checkpoint(sys.argv[1])\n"
    "except UserError as e: sys.exit(f'error: {e}')\n"
    "print(c.spec['res'], len(c.tensors), c.path)"
)


def files(dtype="main"):
    folder = GOLDEN / "hf"
    names = ("config.json", "model.safetensors", "preprocessor_config.json")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def fetch(tmp_path):
    """Opens a released name in a process of its own, against a hub."""

    def run(hub, name="pt-224", token=None, code=CODE, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PGJAX_"))}
        env |= {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5", "NO_PROXY": "*",
        }  # fmt: skip
        if token:
            env["HF_TOKEN"] = token
        env |= more
        return subprocess.run(
            [sys.executable, "-c", code, name], env=env, capture_output=True, text=True, timeout=120
        )

    return run


def test_downloads_once_then_reads_the_cache(fetch):
    with Hub({REPO: files()}) as hub:
        done = fetch(hub)
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        assert f"Downloading {REPO} (main)" in done.stderr
        hub.log.clear()
        again = fetch(hub)
        assert again.stdout == done.stdout
        assert not [path for _, path, _ in hub.log if "/cdn/" in path]


def test_the_branch_of_a_precision(fetch):
    with Hub({REPO: files()}) as hub:
        fetch(hub, "pt-224.bf16")
        assert any("/bfloat16" in path for _, path, _ in hub.log)


def test_a_gate_is_explained_and_opens_with_a_token(fetch):
    with Hub({REPO: files()}, gated=[REPO]) as hub:
        done = fetch(hub)
        assert done.returncode == 1
        assert f"1. Accept it with your account at https://huggingface.co/{REPO}" in done.stderr
        assert "2. Run `hf auth login`, or set HF_TOKEN" in done.stderr
        assert "Traceback" not in done.stderr
        assert fetch(hub, token="good").returncode == 0


def test_a_dropped_connection_goes_on_where_it_stopped(fetch):
    large = {"large.json": b" " * 25_000_000}  # the hub's client keeps 10 MB at a time
    with Hub({REPO: files() | large}, drop=large) as hub:
        done = fetch(hub)
        if done.returncode:
            assert "run the command again to resume the download" in done.stderr
            done = fetch(hub)
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        ranges = [r for _, path, r in hub.log if "/cdn/large.json" in path and r]
        assert "bytes=10485760-" in ranges, ranges


def test_a_wrong_checksum_is_noticed_and_the_file_removed(fetch):
    with Hub({REPO: files()}, damage=["model.safetensors"]) as hub:
        done = fetch(hub)
        assert done.returncode == 1
        assert "model.safetensors" in done.stderr and "SHA-256" in done.stderr, done.stderr
        hub.damage.clear()
        assert fetch(hub).returncode == 0


def test_the_npz_repository_where_there_is_no_other(fetch):
    data = (GOLDEN / "params.npz").read_bytes()
    with Hub({f"{REPO}-jax": {"paligemma-3b-pt-224.npz": data}}) as hub:
        done = fetch(hub)
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        assert done.stdout.strip().endswith(".npz")


@pytest.fixture
def kaggle(tmp_path):
    """What the emulated client of Kaggle needs: keys, and a folder with the file."""
    file = tmp_path / "google/paligemma/jax/paligemma-3b-pt-224/paligemma-3b-pt-224.f16.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes((GOLDEN / "params.npz").read_bytes())
    return {
        "PYTHONPATH": f"{ROOT}:{TESTS / 'colabs/emulation'}", "EMULATED_KAGGLE": str(tmp_path),
        "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "good", "HOME": str(tmp_path),
    }  # fmt: skip


def test_kaggle_where_the_hub_wants_a_token(fetch, kaggle):
    with Hub({REPO: files(), f"{REPO}-jax": {}}, gated=[REPO, f"{REPO}-jax"]) as hub:
        done = fetch(hub, "pt-224.f16", **kaggle)
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        assert done.stdout.strip().endswith("paligemma-3b-pt-224.f16.npz")
        refused = fetch(hub, "pt-224.f16", **{**kaggle, "KAGGLE_KEY": "wrong"})
        assert "google/paligemma/jax/paligemma-3b-pt-224 could not be" in refused.stderr
        assert "403 Client Error" in refused.stderr and "Traceback" not in refused.stderr
        without = fetch(hub, "pt-224.f16", **{**kaggle, "KAGGLE_KEY": ""})
        assert f"1. Accept it with your account at https://huggingface.co/{REPO}" in without.stderr


def test_kaggle_has_paligemma_2_too(fetch, kaggle, tmp_path):
    """In a model of its own; 28B comes in parts."""
    data, folder = (GOLDEN / "params.npz").read_bytes(), tmp_path / "google/paligemma-2/jax"
    for name, parts in (
        ("paligemma2-3b-pt-224", {"": data}),
        ("paligemma2-28b-mix-448", {".part0": data[:5000], ".part1": data[5000:]}),
    ):
        (folder / name).mkdir(parents=True)
        for suffix, part in parts.items():
            (folder / name / f"{name}.b16.npz{suffix}").write_bytes(part)
        repos = {f"google/{name}": files(), f"google/{name}-jax": {}}
        with Hub(repos, gated=[*repos]) as hub:
            done = fetch(hub, name, **kaggle)
            assert done.stdout.split()[:2] == ["56", "32"], done.stderr
            assert done.stdout.strip().endswith(f"/{name}.b16.npz{next(iter(parts))}")


def test_parts_are_downloaded_until_all_are_there(fetch, tmp_path):
    name, data = "paligemma2-28b-pt-224", (GOLDEN / "params.npz").read_bytes()
    parts = [f"{name}.b16.npz.part{i}" for i in range(3)]
    repo = {
        part: data[i * len(data) // 3 : (i + 1) * len(data) // 3] for i, part in enumerate(parts)
    }
    with Hub({f"google/{name}-jax": repo}) as hub:
        done = fetch(hub, name)
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        (there,) = (tmp_path / "home").rglob(f"snapshots/*/{parts[1]}")
        there.unlink()  # as after an interrupted download
        assert fetch(hub, name).stdout == done.stdout and there.exists()
        hub.log.clear()
        assert fetch(hub, name).stdout == done.stdout
        assert not [path for _, path, _ in hub.log if "/cdn/" in path]


TOKENIZER = (
    "import sys; from pgjax.checkpoints import hub\n"
    "from pgjax.errors import UserError\n"
    "hub.TOKENIZER_URL = 'file://' + sys.argv[1]\n"
    "try:\n print(hub.download_tokenizer('x').stat().st_size)\n"
    "except UserError as e: sys.exit(f'error: {e}')"
)


def test_with_keys_of_kaggle_the_tokenizer_comes_from_the_bucket(fetch, kaggle, tmp_path):
    file = GOLDEN / "tokenizer.model"
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with Hub({REPO: files()}, gated=[REPO]) as hub:
        done = fetch(hub, str(file), code=TOKENIZER, **kaggle, **cache)
        assert done.stdout.split() == [str(file.stat().st_size)], done.stderr
        done = fetch(hub, str(file), code=TOKENIZER)
        assert "The tokenizer is not available" in done.stderr and "licence" in done.stderr


def test_nothing_there(fetch):
    with Hub({}) as hub:
        done = fetch(hub)
        assert done.returncode == 1
        assert "$PGJAX_CHECKPOINTS" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("someone/tuned", "main"),
        ("someone/tuned@v2", "v2"),
        ("hf://someone/tuned@v2", "v2"),
        ("google/paligemma-3b-pt-224@bfloat16", "bfloat16"),
    ],
)
def test_any_repository(fetch, name, revision):
    with Hub({"someone/tuned": files(), REPO: files()}) as hub:
        done = fetch(hub, name)
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        assert f"({revision})" in done.stderr


def test_a_file_or_folder_of_a_repository(fetch):
    npz = (GOLDEN / "params.npz").read_bytes()
    inside = {f"checkpoint-5/{k}": x for k, x in files().items()}
    with Hub({"someone/tuned": {"deep/x.npz": npz, "y.npz": npz, **inside}}) as hub:
        for name in ("hf://someone/tuned/deep/x.npz", "someone/tuned"):
            assert fetch(hub, name).stdout.split()[:2] == ["56", "32"]
        done = fetch(hub, "hf://someone/tuned/checkpoint-5")
        assert done.stdout.split()[:2] == ["56", "32"], done.stderr
        done = fetch(hub, "hf://someone/tuned/none.npz")
        assert "someone/tuned (main) holds no none.npz." in done.stderr


def test_a_repository_that_does_not_exist(fetch):
    with Hub({"someone/empty": {"README.md": b"x"}}) as hub:
        done = fetch(hub, "runs/mine")
        assert (
            "error: Checkpoint runs/mine is no path that exists, and runs/mine does not exist on "
            "the Hugging Face hub." in done.stderr
        )
        assert "holds neither a config.json nor an .npz" in fetch(hub, "someone/empty").stderr


CODEC = (
    "import sys; from pgjax.checkpoints.locate import find_mask_codec\n"
    "from pgjax.errors import UserError\n"
    "try:\n print(find_mask_codec(False).stat().st_size)\n"
    "except UserError as e: sys.exit(f'error: {e}')"
)


@pytest.mark.parametrize("space", ["google/paligemma-hf", "big-vision/paligemma-hf"])
def test_the_mask_codec(fetch, space):
    data = (GOLDEN / "vae.npz").read_bytes()
    with Hub({space: {"vae-oid.npz": data, "app.py": b"x"}}) as hub:
        done = fetch(hub, code=CODEC)
        assert done.stdout.split() == [str(len(data))], done.stderr
        assert not [path for _, path, _ in hub.log if path.endswith("app.py")]


def test_a_damaged_mask_codec(fetch):
    data = (GOLDEN / "vae.npz").read_bytes()
    with Hub({"google/paligemma-hf": {"vae-oid.npz": data}}, damage=["vae-oid.npz"]) as hub:
        done = fetch(hub, code=CODEC)
        assert "Masks need the codec vae-oid.npz" in done.stderr and "SHA-256" in done.stderr


def test_no_mask_codec_anywhere(fetch):
    with Hub({}) as hub:
        said = fetch(hub, code=CODEC).stderr
        assert "is not available: google/paligemma-hf does not exist on the" in said
