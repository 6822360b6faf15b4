"""Evaluators: given parameters, they return scores and one record per example.

    config.evals.NAME = dict(
        kind="answers",          # or "perplexity"
        data=dict(name="jsonl", fname=…, split=…),
        pp="decode|…|for_answering(32)",
        batch_size=32,           # over all processes
        every=500,               # steps; 0: only at the end
        metric=dict(name="exact_match", …),      # answers only
        max_new_tokens=32, sampler="greedy",     # answers only
        max_examples=None, on_bad_example="raise", workers=0,
    )

A later kind of evaluation is one more class with `run` and an entry in `KINDS`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from pgjax import sharding
from pgjax.data.loader import EvalLoader, Part
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.inference.answer import INPUTS, local_rows, make_answer_fn, read_answer
from pgjax.inference.objects import scored_objects
from pgjax.inference.session import Flat, Session
from pgjax.metrics import CORPUS_METRICS, get_metric
from pgjax.metrics.aggregate import Mean
from pgjax.models.loss import make_loss

Record = dict[str, Any]


@dataclasses.dataclass
class Result:
    """Scores over all processes, and the records of all examples in order."""

    scores: dict[str, float]
    records: list[Record]


@dataclasses.dataclass
class EvalSpec:
    """The keys of one entry of `config.evals`."""

    kind: str
    data: Mapping[str, Any]
    pp: str
    batch_size: int = 32
    every: int = 0
    metric: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "exact_match"})
    max_new_tokens: int = 32
    sampler: str = "greedy"
    seed: int = 0
    max_examples: int | None = None
    on_bad_example: str = "raise"
    workers: int = 0


class Evaluator:
    """Batches of one evaluation set through a compiled function."""

    def __init__(self, name: str, spec: EvalSpec, session: Session):
        """Checks everything that can be checked before any data is read."""
        self.name, self.spec, self.session = name, spec, session
        self.part = Part(make_source(dict(spec.data)), session.pipeline(spec.pp), name=name)
        self._fn: Callable | None = None

    def run(self, params: Flat) -> Result:
        """Evaluates every example once, given all parameters."""
        spec = self.spec
        loader = EvalLoader(
            self.part,
            spec.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=spec.workers,
            on_bad_example=spec.on_bad_example,
            max_examples=spec.max_examples,
        )
        mean, records = Mean(), []
        for i, batch in enumerate(loader):
            for record, scores in self.rows(params, batch, i):
                mean.add(scores)
                records.append({**record, "scores": scores})
        gathered = gather_json({"mean": mean.to_json(), "records": records})
        total_mean = Mean()
        for part in gathered:
            total_mean.merge(part["mean"])
        records = sorted((r for part in gathered for r in part["records"]), key=_index)
        scores = {**total_mean.result(), "examples": len(records)}
        for key in ("skipped", "dropped"):
            if count := sum(gather_json(loader.report()[key])):
                scores[key] = count
        return Result(self.finish(scores, records), records)

    def rows(
        self, params: Flat, batch: dict[str, Any], index: int
    ) -> Iterator[tuple[Record, dict[str, float]]]:
        """Yields (record, scores) of this process's valid rows."""
        raise NotImplementedError

    def finish(self, scores: dict[str, float], records: list[Record]) -> dict[str, float]:
        """Turns the means, and all records, into the final scores."""
        return scores

    def _inputs(self, batch: dict[str, Any], keys: tuple[str, ...]) -> Flat:
        if missing := [k for k in keys if k not in batch]:
            raise UserError(
                f"config.evals.{self.name}.pp yields {sorted(k for k in batch if k != 'meta')} "
                f"without {missing}, which {self.spec.kind!r} needs."
            )
        return sharding.to_device(self.session.mesh, {k: batch[k] for k in keys})


