"""The released checkpoints: what they are called here, where they lie, and how to use them."""

import dataclasses
import difflib

PRECISIONS = {"": "main", "f16": "float16", "bf16": "bfloat16"}  # suffix -> branch on the hub
RESOLUTIONS = (224, 448, 896)

# Fine-tuned checkpoints: (prompt, {resolution: published score}, metric). Scores are those of the
# model card, on the split it names.
_FT = {
    "cococap": ("caption en", {224: 141.92, 448: 144.60}, "CIDEr, COCO val"),
    "coco35l": ("caption en", {224: 116.4, 448: 118.6}, "CIDEr, mean of 35 languages, dev"),
    "textcaps": ("caption en", {224: 127.48, 448: 153.94}, "CIDEr, val"),
    "scicap": ("caption en", {224: 162.25, 448: 181.49}, "CIDEr, test"),
    "screen2words": ("caption en", {224: 117.57, 448: 119.59}, "CIDEr, test"),
    "widgetcap": ("caption en", {224: 136.07, 448: 148.36}, "CIDEr, test"),
    "vqav2": ("answer en {question}", {224: 83.19, 448: 85.64}, "accuracy, test-std"),
    "okvqa": ("answer en {question}", {224: 63.54, 448: 63.15}, "accuracy, val"),
    "aokvqa-mc": (
        "answer en {question} choose from: {a} \\t {b} …",
        {224: 76.37, 448: 76.90},
        "accuracy, test",
    ),
    "aokvqa-da": ("answer en {question}", {224: 61.85, 448: 63.22}, "accuracy, test"),
    "gqa": ("answer en {question}", {224: 65.61, 448: 67.03}, "accuracy, testdev balanced"),
    "nlvr2": ("answer en {sentence}", {224: 90.02, 448: 88.93}, "accuracy, test"),
    "ai2d": (
        "answer en {question} choose from: {a} \\t {b} …",
        {224: 72.12, 448: 73.28},
        "accuracy, test",
    ),
    "science-qa": (
        "Question: …\\nContext: …\\nOptions: (A) …\\nAnswer:",
        {224: 95.39, 448: 95.93},
        "accuracy, test",
    ),
    "rsvqa-lr": ("answer en {question}", {224: 92.65, 448: 93.11}, "mean accuracy, test"),
    "rsvqa-hr": ("answer en {question}", {224: 92.61, 448: 92.79}, "mean accuracy, test"),
    "chartqa": ("{question}", {224: 57.08, 448: 71.36}, "relaxed accuracy"),
    "vizwizvqa": ("answer en {question}", {224: 73.7, 448: 75.52}, "accuracy, test-std"),
    "tallyqa": ("answer en {question}", {224: 81.72, 448: 84.86}, "accuracy, simple"),
    "ocrvqa": ("answer en {question}", {224: 73.24, 448: 75.60, 896: 75.90}, "accuracy, test"),
    "textvqa": ("answer en {question}", {224: 55.47, 448: 73.15, 896: 76.48}, "accuracy, test"),
    "docvqa": ("{question}", {224: 43.74, 448: 78.02, 896: 84.77}, "ANLS, test"),
    "infovqa": ("answer en {question}", {224: 28.46, 448: 40.47, 896: 47.75}, "ANLS, test"),
    "stvqa": ("answer en {question}", {224: 63.29, 448: 81.82, 896: 84.40}, "ANLS, test"),
    "refcoco-seg": ("{phrase}", {224: 73.40, 448: 75.57, 896: 76.94}, "mIoU, RefCOCO val"),
}


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
        *(
            (f"ft-{task}", f"fine-tuned on {task}; {metric}", prompt, tuple(scores), scores)
            for task, (prompt, scores, metric) in _FT.items()
        ),
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
