"""Hugging Face transformers, by its processor, model and `generate`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pgjax.checkpoints.hf_layout import key_table, transformers_5_name
from pgjax.conformance.adapter import Adapter, Example, optional
from pgjax.conformance.tiny_models import EOS, SPECS, ModelFiles


class TransformersAdapter(Adapter):
    """`PaliGemmaForConditionalGeneration` and `PaliGemmaProcessor` from a Hugging Face folder."""

    packages = ("transformers", "torch")

    def __init__(self, files: ModelFiles) -> None:
        """Loads the folder in float32, with the attention that takes any mask."""
        self._torch, self._hf = optional("torch"), optional("transformers")
        self._processor = self._hf.AutoProcessor.from_pretrained(files.folder)
        self._entries = {e.name: e for e in key_table(SPECS[files.family])}
        self._vocabulary = SPECS[files.family]["llm"]["vocab_size"]
        self._model = self._open(files).eval()

    def _open(self, files: ModelFiles) -> Any:
        return self._base(files.folder)

    def _base(self, folder: Any) -> Any:
        return self._hf.PaliGemmaForConditionalGeneration.from_pretrained(
            folder, dtype=self._torch.float32, attn_implementation="eager"
        )

    def tokens(self, prefix: str, suffix: str) -> tuple[list[int], list[int]]:
        """By the processor, which is given the suffix, as for training."""
        image, picture = self._processor.image_token, np.zeros((8, 8, 3), np.uint8)
        out = self._processor(images=picture, text=image + prefix, suffix=suffix)
        ids, kinds = out["input_ids"][0], out["token_type_ids"][0]
        text = [
            (i, kind)
            for i, kind in zip(ids, kinds, strict=True)
            if i != self._processor.image_token_id
        ]
        return [i for i, kind in text if kind == 0], [i for i, kind in text if kind == 1]

    def image(self, picture: np.ndarray) -> np.ndarray:
        """By the processor, with the settings of the folder."""
        pixels = self._processor.image_processor(picture, return_tensors="np")["pixel_values"]
        return np.asarray(pixels)[0].transpose(1, 2, 0)

    def mask(self, example: Example, length: int) -> np.ndarray:
        """What the first layer's attention is called with, which is 0 where it may look."""
        seen: list[Any] = []
        layer = self._decoder().layers[0].self_attn
        hook = layer.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
        )
        try:
            with self._torch.no_grad():
                self._model(**self._inputs([example], length))
        finally:
            hook.remove()
        return seen[0][0, 0].numpy() == 0

    def image_tokens(self, pixels: np.ndarray) -> np.ndarray:
        """By `get_image_features`."""
        with self._torch.no_grad():
            found = self._paligemma().get_image_features(self._pixels([pixels]))
        return found.pooler_output[0].numpy()

    def logits(self, example: Example) -> np.ndarray:
        """By the model's forward pass."""
        with self._torch.no_grad():
            out = self._model(**self._inputs([example]))
        text = len(example.prompt) + len(example.answer)
        return out.logits[0, -text:, : self._vocabulary].numpy()

    def loss(self, examples: Sequence[Example]) -> float:
        """By the model, which is given labels."""
        with self._torch.no_grad():
            return float(self._model(**self._inputs(examples), labels=self._labels(examples)).loss)

    def gradient(self, example: Example, name: str) -> np.ndarray:
        """By `backward`; the tensors of a parameter are put together as in the `.npz`."""
        entry = self._entries[name]
        parts = [[(p, self._parameter(p.hf_name)) for p in layer] for layer in entry.layers]
        wanted = [x for layer in parts for _, x in layer]
        for x in wanted:
            x.requires_grad_(True)
        loss = self._model(**self._inputs([example]), labels=self._labels([example])).loss
        grads = iter(self._torch.autograd.grad(loss, wanted))
        layers = [[p.from_hf(next(grads).numpy()) for p, _ in layer] for layer in parts]
        stacked = [np.stack(layer) if entry.split else layer[0] for layer in layers]
        return np.stack(stacked) if entry.stacked else stacked[0]

    def answers(
        self, examples: Sequence[Example], beams: int, max_new_tokens: int
    ) -> list[list[int]]:
        """By `generate`, on prompts that are padded on the left."""
        inputs = self._inputs(examples, left=True)
        out = self._model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
            # A sum of log-probabilities, and no end before no open answer can be better.
            **({"length_penalty": 0.0, "early_stopping": "never"} if beams > 1 else {}),
        )
        return out[:, inputs["input_ids"].shape[1] :].tolist()

    def _paligemma(self) -> Any:
        return self._model

    def _decoder(self) -> Any:
        return self._paligemma().model.language_model

    def _parameter(self, released_name: str) -> Any:
        return self._paligemma().get_parameter(transformers_5_name(released_name))

    def _rows(
        self, examples: Sequence[Example], length: int | None
    ) -> Iterator[tuple[Example, int]]:
        """Each example, and how much padding it has."""
        most = length or max(len(x.prompt) + len(x.answer) for x in examples)
        for example in examples:
            yield example, most - len(example.prompt) - len(example.answer)

    def _inputs(
        self, examples: Sequence[Example], length: int | None = None, *, left: bool = False
    ) -> dict[str, Any]:
        count, image = self._processor.image_seq_length, self._processor.image_token_id
        columns: dict[str, list[list[int]]] = {}
        for x, padding in self._rows(examples, length):
            before, behind = (padding, 0) if left else (0, padding)
            text = [*[image] * count, *x.prompt, *x.answer]
            kinds = [*[0] * (count + len(x.prompt)), *[1] * len(x.answer)]
            for name, values in (
                ("input_ids", text),
                ("attention_mask", [1] * len(text)),
                ("token_type_ids", kinds),
            ):
                row = [*[0] * before, *values, *[0] * behind]
                columns.setdefault(name, []).append(row)
        result = {name: self._torch.tensor(rows) for name, rows in columns.items()}
        return {**result, "pixel_values": self._pixels([x.pixels for x in examples])}

    def _labels(self, examples: Sequence[Example]) -> Any:
        ignored = -100
        rows = [
            [ignored] * (self._processor.image_seq_length + len(x.prompt))
            + x.answer
            + [ignored] * padding
            for x, padding in self._rows(examples, None)
        ]
        assert all(row.count(EOS) for row in rows)
        return self._torch.tensor(rows)

    def _pixels(self, pixels: Sequence[np.ndarray]) -> Any:
        return self._torch.tensor(np.stack(pixels).transpose(0, 3, 1, 2).copy())
