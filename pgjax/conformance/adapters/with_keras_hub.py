"""keras-hub on jax, by its backbone, preprocessor, task model and `generate`."""

import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from pgjax.checkpoints.npz import read_npz
from pgjax.conformance.adapter import Adapter, Example, optional
from pgjax.conformance.tiny_models import EOS, SPECS, ModelFiles

_LENGTH = 199  # tokens of a training example, as the longest text of the suite has them
_ATTENTION = "MultiHeadDotProductAttention_0"
_BLOCK = "transformer_layers"
_TOWER = "resblocks"
# Where the values of a parameter lie: attributes of the backbone, the image encoder (`img`) or the
# projector (`head`); a list of layers is followed by the attributes of each. Two paths are the
# halves along the next axis.
_PLACES = {
    "img/embedding/kernel": ("img.vision_embeddings.patch_embedding.kernel",),
    "img/embedding/bias": ("img.vision_embeddings.patch_embedding.bias",),
    "img/pos_embedding": ("img.vision_embeddings.position_embedding.embeddings",),
    "img/Transformer/encoder_norm/scale": ("img.encoder_layer_norm.gamma",),
    "img/Transformer/encoder_norm/bias": ("img.encoder_layer_norm.beta",),
    "img/head/kernel": ("head.kernel",),
    "img/head/bias": ("head.bias",),
    "llm/embedder/input_embedding": ("llm.token_embedding.embeddings",),
    "llm/final_norm/scale": ("llm.layer_norm.scale",),
}
_IMG_LAYER = {
    "LayerNorm_0/scale": ("layer_norm_1.gamma",),
    "LayerNorm_0/bias": ("layer_norm_1.beta",),
    "LayerNorm_1/scale": ("layer_norm_2.gamma",),
    "LayerNorm_1/bias": ("layer_norm_2.beta",),
    **{
        f"MlpBlock_0/Dense_{i}/{kind}": (f"mlp_dense_{i + 1}.{kind}",)
        for i in (0, 1)
        for kind in ("kernel", "bias")
    },
    **{
        f"{_ATTENTION}/{name}/{kind}": (f"attn.{name}_proj.{kind}",)
        for name in ("query", "key", "value", "out")
        for kind in ("kernel", "bias")
    },
}
_LLM_LAYER = {
    "attn/q_einsum/w": ("attention.query_dense.kernel",),
    "attn/kv_einsum/w": ("attention.key_dense.kernel", "attention.value_dense.kernel"),
    "attn/attn_vec_einsum/w": ("attention.output_dense.kernel",),
    "mlp/gating_einsum": ("gating_ffw.kernel", "gating_ffw_2.kernel"),
    "mlp/linear": ("ffw_linear.kernel",),
    **{
        f"{when}_{where}_norm/scale": (f"{when}_{where}_norm.scale",)
        for when in ("pre", "post")
        for where in ("attention", "ffw")
    },
}


