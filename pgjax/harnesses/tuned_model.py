"""A checkpoint that answers a harness's benchmarks as `pgjax evaluate` has it answer them."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from pgjax.commands.config_files import read_config
from pgjax.config import parse_config
from pgjax.data.sources import Source
from pgjax.errors import note
from pgjax.harnesses.harness_tasks import config_of, harness_answer, prompt_operations
from pgjax.inference.load import load
from pgjax.inference.model import Model
from pgjax.loading.compiler_options import cache_compilations


class TunedModel:
    """Answers examples with the image operations, prompt, lengths and sampler of their config."""

    def __init__(
        self, checkpoint: str, *, prompt: str = "", batch_size: int = 0, **options: Any
    ) -> None:
        """Loads the checkpoint.

        Args:
          checkpoint: as for `pgjax.load`.
          prompt: a prompt for all benchmarks, such as `answer en {question}`, `ocr` or
            `detect {question}`; "" for the one that the checkpoint was tuned with.
          batch_size: examples decoded together; 0 for as many as fit into memory.
          **options: of `pgjax.load`.

        Raises:
          UserError: as `pgjax.load`.
        """
        cache_compilations()
        self.model = load(checkpoint, **options)
        self.prompt, self.batch_size = prompt, batch_size
        self._prepared = functools.cache(self._prepare)

    def answers(self, benchmark: str, source: Source) -> Iterator[str]:
        """The answers to a source's examples, in order, as the harness scores them.

        Args:
          benchmark: the harness's name for it.
          source: examples with `image` and what `example_of` finds.

        Raises:
          UserError: an example lacks what the prompt needs, or its image cannot be read.
        """
        name = config_of(benchmark)
        model, options = self._prepared(name)
        for meta, answer in model.generate_examples(source, **options):
            yield harness_answer(name, answer.text, meta)

    def _prepare(self, name: str) -> tuple[Model, dict[str, Any]]:
        """The model with a config's preparation of examples, and the config's way of decoding."""
        own = self.model.context.config
        answering, options = own.answering, {}
        prompt, images = "", f"{answering.image}|"
        if name:
            size = "mini" if own.tokenizer == "tiny" else f"res={self.model.res}"
            config = parse_config(read_config(f"{name}:{size}"))
            spec = next(iter(config.evals.values()))
            answering, prompt = config.answering, config.answering.prompt
            # An evaluation may resize in another way than its training.
            images = spec.pp.removesuffix(answering.text).removesuffix(f"{prompt}|")
            options = {"max_new_tokens": spec.max_new_tokens, "sampler": spec.sampler}
        prompt = prompt_operations(name, prompt, self.model.checkpoint)
        if self.prompt:
            prompt = f"strfmt({self.prompt!r}, 'prefix')"
        note(f"the prompts of {name or 'benchmarks without a config'} are made by {prompt}.")
        answering = dataclasses.replace(answering, image=images + prompt, prompt="")
        return self.model.prepared_by(answering), {"batch_size": self.batch_size, **options}
