"""The one recipe behind every transfer: what they share, given what is a task's own."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pgjax.errors import UserError
from pgjax.recipes.base import default_config

_FULL = {"img": {"variant": "So400m/14"}, "tokenizer": "gemma", "res": 224, "dtype": "auto"}
_TINY = {"img": {"variant": "tiny/8"}, "tokenizer": "tiny", "res": 64, "dtype": "float32"}


def _gemma2(variant: str) -> dict[str, Any]:
    """A decoder of PaliGemma 2, whose transfers leave the logits of the vocabulary uncapped."""
    return {"variant": variant, "final_softcap": 0.0}


# variant -> model, checkpoint (none for random parameters), tokenizer, size of images, dtypes of
# computation
VARIANTS: dict[str, dict[str, Any]] = {
    "3b": {**_FULL, "llm": {"variant": "gemma_2b"}, "init": "pt-{res}"},
    "pg2-3b": {**_FULL, "llm": _gemma2("gemma2_2b"), "init": "paligemma2-3b-pt-{res}"},
    "pg2-10b": {**_FULL, "llm": _gemma2("gemma2_9b"), "init": "paligemma2-10b-pt-{res}"},
    "pg2-28b": {**_FULL, "llm": _gemma2("gemma2_27b"), "init": "paligemma2-28b-pt-{res}"},
    "tiny": {**_TINY, "llm": {"variant": "gemma_tiny"}, "init": "tiny"},
    "pg2-tiny": {**_TINY, "llm": _gemma2("gemma2_tiny"), "init": ""},
}


def transfer(
    name: str,
    *,
    train: Mapping[str, Any],
    evals: Mapping[str, Mapping[str, Any]],
    prompt: str,
    target: str,
    variant: str = "3b",
    res: int = 0,
    mode: str = "",
    text_len: int,
    epochs: float = 0.0,
    steps: int = 0,
    batch_size: int,
    lr: float,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    decode: str = "decode",
    antialias: bool = True,
    paint: str = "",
    augment: str = "",
    on_truncate: str = "error",
    objects: int = 0,
) -> ConfigDict:
    """Builds a fine-tune (Adam, b2 0.999, clip 1.0, cosine with 5 % warm-up).

    Training and evaluation operations come from one specification, so that prompts and images
    are prepared alike.

    Args:
      name: of the task.
      train: data source of training.
      evals: `{name: {kind, data, …}}`; `pp` is filled in, for prompts that are to be continued
        unless the kind is perplexity. One may have a `pp`, `prompt`, `target` or `antialias` of
        its own.
      prompt: operations that make `prefix`, such as `strfmt('caption en', 'prefix')`; may be "".
      target: operations that make `suffix` in training; may be "".
      variant: one of `VARIANTS`.
      res: image size; 0 for the variant's own.
      mode: what is tuned, a mode of `adapt.py` or a regex; "" for everything.
      text_len: tokens of prompt and target.
      epochs: length of the run; or
      steps: its length in updates.
      batch_size: over all processes.
      lr: learning rate.
      weight_decay: on the image tower's kernels.
      label_smoothing: ε.
      dropout: in the decoder.
      decode: operations that make the image, in training and evaluation, before resizing.
      antialias: when an image is made smaller; False for the published models that had none.
      paint: operations on the resized image, in training and evaluation.
      augment: operations on the image that `decode` makes, in training alone.
      on_truncate: error, drop or truncate, for text longer than `text_len`.
      objects: of each target of detection, which noise boxes fill up; 0 for targets as they are.

    Raises:
      UserError: unknown variant.
    """
    if variant not in VARIANTS:
        raise UserError(f"variant {variant!r} is unknown; choose from {list(VARIANTS)}.")
    v = VARIANTS[variant]
    res = res or v["res"]
    c = default_config()
    c.name = name
    c.adapt = mode
    c.model.res = res
    c.model.img = ConfigDict(v["img"])
    c.model.llm = ConfigDict({**v["llm"], "dropout": dropout})
    c.model.img_dtype = c.model.llm_dtype = v["dtype"]
    c.init = v["init"].format(res=res)
    c.tokenizer = v["tokenizer"]

    def resized(antialias: bool) -> str:
        return _pipe(f"resize({res}, antialias={antialias})", paint, "value_range(-1, 1)")

    image = resized(antialias)
    learn = f"for_training({text_len}, on_truncate={on_truncate!r})"
    if objects:
        learn = f"for_detection({text_len}, {objects}, on_truncate={on_truncate!r})"
    answer = f"for_answering({text_len})"
    if on_truncate == "truncate":
        answer = f"for_answering({text_len}, on_truncate='truncate')"
    keep = "keep('image', 'text', 'mask_ar', 'mask_loss')"
    c.input.data = ConfigDict(train)
    c.input.pp = _pipe(decode, augment, image, prompt, target, learn, keep)
    c.input.batch_size = batch_size
    c.total_epochs, c.total_steps = float(epochs), steps

    c.answering = ConfigDict({"image": _pipe(decode, image), "prompt": prompt, "text": answer})
    if objects:
        c.answering.objects = objects
    for key, spec in evals.items():
        spec = {"antialias": antialias, "prompt": prompt, "target": target, **spec}
        own = resized(spec.pop("antialias")), spec.pop("prompt"), spec.pop("target")
        answers = spec["kind"] != "perplexity"  # other kinds, a user's own too, decode answers
        # The target comes along for the metric; it does not enter the model.
        pp = _pipe(decode, *own, answer if answers else learn)
        length = {"max_new_tokens": text_len} if answers else {}
        if answers and objects:
            length["objects"] = objects
        c.evals[key] = ConfigDict({"pp": pp, "batch_size": batch_size, **length, **spec})

    c.optimizer.lr = lr
    c.optimizer.weight_decay = weight_decay
    c.label_smoothing = label_smoothing
    for data in [c.input.data, *(spec.data for spec in c.evals.values())]:
        if data.get("name") == "prepared":
            data.data_dir = c.get_ref("data_dir")  # one flag sets them all
    return c


def _pipe(*ops: str) -> str:
    return "|".join(filter(None, ops))