class KerasHubAdapter(Adapter):
    """`PaliGemmaCausalLM`, with the settings that keras-hub's converters give to its presets."""

    packages = ("keras-hub", "keras", "jax")

    def __init__(self, files: ModelFiles) -> None:
        """Makes a model of the tiny sizes, and assigns the parameters of the `.npz`."""
        os.environ.setdefault("KERAS_BACKEND", "jax")
        self._keras, hub = optional("keras"), optional("keras_hub")
        if self._keras.backend.backend() != "jax":
            raise NotImplementedError("the adapter wants KERAS_BACKEND=jax")
        spec = SPECS[files.family]
        img, llm, res = spec["img"], spec["llm"], spec["res"]
        post_norms = bool(llm.get("post_norms"))
        self._backbone = hub.models.PaliGemmaBackbone(
            vocabulary_size=llm["vocab_size"],
            image_size=res,
            num_layers=llm["depth"],
            num_query_heads=llm["num_heads"],
            num_key_value_heads=llm["num_kv_heads"],
            hidden_dim=llm["width"],
            intermediate_dim=2 * llm["mlp_dim"],
            head_dim=llm["head_dim"],
            vit_patch_size=img["patch_size"][0],
            vit_num_heads=img["num_heads"],
            vit_hidden_dim=img["width"],
            vit_num_layers=img["depth"],
            vit_intermediate_dim=img["mlp_dim"],
            use_post_ffw_norm=post_norms,
            use_post_attention_norm=post_norms,
            attention_logit_soft_cap=llm.get("attn_softcap"),
            final_logit_soft_cap=llm.get("final_softcap"),
            dtype="float32",
        )
        stored = read_npz(files.npz)
        self._shapes = {name: x.shape for name, x in stored.items()}
        for name, x in stored.items():
            for index, variable in self._places(name):
                variable.assign(x[index].reshape(variable.shape))
        self._converter = hub.layers.PaliGemmaImageConverter(
            image_size=(res, res), scale=1 / 127.5, offset=-1
        )
        self._preprocessor = hub.models.PaliGemmaCausalLMPreprocessor(
            hub.models.PaliGemmaTokenizer(proto=str(files.tokenizer)),
            self._converter,
            sequence_length=_LENGTH,
        )
        # Without a preprocessor, the model takes ids.
        self._model = hub.models.PaliGemmaCausalLM(preprocessor=None, backbone=self._backbone)
        self._model.compile()
        self._beam_sampler = hub.samplers.BeamSampler
        self._res = res

    def tokens(self, prefix: str, suffix: str) -> tuple[list[int], list[int]]:
        """By the preprocessor; its documentation ends prompts with a line break."""
        picture = np.zeros((self._res, self._res, 3), np.uint8)
        given = {"images": picture, "prompts": f"{prefix}\n", "responses": suffix}
        inputs, targets, supervised = self._preprocessor(given)
        ids = [int(np.asarray(inputs["token_ids"])[0]), *np.asarray(targets).tolist()]
        answer = [False, *np.asarray(supervised).tolist()]
        pairs = list(zip(ids, answer, strict=True))
        return [i for i, mine in pairs if not mine and i], [i for i, mine in pairs if mine]

    def image(self, picture: np.ndarray) -> np.ndarray:
        """By the image converter."""
        return np.asarray(self._converter(picture))

    def mask(self, example: Example, length: int) -> np.ndarray:
        """What the first layer's attention is called with."""
        attention, seen = getattr(self._backbone, _BLOCK)[0].attention, []
        call = attention.call

        def spy(*args, **kwargs):
            seen.append(kwargs["attention_mask"])
            return call(*args, **kwargs)

        attention.call = spy
        try:
            self._model(self._inputs([example], length))
        finally:
            attention.call = call
        return np.asarray(seen[0])[0]

    def image_tokens(self, pixels: np.ndarray) -> np.ndarray:
        """By the image encoder with its classifier, which is the projector."""
        with jax.default_matmul_precision("highest"):
            return np.asarray(self._backbone.vit_encoder(pixels[None]))[0]

    def logits(self, example: Example) -> np.ndarray:
        """By the model's forward pass."""
        with jax.default_matmul_precision("highest"):
            return np.asarray(self._model(self._inputs([example])))[0]

    def loss(self, examples: Sequence[Example]) -> float:
        """By the loss that the task model compiles."""
        variables = [x.value for x in self._model.trainable_variables]
        return float(self._loss(variables, examples))

    def gradient(self, example: Example, name: str) -> np.ndarray:
        """By jax, of the same loss."""
        places = list(self._places(name))
        variables = self._model.trainable_variables
        grads = jax.grad(self._loss)([x.value for x in variables], [example])
        by_path = {x.path: np.asarray(g) for x, g in zip(variables, grads, strict=True)}
        result = np.zeros(self._shapes[name], np.float32)
        for index, variable in places:
            result[index] = by_path[variable.path].reshape(result[index].shape)
        return result

    def answers(
        self, examples: Sequence[Example], beams: int, max_new_tokens: int
    ) -> list[list[int]]:
        """By `generate`."""
        sampler = "greedy" if beams == 1 else self._beam_sampler(num_beams=beams)
        self._model.compile(sampler=sampler)
        length = max(len(x.prompt) for x in examples) + max_new_tokens
        inputs = self._inputs(examples, length)
        del inputs["response_mask"]
        out = np.asarray(self._model.generate(inputs, stop_token_ids=[EOS])["token_ids"])
        starts = [len(x.prompt) for x in examples]
        return [
            row[start : start + max_new_tokens].tolist()
            for row, start in zip(out, starts, strict=True)
        ]

    def _loss(self, variables: Any, examples: Sequence[Example]) -> Any:
        inputs = self._inputs(examples)
        fixed = [x.value for x in self._model.non_trainable_variables]
        with jax.default_matmul_precision("highest"):
            logits, _ = self._model.stateless_call(variables, fixed, inputs)
        # A preprocessor leaves the last input out, which has no target.
        targets, weights = inputs["token_ids"][:, 1:], inputs["response_mask"][:, 1:]
        return self._model.compute_loss(
            x=None, y=targets, y_pred=logits[:, :-1], sample_weight=weights
        )

    def _inputs(self, examples: Sequence[Example], length: int | None = None) -> dict[str, Any]:
        length = length or max(len(x.prompt) + len(x.answer) for x in examples)

        def rows(values):
            return np.array([(value + [0] * length)[:length] for value in values], np.int32)

        return {
            "images": np.stack([x.pixels for x in examples]),
            "token_ids": rows([*x.prompt, *x.answer] for x in examples),
            "padding_mask": rows([1] * (len(x.prompt) + len(x.answer)) for x in examples),
            "response_mask": rows([0] * len(x.prompt) + [1] * len(x.answer) for x in examples),
        }

    def _places(self, name: str) -> Iterator[tuple[tuple[int, ...], Any]]:
        """The variables that hold a parameter, and the index of each in it."""
        encoder = self._backbone.vit_encoder
        roots = {"img": encoder.get_layer("image_encoder"), "llm": self._backbone}
        roots["head"] = encoder.get_layer("image_classifier")
        for start, table, root, layers in (
            ("img/Transformer/encoderblock/", _IMG_LAYER, "img", _TOWER),
            ("llm/layers/", _LLM_LAYER, "llm", _BLOCK),
        ):
            if name.startswith(start):
                paths = table[name.removeprefix(start)]
                for i, layer in enumerate(getattr(roots[root], layers)):
                    for j, path in enumerate(paths):
                        index = (i, j) if len(paths) > 1 else (i,)
                        yield index, operator.attrgetter(path)(layer)
                return
        root, _, path = _PLACES[name][0].partition(".")
        yield (), operator.attrgetter(path)(roots[root])
