"""The model card (README.md) of an exported checkpoint: what it is, its scores, how to use it.

The format is that of the Hugging Face hub: metadata in YAML, then Markdown.
"""

import json
import math
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pgjax
from pgjax.checkpoints import released
from pgjax.config import RunConfig, to_dict
from pgjax.console import table_in_markdown
from pgjax.errors import UserError
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.stored_evaluation import read_evaluations
from pgjax.loading.run_directory import is_run, read_run
from pgjax.metrics.statistics import confidence_interval
from pgjax.training.loop import PREDICTIONS
from pgjax.training.metrics_writer import METRICS_FILE

CARD_FILE = "README.md"
_COUNTS = ("examples", "skipped", "dropped")
_PGJAX = f"[pgjax]({pgjax.REPOSITORY}) {pgjax.__version__}"
_PATHS = ("~", "/", "./", "../")
_LICENCES = {
    "gemma": (
        "The weights are derived from PaliGemma and fall under the "
        "[Gemma Terms of Use](https://ai.google.dev/gemma/terms)."
    ),
    "apache-2.0": (
        "The weights are derived from pgjax's tiny checkpoint, under the Apache License 2.0."
    ),
    "other": "The base has a licence of its own, which holds for these weights as well.",
}


def model_card(source: str, repo: str, *, adapter: bool = False, base: str = "") -> str:
    """Writes the card of a checkpoint for a repository of the hub.

    Args:
      source: a run directory, a released name, or a path to a checkpoint.
      repo: the repository, as OWNER/NAME.
      adapter: whether only LoRA adapters are stored there, as peft reads them.
      base: the checkpoint that it was tuned from; "" for the one that a run names, and for `source`
        where it is no run.

    Raises:
      UserError: the run directory is damaged.
    """
    path = pathlib.Path(source).expanduser()
    config = read_run(path).config if is_run(path) else None
    base = base or (config.init if config else source)
    base_repo, licence = _base(base)
    results = list(run_scores(path, config)) if config else []
    prompt = _prompt(path) if config else "caption en"
    sections = [
        _metadata(base_repo, licence, adapter, tuned=config is not None),
        f"# {repo.rpartition('/')[2]}",
        _introduction(config, base, base_repo, adapter),
        *(_training(config) if config else []),
        _scores(results) if config else "",
        _usage(repo, base_repo or base, prompt, adapter),
        f"## Licence\n\n{_LICENCES[licence]}",
        _whole_config(config) if config else "",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def run_scores(
    workdir: pathlib.Path, config: RunConfig
) -> Iterator[tuple[str, str, float, str, int]]:
    """Yields the scores of a run: evaluation, score, value, 95 % interval, number of examples.

    They are those of `pgjax evaluate --run` where it has been run, and otherwise the last ones of
    training. The interval is "" where the score is not a mean over examples.

    Args:
      workdir: the run directory.
      config: of the run.
    """
    stored = {}
    if (workdir / "evaluation" / SCORES_FILE).is_file():
        stored = read_evaluations(workdir / "evaluation")
    for name in config.evals:
        if name in stored:
            scores, records = stored[name].scores, list(stored[name].records)
        else:
            scores, records = _last_scores(workdir, name)
        values: dict[str, list[float]] = {}
        for record in records:
            for key, value in record.get("scores", {}).items():
                values.setdefault(key, []).append(value)
        for key, value in scores.items():
            if key not in _COUNTS and not key.startswith("_"):
                yield name, key, value, _interval(values.get(key), value), len(records)


def _last_scores(workdir: pathlib.Path, name: str) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The last scores of an evaluation during training, and its records at that step."""
    scores: dict[str, float] = {}
    step = -1
    metrics = workdir / METRICS_FILE
    for line in metrics.read_text().splitlines() if metrics.is_file() else ():
        row = json.loads(line)
        if found := {
            key.removeprefix(f"{name}/"): value
            for key, value in row.items()
            if key.startswith(f"{name}/")
        }:
            scores, step = found, row["step"]
    path = workdir / PREDICTIONS / f"{name}_{step}.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return scores, [json.loads(line) for line in lines]


def _interval(values: Sequence[float] | None, score: float) -> str:
    if not values or len(values) < 2:
        return ""
    try:
        found = confidence_interval(values)
    except UserError:
        return ""
    if not math.isclose(found.mean, score, rel_tol=1e-6, abs_tol=1e-9):
        return ""  # not the mean over examples
    return f"{found.low:.3f}–{found.high:.3f}"


def _base(name: str) -> tuple[str, str]:
    """The repository of a base, "" where it has none, and the licence of its derivatives."""
    if name == "tiny":
        return "", "apache-2.0"
    release = released.get(name)
    return (release.repo, "gemma") if release else ("", "other")


def _metadata(base_repo: str, licence: str, adapter: bool, tuned: bool) -> str:
    lines = [
        "---",
        f"license: {licence}",
        f"library_name: {'peft' if adapter else 'transformers'}",
        "pipeline_tag: image-text-to-text",
        "tags:",
        "- paligemma",
        "- pgjax",
    ]
    if base_repo:
        lines.append(f"base_model: {base_repo}")
        if tuned:
            lines.append(f"base_model_relation: {'adapter' if adapter else 'finetune'}")
    return "\n".join([*lines, "---"])


def _introduction(config: RunConfig | None, base: str, base_repo: str, adapter: bool) -> str:
    link = f"[{base}](https://huggingface.co/{base_repo})" if base_repo else f"`{_short(base)}`"
    what = "LoRA adapters for" if adapter else "A fine-tuned version of" if config else "A copy of"
    if config and not base:
        return f"A PaliGemma trained from random weights with {_PGJAX}."
    verb = "trained" if config else "converted"
    return f"{what} {link}, {verb} with {_PGJAX}."


def _training(config: RunConfig) -> list[str]:
    spec, optimizer = config.input, config.optimizer
    sources = {name: entry.data for name, entry in spec.mixture.items()} or {"": spec.data}
    data = [
        f"- {f'{name}: ' if name else ''}"
        + ", ".join(f"{key} `{_short(value)}`" for key, value in source.items() if value)
        for name, source in sources.items()
    ]
    steps, epochs = config.total_steps, config.total_epochs
    length = f"{steps} steps" if steps else f"{epochs:g} passes over the data"
    rows = [
        ("what trains", config.adapt or "see `trainable` below"),
        ("length", length),
        ("batch size", str(spec.batch_size)),
        ("optimizer", f"{optimizer.name}, learning rate {optimizer.lr:g}"),
        ("image size", f"{config.model.res} px"),
        ("seed", str(config.seed)),
    ]
    return [
        "## Training data\n\n" + "\n".join(data),
        "## Training\n\n" + table_in_markdown(("setting", "value"), rows),
    ]


def _scores(results: Sequence[tuple[str, str, float, str, int]]) -> str:
    if not results:
        return ""
    rows = [(name, key, f"{x:.4g}", ends, str(n or "")) for name, key, x, ends, n in results]
    head = ("evaluation", "score", "value", "95 % interval", "examples")
    return (
        f"## Scores\n\n{table_in_markdown(head, rows)}\n\n"
        "Intervals are percentiles of the bootstrap over examples."
    )


def _usage(repo: str, base: str, prompt: str, adapter: bool) -> str:
    folder = repo.rpartition("/")[2]
    asked = json.dumps(prompt, ensure_ascii=False)
    pgjax_part = (
        "### pgjax\n\n"
        f"```bash\nhf download {repo} --local-dir {folder}\n"
        f"pgjax predict --checkpoint {folder} --image photo.jpg --prompt {shlex.quote(prompt)}\n"
        "```\n\n"
        "```python\nimport pgjax\n\n"
        f'model = pgjax.load("{folder}")\nprint(model.generate("photo.jpg", {asked}))\n```'
    )
    load = f'PaliGemmaForConditionalGeneration.from_pretrained("{base if adapter else repo}")'
    lines = [
        "from PIL import Image",
        "from transformers import AutoProcessor, PaliGemmaForConditionalGeneration",
        *(["from peft import PeftModel"] if adapter else []),
        "",
        f'processor = AutoProcessor.from_pretrained("{base if adapter else repo}")',
        f"model = {load}",
        *([f'model = PeftModel.from_pretrained(model, "{repo}")'] if adapter else []),
        f"prompt = {json.dumps('<image>' + prompt, ensure_ascii=False)}",
        'inputs = processor(images=Image.open("photo.jpg"), text=prompt, return_tensors="pt")',
        "tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)",
        "answer = tokens[0, inputs.input_ids.shape[1] :]",
        "print(processor.decode(answer, skip_special_tokens=True))",
    ]
    other = "transformers and peft" if adapter else "transformers"
    tune = (
        ""
        if adapter
        else "\n\nLoRA adapters of [peft](https://huggingface.co/docs/peft) can be trained on top: "
        f'`get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))`; '
        f'`pgjax.load(ADAPTER, base="{folder}")` reads them.'
    )
    code = "\n".join(lines)
    return f"## How to use it\n\n{pgjax_part}\n\n### {other}\n\n```python\n{code}\n```{tune}"


def _whole_config(config: RunConfig) -> str:
    text = json.dumps(_without_folders(to_dict(config)), indent=1)
    return (
        "## Config\n\n<details><summary>The whole config of the run</summary>\n\n"
        f"```json\n{text}\n```\n\n</details>"
    )


def _prompt(workdir: pathlib.Path) -> str:
    """A prompt that the run was evaluated with; that of captions where there is none."""
    for path in sorted((workdir / PREDICTIONS).glob("*.jsonl")):
        with path.open() as f:
            if (line := f.readline()) and (prompt := json.loads(line).get("prefix")):
                return str(prompt)
    return "caption en"


def _short(value: Any) -> Any:
    """A path without the folders of this machine; any other value as it is."""
    if isinstance(value, str) and value.startswith(_PATHS):
        return pathlib.PurePath(value).name
    return value


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_folders(x) for x in value]
    return _short(value)
