"""The released checkpoints: their names, where they can be downloaded, and how to prompt them."""

import dataclasses
import difflib

from pgjax.benchmarks.published import PUBLISHED

PRECISIONS = {"": "main", "f16": "float16", "bf16": "bfloat16"}  # the branch on the hub by suffix
RESOLUTIONS = (224, 448, 896)
PALIGEMMA_2 = "paligemma2-"  # released in bfloat16 alone, on the main branch

# The prompts of the fine-tuned checkpoints, by task.
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
    """A released checkpoint in one precision.

    Attributes:
      name: its name, such as `pt-224`, `ft-vqav2-448.bf16` or `paligemma2-3b-pt-224`.
      file: the file in `$PGJAX_CHECKPOINTS`, as Kaggle and the repository of `.npz` files name it.
      repo: the repository with safetensors on the Hugging Face hub.
      branch: the branch of that repository.
      res: the resolution of images, in pixels.
      use: what it is for.
      prompt: the prompt of a fine-tuned checkpoint.
      score: the published score of a fine-tuned checkpoint.
    """

    name: str
    file: str
    repo: str
    branch: str
    res: int
    use: str
    prompt: str = ""
    score: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The names that the file or folder may have; some releases write bfloat16 as `b16`."""
        stem, same = self.repo.split("/")[1], self.file.replace(".bf16.", ".b16.")
        plain = (f"{stem}.npz",) if self.name.startswith(PALIGEMMA_2) else ()
        return (self.file, same, same.replace(".b16.", ".bf16."), *plain, stem)

    @property
    def kaggle(self) -> str:
        """The model of Kaggle that holds `file`."""
        stem = self.repo.split("/")[1]
        model = "paligemma-2" if stem.startswith(PALIGEMMA_2) else "paligemma"
        return f"google/{model}/jax/{stem}"

    @property
    def split(self) -> bool:
        """Whether `file` is released in parts."""
        return self.name.startswith(f"{PALIGEMMA_2}28b-")


# The name of a kind of checkpoint, its use, prompt, resolutions, and scores by resolution.
_Kind = tuple[str, str, str, tuple[int, ...], dict[int, float]]


def _table() -> dict[str, Release]:
    rows: dict[str, Release] = {}
    kinds: list[_Kind] = [
        ("pt", "pretrained, for fine-tuning", "", RESOLUTIONS, {}),
        ("mix", "tuned on many tasks, for prompting", "", RESOLUTIONS[:2], {}),
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
        for kind, use, prompt, sizes in (
            ("pt", "pretrained", "", RESOLUTIONS),
            ("mix", "tuned on many tasks", "", RESOLUTIONS[:2]),
            ("ft-docci", "tuned on long captions", "caption en", (448,) if size != "28b" else ()),
        ):
            for res in sizes:
                name, about = (
                    f"{PALIGEMMA_2}{size}-{kind}-{res}",
                    f"PaliGemma 2, {size.upper()}, {use}",
                )
                file, repo = f"{name}.b16.npz", f"google/{name}"
                rows[name] = Release(name, file, repo, "main", res, about, prompt)
    return rows


def _fine_tuned(task: str, prompt: str) -> _Kind:
    """Describes the checkpoints of a task, with the first of its published scores."""
    row = PUBLISHED[task.replace("-", "_")]
    key, scores = next(iter(row["scores"].items()))
    metric, *part = key.split("/")
    of = ", ".join([_METRICS[metric], *part, row["split"]])
    return f"ft-{task}", f"fine-tuned on {task}; {of}", prompt, tuple(scores), scores


RELEASES = _table()


def get(name: str) -> Release | None:
    """Returns the release of a name, or None.

    Args:
      name: as in `RELEASES`, which may begin with `paligemma-3b-`, say bfloat16 as `.b16` or
        `.bf16`, and end in `.npz` where it is that of a file.
    """
    if name.startswith(("paligemma-3b-", PALIGEMMA_2)):
        name = name.removesuffix(".npz")
    name = name.removeprefix("paligemma-3b-")
    if name.endswith(".b16"):
        name = f"{name.removesuffix('.b16')}.bf16"
    return RELEASES.get(name.removesuffix(".bf16") if name.startswith(PALIGEMMA_2) else name)


def of_repo(repo: str, branch: str | None) -> Release | None:
    """Returns the release in a repository and branch of the Hugging Face hub, or None."""
    branch = branch or "main"
    return next((r for r in RELEASES.values() if (r.repo, r.branch) == (repo, branch)), None)


def hint(name: str) -> str:
    """Says what to do about a name that does not exist."""
    near = difflib.get_close_matches(name, RELEASES, 1)
    question = f"Did you mean {near[0]!r}? " if near else ""
    return f"{question}`pgjax list checkpoints` shows the names."


def describe() -> str:
    """Returns a table with a line for every released checkpoint."""
    lines = [
        f"{'name':<27} {'pixels':>6}  {'score':>6}  what it is for",
        *(
            f"{r.name:<27} {r.res:>6}  {r.score:>6}  {r.use}"
            + (f"; prompt: {r.prompt}" if r.prompt else "")
            for r in RELEASES.values()
            if "." not in r.name
        ),
        "Those of PaliGemma also exist in half precision: add .f16 or .bf16 to the name. Those of "
        "PaliGemma 2 are in bfloat16.",
    ]
    return "\n".join(lines)
