"""The model `pgjax` of lmms-eval, which finds it by the entry point `lmms_eval.models`.

lmms-eval --model pgjax --model_args pretrained=ft-docvqa-448 --tasks docvqa_val --batch_size 32
"""

import itertools
from collections.abc import Sequence
from typing import Any

from lmms_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]

from pgjax.data.given_images import read_given
from pgjax.errors import DataError, UserError
from pgjax.harnesses.harness_tasks import example_of
from pgjax.harnesses.tuned_model import TunedModel


class Pgjax(lmms):
    """Any checkpoint of pgjax, in one process on all of its devices.

    lmms-eval's own prompts and limits of length are not used; see `TunedModel`.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 0,
        max_batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        """Loads the checkpoint.

        Args:
          pretrained: as for `pgjax.load`.
          batch_size: examples decoded together; 0 or `auto` for as many as fit into memory.
          max_batch_size: given by lmms-eval, and not needed.
          device: given by lmms-eval; jax chooses the devices (`JAX_PLATFORMS`).
          **options: `prompt` of `TunedModel`, and options of `pgjax.load` such as `quantize`.

        Raises:
          UserError: as `pgjax.load`.
        """
        super().__init__()
        size = 0 if batch_size == "auto" else int(batch_size)
        self._model = TunedModel(pretrained, batch_size=size, **options)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Answers requests; those of a task are decoded together, in batches.

        Raises:
          UserError: see `TunedModel.answers`.
        """
        answers: list[str] = []
        for task, group in itertools.groupby(requests, lambda request: request.args[4]):
            answers += self._model.answers(task, _Documents(list(group), self.task_dict))
        return answers

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not supported."""
        raise UserError("PaliGemma answers one prompt; tasks of several rounds cannot be run.")

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not supported."""
        raise UserError(
            "The model pgjax generates answers; tasks of the type loglikelihood or "
            "multiple_choice, which compare given ones, cannot be run."
        )


class _Documents:
    """The documents of requests as a data source; images are read when they are asked for."""

    def __init__(self, requests: Sequence[Instance], datasets: dict[str, Any]) -> None:
        self._requests, self._datasets = requests, datasets

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: int) -> dict[str, Any]:
        _, _, visuals_of, place, task, split = self._requests[index].args
        document = self._datasets[task][split][place]
        visuals = visuals_of(document)
        if len(visuals) != 1:
            raise DataError(f"the document has {len(visuals)} images or videos, expected one.")
        return {"image": read_given(visuals[0]), **example_of(document)}

    def where(self, index: int) -> str:
        _, _, _, place, task, split = self._requests[index].args
        return f"{task}/{split}:{place}"
