"""Evaluators: given parameters, they return scores and one record per example.

An evaluation is an entry of `config.evals`, whose keys are those of `pgjax.config.EvalConfig`.
A kind of one's own is a subclass of `Evaluator` with `@EVALUATORS.register(name)`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import sharding
from pgjax.config import EvalConfig
from pgjax.config.parsing import parse_evaluation
from pgjax.console import say
from pgjax.data.loader import EvalLoader, Part
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.buckets import by_length
from pgjax.evaluation.main_score import MainScore
from pgjax.evaluation.progress import Progress
from pgjax.evaluation.store import InMemoryStore, Record, Store, gather_json
from pgjax.inference.answer import read_answer
from pgjax.inference.decoding_options import ProgramOptions
from pgjax.inference.detections import scored_boxes
from pgjax.inference.generation import INPUTS, GenerateFn, local_rows, make_generate_fn
from pgjax.inference.mask_codec import open_codec
from pgjax.loading.compiler_options import compiler_options
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.metrics import get_metric
from pgjax.metrics.aggregate import Mean
from pgjax.models.loss import make_loss
from pgjax.registry import EVALUATORS, METRICS, Metric


@dataclasses.dataclass
class Result:
    """Scores over all processes, and the records of all examples in order."""

    scores: dict[str, float]
    records: Sequence[Record]


class Evaluator:
    """Batches of one evaluation set through a compiled function."""

    section: type[EvalConfig] = EvalConfig  # the keys that an entry of `config.evals` has
    of_corpus = False  # whether scores are of all records at once, which then are in memory

    def __init__(self, name: str, spec: EvalConfig, context: ModelContext):
        """Checks everything that can be checked before any data is read."""
        self.name, self.spec, self.context = name, spec, context
        self.main = self.main_score(spec.metric)
        each = context.mesh.shape["data"]
        if each % jax.process_count():
            raise UserError(
                f"config.mesh.data is {each}, expected a multiple of the {jax.process_count()} "
                "processes, so that each has rows of its own."
            )
        self.batch_size = -(-spec.batch_size // each) * each
        self.part = Part(make_source(spec.data), context.pipeline(spec.pp), name=name)

    @classmethod
    def main_score(cls, metric: Mapping[str, Any]) -> MainScore:
        """The score by which examples are ranked.

        Args:
          metric: `name` and options, as in the config; only kinds that have a metric look at it.

        Raises:
          UserError: an unknown metric.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        """Number of examples."""
        count, most = len(self.part.source), self.spec.max_examples
        return count if most is None else min(count, most)

    def run(self, params: Flat, store: Store | None = None) -> Result:
        """Evaluates every example once.

        Args:
          params: all parameters.
          store: where records go as they come, and from where it goes on; None keeps them in
            memory.

        Raises:
          UserError: examples that do not fit, or cannot be used.
        """
        kept = store or InMemoryStore()
        loader = EvalLoader(
            self.part,
            self.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=self.spec.workers,
            on_bad_example=self.spec.on_bad_example,
            max_examples=self.spec.max_examples,
            done=kept.done,
        )
        progress = Progress(self.name, len(self), len(kept.done))
        for batch, out in self._ahead(params, self.batches(progress.timed(loader))):
            for record, scores in self.rows(batch, out):
                kept.add({**record, "scores": scores})
                progress.add(scores)
            kept.flush()
            progress.show()
        summary, records = progress.close(), kept.finish()
        if self.of_corpus:
            records = list(records)
        if store is not None and len(kept.done) < len(records):
            say(summary)
        mean = Mean()
        for record in records:
            mean.add(record["scores"])
        scores = {**mean.result(), "examples": len(records)}
        for key in ("skipped", "dropped"):
            if count := sum(gather_json(loader.report()[key])):
                scores[key] = count
        scores = self.finish(scores, records)
        if self.of_corpus:
            kept.replace(records)
        return Result(scores, records)

    def _ahead(self, params: Flat, batches: Iterable[dict]) -> Iterator[tuple[dict, Any]]:
        """(batch, its outputs); the device has the next batch while these are read."""
        before = None
        for batch in batches:
            out = self.launch(params, batch)
            if before:
                yield before
            before = batch, out
        if before:
            yield before

    def batches(self, batches: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """The batches as they are to be worked through."""
        return batches

    def launch(self, params: Flat, batch: dict[str, Any]) -> Any:
        """Starts the work on a batch; returns its outputs, which may still be to come."""
        raise NotImplementedError

    def rows(self, batch: dict[str, Any], out: Any) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields (record, scores) of this process's valid rows."""
        raise NotImplementedError

    def finish(self, scores: dict[str, float], records: Sequence[Record]) -> dict[str, float]:
        """Turns the means, and all records, into the final scores."""
        return scores

    def _on_device(self, batch: dict[str, Any], keys: tuple[str, ...]) -> Flat:
        return sharding.to_device(self.context.mesh, {k: batch[k] for k in keys})

    def _checked(self, batch: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        where, res = f"config.evals.{self.name}.pp yields", self.context.config.model.res
        if missing := [k for k in keys if k not in batch]:
            raise UserError(
                f"{where} {sorted(k for k in batch if k != 'meta')} without {missing}, which "
                f"{self.spec.kind!r} needs."
            )
        if (size := batch["image"].shape[-3:-1]) != (res, res):
            raise UserError(f"{where} images of {size} pixels, but the model takes {(res, res)}.")
        return batch


@functools.lru_cache(maxsize=8)
def _generate_fn(context: ModelContext, options: ProgramOptions) -> GenerateFn:
    """One function for evaluations that decode alike, so that it is compiled once."""
    return make_generate_fn(context, options)


# What the evaluator supplies to metrics that need it, by the name of their argument.
_SUPPLIES: dict[str, Callable[[ModelContext], Any]] = {
    "draw": lambda context: open_codec(tiny=context.config.tokenizer == "tiny").draw,
}


@EVALUATORS.register("answers")
class Answers(Evaluator):
    """Decodes an answer per example and scores it with a metric."""

    def __init__(self, name: str, spec: EvalConfig, context: ModelContext):
        """Looks up the metric and the sampler as well."""
        super().__init__(name, spec, context)
        declared = _metric(spec.metric)
        supplied = {need: _SUPPLIES[need](context) for need in declared.needs}
        self.of_corpus = declared.corpus
        self.metric = get_metric(**spec.metric, **supplied)
        options = ProgramOptions(max_new_tokens=spec.max_new_tokens, sampler=spec.sampler)
        self._fn = _generate_fn(context, options)

    @classmethod
    def main_score(cls, metric: Mapping[str, Any]) -> MainScore:
        """That of the metric."""
        declared = _metric(metric)
        return MainScore(declared.main, declared.lower_is_better)

    def batches(self, batches: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """By prompt length."""
        return by_length(self._checked(batch, INPUTS) for batch in batches)

    def launch(self, params: Flat, batch: dict[str, Any]) -> Any:
        """Decodes."""
        return self._fn(params, self._on_device(batch, INPUTS), self.spec.seed)

    def rows(self, batch: dict[str, Any], out: Any) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields the meta of each example with its prediction, and the objects in that."""
        mine = local_rows(self.batch_size)
        tokens, logprobs = (np.asarray(x)[mine] for x in out)
        tokenizer = self.context.tokenizer
        for row, meta, valid in zip(range(len(tokens)), batch["meta"], batch["_mask"], strict=True):
            if valid:
                answer = read_answer(tokenizer, tokens[row], logprobs[row])
                record = {**meta, "prediction": answer.text}
                if found := scored_boxes(tokenizer, answer.tokens, answer.logprobs):
                    record["objects"] = [
                        {"label": box.label, "box": box[:4], "score": score} for box, score in found
                    ]
                yield record, {} if self.of_corpus else self.metric(answer.text, meta)

    def finish(self, scores: dict[str, float], records: Sequence[Record]) -> dict[str, float]:
        """Adds a metric of the corpus, which adds its scores of single records to these."""
        return {**scores, **(self.metric(records) if self.of_corpus else {})}


def _metric(spec: Mapping[str, Any]) -> Metric:
    return METRICS.find(spec.get("name"), "metric.name")


@EVALUATORS.register("perplexity")
class Perplexity(Evaluator):
    """Mean cross-entropy of the targets: per example, and per token for the perplexity."""

    def __init__(self, name: str, spec: EvalConfig, context: ModelContext):
        """Compiles the loss without dropout or smoothing."""
        super().__init__(name, spec, context)
        loss = make_loss(context.model, label_smoothing=0.0, chunk=context.config.loss_chunk)

        def token_losses(params, batch):
            weight = jnp.ones(batch["text"].shape[:1], jnp.float32)
            _, tokens = loss(params, {}, batch, weight, None)
            return tokens

        self._fn = jax.jit(
            token_losses,
            out_shardings=sharding.replicated(context.mesh),
            compiler_options=compiler_options(),
        )

    @classmethod
    def main_score(cls, metric: Mapping[str, Any]) -> MainScore:
        """The loss of an example."""
        return MainScore("loss", lower_is_better=True)

    def launch(self, params: Flat, batch: dict[str, Any]) -> Any:
        """Token losses."""
        keys = ("image", "text", "mask_ar", "mask_loss")
        with self.context.traced():
            return self._fn(params, self._on_device(self._checked(batch, keys), keys))

    def rows(self, batch: dict[str, Any], out: Any) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields the losses of each example."""
        losses = np.asarray(out)
        losses = losses[local_rows(len(losses))].sum(axis=1)
        counts = (batch["mask_loss"][:, 1:] > 0).sum(axis=1)
        for loss, count, meta, valid in zip(
            losses.tolist(), counts.tolist(), batch["meta"], batch["_mask"], strict=True
        ):
            if valid:
                yield meta, {"loss": loss / max(count, 1), "_loss": loss, "_tokens": count}

    def finish(self, scores: dict[str, float], records: Sequence[Record]) -> dict[str, float]:
        """Perplexity per token is exp of the summed loss over the summed count."""
        loss, tokens = scores.pop("_loss", 0.0), scores.pop("_tokens", 0.0)
        return {**scores, "perplexity": float(np.exp(loss / tokens)) if tokens else float("nan")}


def make_evaluator(
    name: str, spec: EvalConfig | Mapping[str, Any], context: ModelContext
) -> Evaluator:
    """Builds one entry of `config.evals`.

    Raises:
      UserError: an unknown kind or key, or a part that does not build.
    """
    spec = parse_evaluation(name, spec)
    return EVALUATORS.find(spec.kind, f"config.evals.{name}.kind")(name, spec, context)
