"""Evaluators: each runs the examples of one evaluation through a model, and scores them.

An evaluation is an entry of `config.evals`, whose keys are those of `pgjax.config.EvalConfig`. A
new kind of evaluation is a subclass of `Evaluator`, decorated with `@EVALUATORS.register(name)`.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    """The scores of an evaluation over all processes, and the records of all examples in order."""

    scores: dict[str, float]
    records: Sequence[Record]


class Evaluator:
    """Runs the batches of one evaluation through a compiled function, and scores each example.

    A subclass defines `launch`, which starts the computation for a batch, and `rows`, which reads
    its result; `batches` and `finish` have defaults.
    """

    section: type[EvalConfig] = EvalConfig  # parses the evaluation's entry of `config.evals`
    of_corpus: bool = False  # whether `finish` needs all records at once, in memory

    def __init__(self, name: str, spec: EvalConfig, context: ModelContext) -> None:
        """Opens the data source, and checks whatever can be checked before examples are read.

        Args:
          name: the name of the evaluation, which is its key in `config.evals`.
          spec: the entry of `config.evals`.
          context: the model, its mesh and its tokenizer.

        Raises:
          UserError: the metric, the data source or the pipeline does not exist or does not fit, or
            the mesh gives some process no rows of a batch.
        """
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
        """Returns the score by which examples are ranked and two runs are compared.

        Args:
          metric: `name` and options of the metric, as in the config. Evaluations without a metric
            ignore it.

        Raises:
          UserError: the metric is unknown.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        """Returns the number of examples that are evaluated."""
        count, most = len(self.part.source), self.spec.max_examples
        return count if most is None else min(count, most)

    def run(
        self,
        params: Flat,
        store: Store | None = None,
        between: Callable[[], object] | None = None,
    ) -> Result:
        """Evaluates every example once.

        Args:
          params: all parameters of the model by name.
          store: the store to which records are written as they are made. Examples that it already
            has are not evaluated again. None keeps the records in memory.
          between: called between two batches, equally often in all processes; it may raise.

        Raises:
          UserError: an example cannot be used, or the pipeline's output does not fit the model.
        """
        records_store = store or InMemoryStore()
        loader = self._open_loader(records_store.done)
        progress = Progress(self.name, len(self), len(records_store.done))
        for batch, out in self._ahead(params, self.batches(progress.timed(loader))):
            for record, scores in self.rows(batch, out):
                records_store.add({**record, "scores": scores})
                progress.add(scores)
            records_store.flush()
            progress.show()
            if between:
                between()
        summary, records = progress.close(), records_store.finish()
        if self.of_corpus:
            records = list(records)
        if store is not None and len(store.done) < len(records):
            say(summary)
        scores = self.finish(self._mean_scores(records, loader), records)
        if self.of_corpus:  # `finish` has added the scores of single examples to the records
            records_store.replace(records)
        return Result(scores, records)

    def _open_loader(self, done: Collection[int]) -> EvalLoader:
        return EvalLoader(
            self.part,
            self.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=self.spec.workers,
            on_bad_example=self.spec.on_bad_example,
            max_examples=self.spec.max_examples,
            done=done,
        )

    def _mean_scores(self, records: Sequence[Record], loader: EvalLoader) -> dict[str, float]:
        """Returns the means of the records' scores, and how many examples there were."""
        mean = Mean()
        for record in records:
            mean.add(record["scores"])
        scores = {**mean.result(), "examples": len(records)}
        for key in ("skipped", "dropped"):
            if count := sum(gather_json(loader.report()[key])):
                scores[key] = count
        return scores

    def _ahead(self, params: Flat, batches: Iterable[dict]) -> Iterator[tuple[dict, Any]]:
        """Yields (batch, outputs) while the device already works on the batch that follows."""
        previous = None
        for batch in batches:
            out = self.launch(params, batch)
            if previous:
                yield previous
            previous = batch, out
        if previous:
            yield previous

    def batches(self, batches: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Returns the loader's batches, regrouped where a kind of evaluation needs that."""
        return batches

    def launch(self, params: Flat, batch: dict[str, Any]) -> Any:
        """Starts the computation for a batch, and returns its outputs without waiting for them."""
        raise NotImplementedError

    def rows(self, batch: dict[str, Any], out: Any) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields the record and the scores of each example among this process's rows."""
        raise NotImplementedError

    def finish(self, scores: dict[str, float], records: Sequence[Record]) -> dict[str, float]:
        """Returns the final scores, given the mean scores and all records."""
        return scores

    def _on_device(self, batch: dict[str, Any], keys: tuple[str, ...]) -> Flat:
        return sharding.to_device(self.context.mesh, {k: batch[k] for k in keys})

    def _checked(self, batch: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        where, res = f"config.evals.{self.name}.pp yields", self.context.config.model.res
        if missing := [k for k in keys if k not in batch]:
            raise UserError(
                f"{where} {sorted(k for k in batch if k != 'meta')}, but an evaluation of kind "
                f"{self.spec.kind!r} needs {missing} as well."
            )
        if (size := batch["image"].shape[-3:-1]) != (res, res):
            raise UserError(
                f"{where} images of {size} pixels, but the model takes images of {(res, res)}."
            )
        return batch


@functools.lru_cache(maxsize=8)
def _generate_fn(context: ModelContext, options: ProgramOptions) -> GenerateFn:
    """Returns one function for all evaluations that decode alike, so that it is compiled once."""
    return make_generate_fn(context, options)


# What metrics that declare a need are given, by the name of the argument.
_SUPPLIES: dict[str, Callable[[ModelContext], Any]] = {
    "draw": lambda context: open_codec(tiny=context.config.tokenizer == "tiny").draw,
}


def supplied(context: ModelContext, declared: Metric) -> dict[str, Any]:
    """Returns the arguments that a metric needs beside answers and references."""
    return {need: _SUPPLIES[need](context) for need in declared.needs}


@EVALUATORS.register("answers")
class AnswerEvaluator(Evaluator):
    """Decodes an answer to each example, and scores it with a metric."""

    def __init__(self, name: str, spec: EvalConfig, context: ModelContext) -> None:
        """Opens the data source, the metric and the sampler, see `Evaluator`."""
        super().__init__(name, spec, context)
        declared = _metric(spec.metric)
        self.of_corpus = declared.corpus
        self.metric = get_metric(**spec.metric, **supplied(context, declared))
        options = ProgramOptions(
            max_new_tokens=spec.max_new_tokens, sampler=spec.sampler, objects=spec.objects
        )
        self._fn = _generate_fn(context, options)

    @classmethod
    def main_score(cls, metric: Mapping[str, Any]) -> MainScore:
        """Returns the main score that the metric declares."""
        declared = _metric(metric)
        return MainScore(declared.main, declared.lower_is_better)

    def batches(self, batches: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Groups the examples by the length of their prompts."""
        return by_length(self._checked(batch, INPUTS) for batch in batches)

    def launch(self, params: Flat, batch: dict[str, Any]) -> Any:
        """Starts decoding the answers to a batch."""
        return self._fn(params, self._on_device(batch, INPUTS), self.spec.seed)

    def rows(self, batch: dict[str, Any], out: Any) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields each example's `meta` with the `prediction` and the `objects` that it names."""
        own = local_rows(self.batch_size)
        tokens, logprobs = (np.asarray(x)[own] for x in out)
        tokenizer = self.context.tokenizer
        for row, meta, valid in zip(range(len(tokens)), batch["meta"], batch["_mask"], strict=True):
            if valid:
                answer = read_answer(tokenizer, tokens[row], logprobs[row])
                record = {**meta, "prediction": answer.text}
                if objects := scored_boxes(
                    tokenizer, answer.tokens, answer.logprobs, by_label=self.spec.objects > 0
                ):
                    record["objects"] = [
                        {"label": box.label, "box": box[:4], "score": score}
                        for box, score in objects
                    ]
                yield record, {} if self.of_corpus else self.metric(answer.text, meta)

    def finish(self, scores: dict[str, float], records: Sequence[Record]) -> dict[str, float]:
        """Adds the scores of a corpus metric, which also writes the records' own scores."""
        return {**scores, **(self.metric(records) if self.of_corpus else {})}


def _metric(spec: Mapping[str, Any]) -> Metric:
    return METRICS.find(spec.get("name"), "metric.name")


@EVALUATORS.register("perplexity")
class PerplexityEvaluator(Evaluator):
    """Measures the cross-entropy of the targets: the mean per example, and the perplexity."""

    def __init__(self, name: str, spec: EvalConfig, context: ModelContext) -> None:
        """Builds the loss, without dropout and label smoothing, see `Evaluator`."""
        super().__init__(name, spec, context)
        loss = make_loss(context.model, label_smoothing=0.0, chunk=context.config.loss_chunk)

        def token_losses(params: Flat, batch: Flat) -> jax.Array:
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
        """Returns `loss`, of which a lower value is better."""
        return MainScore("loss", lower_is_better=True)

    def launch(self, params: Flat, batch: dict[str, Any]) -> Any:
        """Starts computing the loss of each target token."""
        keys = ("image", "text", "mask_ar", "mask_loss")
        with self.context.traced():
            return self._fn(params, self._on_device(self._checked(batch, keys), keys))

    def rows(self, batch: dict[str, Any], out: Any) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields each example's `meta`, with its mean loss per token."""
        losses = np.asarray(out)
        losses = losses[local_rows(len(losses))].sum(axis=1)
        counts = (batch["mask_loss"][:, 1:] > 0).sum(axis=1)
        for loss, count, meta, valid in zip(
            losses.tolist(), counts.tolist(), batch["meta"], batch["_mask"], strict=True
        ):
            if valid:
                yield meta, {"loss": loss / max(count, 1), "_loss": loss, "_tokens": count}

    def finish(self, scores: dict[str, float], records: Sequence[Record]) -> dict[str, float]:
        """Adds the perplexity, exp(summed loss of all tokens / number of tokens)."""
        loss, tokens = scores.pop("_loss", 0.0), scores.pop("_tokens", 0.0)
        return {**scores, "perplexity": float(np.exp(loss / tokens)) if tokens else float("nan")}


def make_evaluator(
    name: str, spec: EvalConfig | Mapping[str, Any], context: ModelContext
) -> Evaluator:
    """Builds the evaluator of an entry of `config.evals`.

    Args:
      name: the entry's key in `config.evals`.
      spec: the entry; a plain dict is parsed first.
      context: the model, its mesh and its tokenizer.

    Raises:
      UserError: the kind or a key is unknown, or a value does not fit.
    """
    spec = parse_evaluation(name, spec)
    return EVALUATORS.find(spec.kind, f"config.evals.{name}.kind")(name, spec, context)
