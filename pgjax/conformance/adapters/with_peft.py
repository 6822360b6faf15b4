"""peft on top of transformers: a base that lacks something, and the adapter that adds it."""

import re
from typing import Any

from pgjax.checkpoints.hf_layout import transformers_5_name
from pgjax.conformance.adapter import optional
from pgjax.conformance.adapters.with_transformers import TransformersAdapter
from pgjax.conformance.tiny_models import ModelFiles


class PeftAdapter(TransformersAdapter):
    """A `PeftModel` whose base and LoRA adapter are the expected model when taken together.

    So its outputs, and the gradients by the base's matrices, are those of the whole matrices.
    """

    packages = ("peft", "transformers", "torch")

    def _open(self, files: ModelFiles) -> Any:
        return optional("peft").PeftModel.from_pretrained(self._base(files.lora_base), files.lora)

    def _paligemma(self) -> Any:
        return self._model.base_model.model

    def _parameter(self, released_name: str) -> Any:
        name = transformers_5_name(released_name)
        wrapped = re.sub(r"\.weight$", ".base_layer.weight", name)
        found = dict(self._paligemma().named_parameters())
        return found[wrapped] if wrapped in found else found[name]
