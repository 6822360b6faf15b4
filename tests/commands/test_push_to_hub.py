"""Runs that go to a hub on loopback, with their model card."""

import json

import pytest
import yaml
from conftest import PHOTOS
from hub_server import Hub

import pgjax
from pgjax.model_card import model_card, run_scores


@pytest.fixture
def push(command, tmp_path):
    """Trains for two steps and pushes, against a hub."""

    def run(hub, workdir, *flags, token="good", check=True):
        env = {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": token,
            "NO_PROXY": "*",
        }  # fmt: skip
        return command(
            "-m", "pgjax", "train", "--config=forkme:variant=tiny,steps=2",
            f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}", "--config.input.batch_size=2",
            "--config.evals.answers.max_new_tokens=4", f"--workdir={workdir}",
            "--push_to_hub=me/mine", *flags, env=env, check=check, timeout=900,
        )  # fmt: skip

    return run


def parts(card):
    """The metadata of a card, and its text."""
    _, metadata, text = card.split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_a_run_and_its_card(push, tmp_path):
    with Hub({}) as hub:
        said = push(hub, tmp_path / "run").stdout
    assert "The run is at https://huggingface.co/me/mine." in said
    sent = hub.repos["me/mine"]
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.model"} <= sent.keys()

    metadata, text = parts(sent["README.md"].decode())
    assert metadata["license"] == "apache-2.0" and metadata["library_name"] == "transformers"
    for expected in ("`tiny`", "`photos.jsonl`", "2 steps", "| answers | acc |", "95 % interval",
                     "hf download me/mine", "pgjax.load(", "AutoProcessor", "peft", "## Licence",
                     '"batch_size": 2'):  # fmt: skip
        assert expected in text, expected
    assert str(PHOTOS) not in text  # folders of this machine are nobody's business

    folder = tmp_path / "got"  # what a user of the repository gets
    folder.mkdir()
    for name, data in sent.items():
        (folder / name).write_bytes(data)
    ask = (PHOTOS / "coffee.jpg", "caption en")
    want = pgjax.load(tmp_path / "run").generate(*ask, max_new_tokens=4)
    assert pgjax.load(folder).generate(*ask, max_new_tokens=4) == want


def test_the_adapter_of_a_lora_run(push, tmp_path):
    with Hub({}) as hub:
        push(hub, tmp_path / "run", "--config.adapt=lora")
    sent = hub.repos["me/mine"]
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= sent.keys()
    metadata, text = parts(sent["README.md"].decode())
    assert metadata["library_name"] == "peft"
    assert 'PeftModel.from_pretrained(model, "me/mine")' in text and "LoRA adapters for" in text


def test_a_token_that_may_not_write_is_noticed_before_training(push, tmp_path):
    with Hub({}) as hub:
        done = push(hub, tmp_path / "run", token="bad", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot be created on the Hugging Face hub" in done.stderr
    assert not (tmp_path / "run").exists() and not hub.repos


@pytest.fixture
def workdir(tmp_path):
    """What training leaves, of which 3 of 4 answers are right."""
    from pgjax.loading.run_directory import write_run

    config = pgjax.config.parse_config(pgjax.read_config("forkme", {"adapt": "lora"}))
    write_run(tmp_path, config, [], b"")
    (tmp_path / "predictions").mkdir()
    rows = [{"prefix": "it's", "scores": {"acc": float(i < 3)}} for i in range(4)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "predictions" / "answers_7.jsonl").write_text(text)
    metrics = [{"step": 3, "answers/acc": 0.1}, {"step": 7, "answers/acc": 0.75, "answers/f": 0.2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return tmp_path


def test_scores_have_intervals_where_they_are_means(workdir):
    config = pgjax.loading.run_directory.read_run(workdir).config
    assert list(run_scores(workdir, config)) == [
        ("answers", "acc", 0.75, "0.250–1.000", 4), ("answers", "f", 0.2, "", 4),
    ]  # fmt: skip


def test_the_card_of_a_released_base(workdir):
    metadata, text = parts(model_card(str(workdir), "me/mine", adapter=True))
    assert metadata["base_model"] == "google/paligemma-3b-pt-224" and metadata["license"] == "gemma"
    assert metadata["base_model_relation"] == "adapter"
    assert "Gemma Terms of Use" in text and "--prompt 'it'\"'\"'s'" in text
    for block in text.split("```python\n")[1:]:
        compile(block.partition("```")[0], "card", "exec")


def test_the_card_of_a_copy():
    metadata, text = parts(model_card("mix-224", "me/copy"))
    assert metadata["base_model"] == "google/paligemma-3b-mix-224"
    assert "A copy of [mix-224]" in text and "## Scores" not in text
