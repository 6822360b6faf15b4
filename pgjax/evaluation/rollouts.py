"""Answers that a model gives to the prompts of training batches, and what they are worth."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from pgjax import sharding
from pgjax.config import RewardConfig
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import supplied
from pgjax.inference.answer import read_answer
from pgjax.inference.decoding_options import ProgramOptions
from pgjax.inference.generation import INPUTS, local_rows, make_generate_fn
from pgjax.inference.lengths import compiled_length, trimmed
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.metrics import get_metric
from pgjax.registry import METRICS
from pgjax.text.locations import parse_boxes

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass
class Drawn:
    """Answers of this process's rows, those to one prompt beside each other.

    Attributes:
      batch: `image`, `text`, `mask_ar` and `mask_loss` as a training batch has them, with the
        answers as targets; [B·N, …] for B prompts with N answers each.
      rewards: float32 [B·N].
    """

    batch: dict[str, np.ndarray]
    rewards: np.ndarray


class Rollouts:
    """Draws answers from a model's own distribution, and scores them against the targets."""

    def __init__(self, context: ModelContext, spec: RewardConfig, rows: int, text_len: int) -> None:
        """Opens the metric; the program is compiled for the first batch.

        Args:
          context: the model, its mesh and its tokenizer.
          spec: which metric, and how many answers.
          rows: prompts of a batch over all processes.
          text_len: tokens of a text, `text_len + 1` of the training arrays.

        Raises:
          UserError: the metric scores a corpus and not single answers.
        """
        name = spec.metric["name"]
        declared = METRICS.find(name, "config.reward.metric.name")
        if declared.corpus:
            raise UserError(
                f"config.reward.metric.name is {name!r}, which scores all answers together; "
                "expected a metric of single answers, such as 'listed_objects'."
            )
        self._context, self._samples, self._rows = context, spec.samples, rows
        self._main, self._sign = declared.main, -1 if declared.lower_is_better else 1
        self._metric = get_metric(**spec.metric, **supplied(context, declared))
        options = ProgramOptions(max_new_tokens=text_len, sampler="temperature(1)")
        self._generate = make_generate_fn(context, options)

    def draw(self, params: Flat, batch: Batch, seed: int) -> Drawn:
        """Draws answers to the prompts of a training batch.

        Args:
          params: all parameters of the model.
          batch: this process's rows of a training batch, of B_local prompts with their targets.
          seed: of the draws, 0 or more; the same in all processes.

        Raises:
          DataError: the metric cannot score an answer to a target.
        """
        rows = np.repeat(np.arange(len(batch["text"])), self._samples)
        prompts = _prompts({k: batch[k][rows] for k in ("text", "mask_ar")})
        longest = int(prompts["mask_input"].sum(axis=1).max())
        if jax.process_count() == 1:  # else the processes might not agree on the length
            width = min(compiled_length(longest), prompts["text"].shape[1])
            prompts = trimmed(prompts, width)
        first = jax.process_index() * len(rows)
        prompts |= {
            "image": batch["image"][rows],
            "_mask": np.ones(len(rows), bool),
            "_index": np.arange(first, first + len(rows), dtype=np.int32),
        }
        inputs = sharding.to_device(self._context.mesh, {k: prompts[k] for k in INPUTS})
        out = self._generate(params, inputs, seed)
        own = local_rows(self._rows * self._samples)
        tokens = np.asarray(out.tokens)[own]
        arrays = _with_answers(batch["text"].shape[1], prompts, tokens)
        metas = [
            self._meta(text, loss)
            for text, loss in zip(batch["text"], batch["mask_loss"], strict=True)
        ]
        rewards = [self._reward(tokens[i], metas[row]) for i, row in enumerate(rows.tolist())]
        return Drawn({"image": prompts["image"], **arrays}, np.array(rewards, np.float32))

    def _meta(self, text: np.ndarray, mask_loss: np.ndarray) -> dict[str, Any]:
        """What metrics read of a reference, from the tokens of a target."""
        target = self._context.tokenizer.decode(text[mask_loss > 0].tolist())
        boxes = parse_boxes(target)
        return {
            "suffix": target,
            "answers": [target],
            "boxes": [box[:4] for box in boxes],
            "labels": [box.label for box in boxes],
        }

    def _reward(self, tokens: np.ndarray, meta: dict[str, Any]) -> float:
        answer = read_answer(self._context.tokenizer, tokens, np.zeros(len(tokens), np.float32))
        return self._sign * self._metric(answer.text, meta)[self._main]


def _prompts(batch: Batch) -> dict[str, np.ndarray]:
    """The prompts alone, as the op `for_answering` makes them: what comes before the targets."""
    text, mask_ar = batch["text"], batch["mask_ar"]
    mask_input = np.cumsum(mask_ar, axis=1) == 0
    text = np.where(mask_input, text, 0)
    return {"text": text, "mask_ar": (~mask_input).astype(np.int32), "mask_input": mask_input}


def _with_answers(
    length: int, prompts: Mapping[str, np.ndarray], tokens: np.ndarray
) -> dict[str, np.ndarray]:
    """Training arrays [M,length] of prompts and answers; what does not fit is cut."""
    text = np.zeros((len(tokens), length), np.int32)
    mask_loss = np.zeros_like(text)
    starts = prompts["mask_input"].sum(axis=1).tolist()
    for i, start in enumerate(starts):
        answer = np.trim_zeros(tokens[i], "b")[: length - start]
        text[i, :start] = prompts["text"][i, :start]
        text[i, start : start + len(answer)] = answer
        mask_loss[i, start : start + len(answer)] = 1
    mask_ar = (np.arange(length)[None] >= np.array(starts)[:, None]).astype(np.int32)
    return {"text": text, "mask_ar": mask_ar, "mask_loss": mask_loss}
