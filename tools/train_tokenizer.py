"""Trains the tiny tokenizer that ships with pgjax, 512 pieces in the layout of Gemma's 256,000.

    python tools/train_tokenizer.py pgjax/text/tiny_tokenizer.model

All training text is in this file, so the output depends only on this file and on the version of
sentencepiece. Location and segmentation tokens are appended when the model is loaded (see
`pgjax.text.tokenizer`).
"""

import argparse
import io
import pathlib
import random

import sentencepiece

WORDS = {
    "color": "red green blue yellow purple orange white black gray cyan pink brown",
    "shape": "circle square triangle star diamond cross ring heart",
    "size": "small medium large",
    "place": "left right top bottom center",
    "count": "one two three four five six seven eight nine ten",
    "digit": "0 1 2 3 4 5 6 7 8 9",
}

CAPTIONS = [
    "a {size} {color} {shape} on a {color2} background",
    "a {color} {shape} and a {color2} {shape2}",
    "{count} {color} {shape}s",
    "a {size} {shape} at the {place}, and {count} {color} {shape2}s above it",
]
QUESTIONS = [
    "answer en what color is the {size} {shape}?\n{color}",
    "answer en how many {color} {shape}s are there?\n{digit}",
    "answer en how many shapes are there in the image?\n{count}",
    "answer en what shape is at the {place}?\n{shape}",
    "answer en is there a {color} {shape} to the {place} of the {shape2}?\nyes",
    "answer en is the {shape} {color}?\nno",
]
TASKS = [
    "caption en\na {color} {shape}",
    "detect {color} {shape} ; {color2} {shape2}",
    "segment the {color} {shape} on the {place}",
    "ocr\n{digit}{digit2} {count}",
]
ENGLISH = """\
The quick brown fox jumps over the lazy dog, and the dog does not seem to mind at all.
There are many ways to describe an image; a good caption says what matters and nothing else.
She asked: "Why is the sky blue?" He didn't know, but he wasn't going to say so.
A man and a woman are walking along the street with their children in the afternoon.
People were standing in front of the building, waiting for the train to the city.
Two cats are sitting on a wooden table next to a window, looking at the birds outside.
This model reads pictures and text (both at once) and writes an answer, token by token.
When training ends, compare the results with those that were published before it started.
What is written on the sign? It says: "No parking between 9:30 and 17:45 - $60 fine!"
In 2024, about 85% of the 1,370 questions were answered correctly; 206 of them were not.
You can find more information under the heading 'Examples', or ask for help & support.
Of all the things that could have been said, this was the one which everyone remembered.
Just be sure to keep your hands where I can see them; every move counts in this game.
Our house has a very large garden, a kitchen, four rooms, and an old zinc roof.
"""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz 0123456789 .,;:!?'\"()-/%$&+="


def corpus(seed: int = 0) -> list[str]:
    """Returns the sentences to train on, without line breaks, as SentencePiece expects them."""
    rng = random.Random(seed)
    lines = ENGLISH.splitlines() * 3 + [LETTERS] * 4
    for template in (CAPTIONS + QUESTIONS + TASKS) * 100:
        drawn = {}
        for kind, words in WORDS.items():
            drawn[kind], drawn[kind + "2"] = rng.sample(words.split(), 2)
        lines += template.format(**drawn).split("\n")
    return lines


def train() -> bytes:
    """Trains a model with pad, eos, bos, unk = 0 … 3 and byte fallback, and serializes it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=512,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=[
            "<mask>",
            "<start_of_turn>",
            "<end_of_turn>",
            *("\n" * n for n in (1, 2, 3)),
            *("▁" * n for n in (2, 3, 4)),
            "<table>",
            "<h1>",
        ],
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def main() -> None:
    """Trains the tokenizer and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path, help="the tokenizer.model to write")
    parser.parse_args().out.write_bytes(train())


if __name__ == "__main__":
    main()
