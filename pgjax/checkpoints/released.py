"""The released checkpoints: what they are called here, where they lie, and how to use them."""

import dataclasses
import difflib

from pgjax.benchmarks.published import PUBLISHED

PRECISIONS = {"": "main", "f16": "float16", "bf16": "bfloat16"}  # suffix -> branch on the hub
RESOLUTIONS = (224, 448, 896)

# Fine-tuned checkpoints, with the prompt that each was tuned on.
_ANSWER = "answer en {question}"
_CHOOSE = "answer en {question} choose from: {a} \\t {b} …"
_PROMPTS = {
    "cococap": "caption en",
    "coco35l": "caption en",
    "textcaps": "caption en",
    "scicap": "caption en",
    "screen2words": "caption en",
    "widgetcap": "caption en",
    "vqav2": _ANSWER,
    "okvqa": _ANSWER,
    "aokvqa-mc": _CHOOSE,
    "aokvqa-da": _ANSWER,
    "gqa": _ANSWER,
    "nlvr2": "answer en {sentence}",
    "ai2d": _CHOOSE,
    "science-qa": "Question: …\\nContext: …\\nOptions: (A) …\\nAnswer:",
    "rsvqa-lr": _ANSWER,
    "rsvqa-hr": _ANSWER,
    "chartqa": "{question}",
    "vizwizvqa": _ANSWER,
    "tallyqa": _ANSWER,
    "ocrvqa": _ANSWER,
    "textvqa": _ANSWER,
    "docvqa": "{question}",
    "infovqa": _ANSWER,
    "stvqa": _ANSWER,
    "refcoco-seg": "{phrase}",
}
_METRICS = {"acc": "accuracy", "cider": "CIDEr", "anls": "ANLS", "miou": "mIoU"}


@dataclasses.dataclass(frozen=True)
class Release:
    """One released checkpoint in one precision."""

    name: str  # pt-224, ft-vqav2-448.bf16, paligemma2-3b-pt-224
    file: str  # in $PGJAX_CHECKPOINTS and in the npz repository, or a folder's name
    repo: str  # of safetensors on the Hugging Face hub
    branch: str
    res: int
    use: str
    prompt: str = ""
    score: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Names that the file or folder may have; bfloat16 is `b16` in some."""
        return (self.file, self.file.replace(".bf16.", ".b16."), self.repo.split("/")[1])

    @property
    def npz_repo(self) -> str | None:
        """The repository that holds `file`, where there is one."""
        return None if self.file == self.name else f"{self.repo}-jax"


def _table() -> dict[str, Release]:
    rows = {}
    kinds = [
        ("pt", "pretrained; to be fine-tuned", "", RESOLUTIONS, {}),
        ("mix", "tuned on many tasks; to be asked", "", RESOLUTIONS[:2], {}),
        *(_fine_tuned(task, prompt) for task, prompt in _PROMPTS.items()),
    ]
    for kind, use, prompt, sizes, scores in kinds:
        for res in sizes:
            for suffix, branch in PRECISIONS.items():
                base = f"{kind}-{res}"
                name = f"{base}.{suffix}" if suffix else base
                file = f"paligemma-3b-{base}{f'.{suffix}' if suffix else ''}.npz"
                score = str(scores[res]) if res in scores else ""
                repo = f"google/paligemma-3b-{base}"
                rows[name] = Release(name, file, repo, branch, res, use, prompt, score)
    for size in ("3b", "10b", "28b"):
        for kind, use in (("pt", "pretrained"), ("mix", "tuned on many tasks")):
            for res in RESOLUTIONS if kind == "pt" else RESOLUTIONS[:2]:
                name = f"paligemma2-{size}-{kind}-{res}"
                use_here = f"PaliGemma 2, {size.upper()}, {use}"
                rows[name] = Release(name, name, f"google/{name}", "main", res, use_here)
    return rows


def _fine_tuned(task: str, prompt: str) -> tuple:
    """Of the scores that are published for a task, its first is the one to show."""
    row = PUBLISHED[task.replace("-", "_")]
    key, scores = next(iter(row["scores"].items()))
    metric, *part = key.split("/")
    of = ", ".join([_METRICS[metric], *part, row["split"]])
    return f"ft-{task}", f"fine-tuned on {task}; {of}", prompt, tuple(scores), scores


RELEASES = _table()


def get(name: str) -> Release | None:
    """The release of a name, with or without `paligemma-3b-` before it, or None."""
    return RELEASES.get(name.removeprefix("paligemma-3b-"))


def of_repo(repo: str, branch: str | None) -> Release | None:
    """The release that lies in a repository of the Hugging Face hub, or None."""
    branch = branch or "main"
    return next((r for r in RELEASES.values() if (r.repo, r.branch) == (repo, branch)), None)


def hint(name: str) -> str:
    """Where to go from a name that does not exist."""
    near = difflib.get_close_matches(name, RELEASES, 1)
    return (f"Did you mean {near[0]!r}? " if near else "") + "predict --list shows the names."


def describe() -> str:
    """A line for every released checkpoint, without its precisions."""
    lines = [
        f"{'name':<24} {'pixels':>6}  {'score':>6}  what it is for",
        *(
            f"{r.name:<24} {r.res:>6}  {r.score:>6}  {r.use}"
            + (f"; prompt: {r.prompt}" if r.prompt else "")
            for r in RELEASES.values()
            if "." not in r.name
        ),
        "PaliGemma's also come in half precision: add .f16 or .bf16 to the name.",
    ]
    return "\n".join(lines)