class Answers(Evaluator):
    """Decodes an answer per example and scores it with a metric."""

    def __init__(self, name: str, spec: EvalSpec, session: Session):
        """Looks up the metric and the sampler as well."""
        super().__init__(name, spec, session)
        metric = dict(spec.metric)
        self.of_corpus = metric["name"] in CORPUS_METRICS
        self.metric = get_metric(metric.pop("name"), **metric)
        self._fn = make_answer_fn(session, max_new_tokens=spec.max_new_tokens, sampler=spec.sampler)

    def rows(self, params, batch, index):
        """Yields the meta of each example with its prediction, and the objects in that."""
        inputs = self._inputs(batch, INPUTS)
        first = index * self.spec.batch_size
        generated = self._fn(params, inputs, self.spec.seed, first)
        mine = local_rows(self.spec.batch_size)
        tokens, logprobs = (np.asarray(x)[mine] for x in generated)
        tokenizer = self.session.tokenizer
        for row, meta, valid in zip(range(len(tokens)), batch["meta"], batch["_mask"], strict=True):
            if valid:
                answer = read_answer(tokenizer, tokens[row], logprobs[row])
                record = {**meta, "prediction": answer.text}
                if found := scored_objects(tokenizer, answer.tokens, answer.logprobs):
                    record["objects"] = [
                        {"label": box.label, "box": box[:4], "score": score} for box, score in found
                    ]
                yield record, {} if self.of_corpus else self.metric(answer.text, meta)

    def finish(self, scores, records):
        """Adds a metric of the corpus to the counts."""
        return {**(self.metric(records) if self.of_corpus else {}), **scores}


class Perplexity(Evaluator):
    """Mean cross-entropy of the targets: per example, and per token for the perplexity."""

    def __init__(self, name: str, spec: EvalSpec, session: Session):
        """Compiles the loss without dropout or smoothing."""
        super().__init__(name, spec, session)
        loss = make_loss(session.model, label_smoothing=0.0, chunk=session.config["loss_chunk"])

        def token_losses(params, batch):
            weight = jnp.ones(batch["text"].shape[:1], jnp.float32)
            _, tokens = loss(params, {}, batch, weight, None)
            return tokens

        self._fn = jax.jit(token_losses, out_shardings=sharding.replicated(session.mesh))

    def rows(self, params, batch, index):
        """Yields the losses of each example."""
        inputs = self._inputs(batch, ("image", "text", "mask_ar", "mask_loss"))
        with sharding.use_mesh(self.session.mesh):
            losses = np.asarray(self._fn(params, inputs))
        losses = losses[local_rows(len(losses))].sum(axis=1)
        counts = (batch["mask_loss"][:, 1:] > 0).sum(axis=1)
        for loss, count, meta, valid in zip(
            losses.tolist(), counts.tolist(), batch["meta"], batch["_mask"], strict=True
        ):
            if valid:
                yield meta, {"loss": loss / max(count, 1), "_loss": loss, "_tokens": count}

    def finish(self, scores, records):
        """Perplexity per token is exp of the summed loss over the summed count."""
        loss, tokens = scores.pop("_loss", 0.0), scores.pop("_tokens", 0.0)
        return {**scores, "perplexity": float(np.exp(loss / tokens)) if tokens else float("nan")}


KINDS: dict[str, type[Evaluator]] = {"answers": Answers, "perplexity": Perplexity}


def make_evaluator(name: str, spec: Mapping[str, Any], session: Session) -> Evaluator:
    """Builds one entry of `config.evals`.

    Raises:
      UserError: unknown kind or key, or a part that does not build.
    """
    fields = {f.name: f for f in dataclasses.fields(EvalSpec)}
    if unknown := sorted(spec.keys() - fields.keys()):
        raise UserError(
            f"config.evals.{name}: {unknown} is read by nobody; it takes {sorted(fields)}."
        )
    required = [k for k, f in fields.items() if f.default is f.default_factory]
    if missing := [k for k in required if k not in spec]:
        raise UserError(f"config.evals.{name} lacks {missing}.")
    if spec["kind"] not in KINDS:
        raise UserError(
            f"config.evals.{name}.kind {spec['kind']!r} is unknown; choose from {sorted(KINDS)}."
        )
    return KINDS[spec["kind"]](name, EvalSpec(**spec), session)


def gather_json(value: Any) -> list[Any]:
    """Every process's JSON-able value, in the order of the processes."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([data.size], np.int32)).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [json.loads(rows[i, :n].tobytes()) for i, n in enumerate(sizes)]


def _index(record: Record) -> int:
    return record.get("index", 0)
