"""An op, a metric and a source in a package outside the tree, from training to answers.

Every command runs in a process of its own, which learns of the package from `config.imports` alone.
"""

import json

import numpy as np
import pytest
from conftest import PHOTOS, ROOT

pytestmark = pytest.mark.slow

PACKAGE = {
    "__init__.py": "",
    "ops.py": '''
        """Ops."""
        import numpy as np
        from pgjax.registry import OPS

        @OPS.register("tint")
        def tint(example, strength=0.1, *, rng):
            """Adds a random colour to an image in 0..255."""
            image = np.clip(example["image"] + 255 * strength * rng.random(3), 0, 255)
            return {**example, "image": image.astype(np.float32)}

        @OPS.register("ask_how_many")
        def ask_how_many(example):
            """Sets the prompt."""
            return {**example, "prefix": "how many stripes"}
    ''',
    "metrics.py": '''
        """Metrics."""
        from pgjax.registry import METRICS

        @METRICS.register("distance", main="distance", lower_is_better=True)
        def distance(prediction, meta, *, most=9.0):
            """How far a number is from the right one."""
            far = abs(int(prediction) - int(meta["suffix"])) if prediction.isdecimal() else most
            return {"distance": float(min(far, most))}
    ''',
    "sources.py": '''
        """Sources."""
        import numpy as np
        from pgjax.data.sources import make_source
        from pgjax.registry import SOURCES

        @SOURCES.register("stripes")
        class Stripes:
            """Images with 1 to 4 stripes."""

            def __init__(self, count: int = 12):
                self.count = count

            def __reduce__(self):  # opened again by its name, in a worker process too
                return make_source, ({"name": "stripes", "count": self.count},)

            def __len__(self):
                return self.count

            def __getitem__(self, index):
                number = index % 4 + 1
                image = np.zeros((64, 64, 3), np.uint8)
                for i in range(number):
                    image[:, 12 * i : 12 * i + 6] = 40 * (index % 5) + 60
                return {"image": image, "suffix": str(number), "id": index}

            def where(self, index):
                return f"stripes:{index}"
    ''',
}
CONFIG = '''
    """A config whose names come from the package."""
    from pgjax.recipes import transfer


    def get_config(arg=None):
        data = {"name": "stripes", "count": 12}
        c = transfer(
            "stripes", variant="tiny", train=data, prompt="ask_how_many", target="", text_len=24,
            steps=4, batch_size=4, lr=1e-3, paint="tint(strength=0.2)",
            evals={
                "number": {
                    "kind": "answers", "data": data, "max_new_tokens": 4,
                    "metric": {"name": "distance", "most": 5.0},
                },
            },
        )
        c.imports = ("stripes.ops", "stripes.metrics", "stripes.sources")
        c.log_every = 1
        return c
'''


def plain(text):
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines) + "\n"


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "stripes").mkdir()
    for name, text in PACKAGE.items():
        (folder / "stripes" / name).write_text(plain(text) if text else "")
    (folder / "mine.py").write_text(plain(CONFIG))
    return folder


@pytest.fixture(scope="module")
def run(command, outside):
    """Runs Python with the package on its path, unless told otherwise."""

    def run(*args, path=True, **options):
        where = f"{ROOT}:{outside}" if path else str(ROOT)
        return command(*args, env={"PYTHONPATH": where}, **options)

    return run


def losses(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.fixture(scope="module")
def trained(run, outside):
    """Two runs: one reads its data in threads, and one in a worker process."""
    config = f"--config={outside / 'mine.py'}"
    run("-m", "pgjax.train", config, f"--workdir={outside / 'threads'}")
    workers = (f"--workdir={outside / 'workers'}", "--config.input.workers=1")
    run("-m", "pgjax.train", config, *workers)
    return outside / "threads", outside / "workers"


def test_training_reads_the_same_in_threads_and_workers(trained):
    threads, workers = trained
    assert losses(threads) == losses(workers) and set(losses(threads)) == {1, 2, 3, 4}
    config = json.loads((threads / "config.json").read_text())
    assert config["imports"] == ["stripes.ops", "stripes.metrics", "stripes.sources"]
    stored = (threads / "predictions" / "number_4.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in stored]
    assert {r["prefix"] for r in records} == {"how many stripes"}
    assert all(0 <= r["scores"]["distance"] <= 5 for r in records)


def test_a_run_goes_on(trained, run, outside):
    config = (f"--config={outside / 'mine.py'}", "--config.total_steps=6")
    done = run("-m", "pgjax.train", *config, f"--workdir={trained[1]}", "--config.input.workers=1")
    assert "step_4" in done.stdout + done.stderr
    assert (trained[1] / "checkpoints" / "step_6").is_dir()


def test_evaluate_run(trained, run, outside):
    run("-m", "pgjax.evaluate", f"--run={trained[0]}", f"--out={outside / 'scores'}")
    folder = outside / "scores" / "evaluation"
    about = json.loads((folder / "number.json").read_text())["about"]
    assert about["main_score"] == ["distance", True]
    scores = json.loads((folder / "scores.json").read_text())["number"]
    records = map(json.loads, (folder / "number.jsonl").read_text().splitlines())
    assert scores["distance"] == pytest.approx(np.mean([r["scores"]["distance"] for r in records]))


def test_predict_run(trained, run):
    image = f"--image={PHOTOS / 'flower.jpg'}"
    done = run("-m", "pgjax.predict", f"--run={trained[0]}", image, "--max_new_tokens=3")
    assert len(done.stdout.splitlines()) == 1
    lost = run("-m", "pgjax.predict", f"--run={trained[0]}", image, path=False, check=False)
    assert lost.returncode and "Traceback" not in lost.stderr
    assert "config.imports: the module 'stripes.ops' cannot be imported" in lost.stderr


def test_load_run(trained, run):
    code = (
        "import numpy as np, pgjax\n"
        f"model = pgjax.load({str(trained[0])!r})\n"
        "print(model.generate(np.zeros((64, 64, 3), np.uint8), 'how many', max_new_tokens=3))"
    )
    run("-c", code)


def test_what_looks_at_a_config(run, outside):
    config = f"--config={outside / 'mine.py'}"
    found = run("-m", "pgjax", "plan", config, "--largest_batch=false").stdout
    assert "fits" in found
    found = run("-m", "pgjax", "check-data", config).stdout
    assert "12 examples, 12 looked at" in found
