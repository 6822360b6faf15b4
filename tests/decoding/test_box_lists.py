"""Lists of a given number of boxes, from logits that would rather have anything else."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.decoding.decoders import make_decoder
from pgjax.decoding.generate import plain_rules
from pgjax.errors import UserError
from pgjax.inference.generation import box_list
from pgjax.text.locations import parse_boxes
from pgjax.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.tiny()
VOCAB, ROWS, LENGTH = TOKENIZER.vocab_size, 6, 90
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def compiled(sampler, number):
    decode = make_decoder(sampler)
    boxes = box_list(TOKENIZER, number, np.ones(VOCAB, bool))

    @quick_jit
    def run(table, liked):
        """A chain whose logits depend on the last token; `liked` tokens are always likeliest."""
        rules = plain_rules(ROWS, VOCAB, limit=LENGTH, eos_id=1)._replace(boxes=boxes)

        def logits(token):
            return jnp.where(liked[None], 50.0, table[token % len(table)])

        return decode(
            lambda: (logits(jnp.arange(ROWS)), jnp.int32(0)),
            lambda token, cache: (logits(token), cache),
            lambda cache, rows: cache,
            rules,
            max_new_tokens=LENGTH,
        )

    return run


def rows_of(sampler, number, seed, liked):
    table = np.random.default_rng(seed).normal(0, 3, (13, VOCAB)).astype(np.float32)
    table[:, TOKENIZER.encode(" ; ")[0]] += 20  # labels end, in time
    table[:, 1] += 24
    mask = np.zeros(VOCAB, bool)
    mask[liked] = True
    tokens = np.asarray(compiled(sampler, number)(table, mask).tokens)
    return [np.trim_zeros(row, "b").tolist() for row in tokens]


@pytest.mark.parametrize("sampler", ["greedy", "temperature(1)", "beam(2)"])
@pytest.mark.parametrize("number", [1, 4])
def test_so_many_boxes_come_and_neither_noise_nor_the_end_before(sampler, number):
    noise, end = TOKENIZER.unk_id, TOKENIZER.eos_id
    forbidden = [noise, end, TOKENIZER.pad_id, TOKENIZER.bos_id, *TOKENIZER.newline_ids]
    box = r"(<loc\d{4}>){4}[^<>;\n]*[^<>;\n ][^<>;\n]*"
    for seed, liked in enumerate([forbidden, [noise, end], []]):
        for ids in rows_of(sampler, number, seed, liked):
            assert ids[-1] == end and end not in ids[:-1] and noise not in ids
            text = TOKENIZER.decode(ids)
            assert re.fullmatch(rf"{box}( ; {box}){{{number - 1}}}", text), text
            assert len(parse_boxes(text)) == number


def test_labels_take_what_is_allowed():
    allowed = np.zeros(VOCAB, bool)
    allowed[TOKENIZER.encode(" red square")] = True
    kinds = np.asarray(box_list(TOKENIZER, 2, allowed).kinds)
    labels = [TOKENIZER.text_of(int(i)) for i in np.flatnonzero(kinds == 2)]
    assert labels == [" red", " square"] or set(labels) == {" red", " square"}
    with pytest.raises(UserError, match="leave no token for labels"):
        box_list(TOKENIZER, 2, np.zeros(VOCAB, bool))
