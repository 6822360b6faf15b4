"""Checks of the tokenizer and of text arrays."""

import json
from collections.abc import Iterator

import numpy as np

from golden_checks.common import EXACT, Check, Golden
from pgjax.text.compose import answering_arrays, training_arrays
from pgjax.text.tokenizer import Tokenizer


def text(g: Golden) -> Iterator[Check]:
    """Counts differences of special tokens, text arrays and round trips."""
    spec = json.loads((g.folder / "text.json").read_text())
    for key in ("tokenizer", "extended_tokenizer"):
        tok = Tokenizer.from_file(g.folder / spec[key])
        ids = {
            "vocab_size": tok.vocab_size,
            "pad": tok.pad_id,
            "eos": tok.eos_id,
            "bos": tok.bos_id,
            "newline": list(tok.newline_ids),
            "loc0": [tok.loc_id(0)],
            "loc1023": [tok.loc_id(1023)],
            "seg0": [tok.seg_id(0)],
            "seg127": [tok.seg_id(127)],
            "pieces": [tok.piece(i) for i in range(tok.vocab_size)],
        }
        wrong = sum(ids[k] != spec[k] for k in ids)
        yield f"{key} ids", float(wrong), EXACT
        wrong = 0
        for case in spec["cases"]:
            length, prefix, suffix = case["text_len"], case["prefix"], case["suffix"]
            options = {"on_truncate": "truncate", "allow_unsupervised": True}
            got = {
                "train": training_arrays(tok, prefix, suffix, length, **options),
                "eval_nosuffix": answering_arrays(tok, prefix, length, on_truncate="truncate"),
                "eval_suffix": answering_arrays(
                    tok, prefix, length, suffix=suffix, on_truncate="truncate"
                ),
            }
            for name, arrays in got.items():
                wrong += any(np.asarray(arrays[k]).tolist() != v for k, v in case[name].items())
            wrong += tok.encode(prefix, bos=True) != case["prefix_ids"]
            wrong += tok.encode(suffix, eos=True) != case["suffix_ids"]
            wrong += tok.decode(case["train"]["text"]) != case["to_str_train_text"]
        yield f"{key} arrays", float(wrong), EXACT
        wrong = sum(tok.encode(c["text"]) != c["plain"] for c in spec["to_int"])
        wrong += sum(
            tok.encode(c["text"], bos=True, eos=True) != c["bos_eos"] for c in spec["to_int"]
        )
        wrong += sum(tok.decode(c["plain"]) != c["back"] for c in spec["to_int"])
        for case in spec["to_str"]:
            wrong += tok.decode(case["ids"]) != case["stop"]
            wrong += tok.decode(case["ids"], stop_at_eos=False) != case["nostop"]
        yield f"{key} round trips", float(wrong), EXACT
