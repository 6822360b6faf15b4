"""Converts a random full-size checkpoint to a Hugging Face folder and back, bit for bit.

    python tools/roundtrip_3b.py [--folder DIR] [--dtypes float32 bfloat16 float16] [--live]

For each precision, `pgjax convert` turns a random PaliGemma-3B `.npz` into a folder and back, each
time in a process of its own, whose peak memory is printed. Then the bits of every tensor are
compared. This takes 3 × 11 GiB of disk in float32. With `--live`, transformers loads the folder,
offline: the logits of a prompt must agree to 5e-5, and `generate` must return the same text. The
real tokenizer requires a licence, so the folder gets one of the same size and layout, with made-up
words.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOLERANCE = 5e-5
PROMPT, TOKENS = "answer en what is this?", 8


def make(path: pathlib.Path, dtype: str) -> None:
    """Writes a random 3B checkpoint, whose layers all differ."""
    import flax.linen as nn

    from pgjax import trees
    from pgjax.checkpoints.hf_export import DTYPES
    from pgjax.checkpoints.npz import write_npz
    from pgjax.models.paligemma import abstract_params, make_model

    class Random:
        """A tensor whose rows are drawn as they are read."""

        def __init__(self, number: int, shape: tuple[int, ...]):
            self.number, self.shape, self.dtype = number, shape, np.dtype(DTYPES[dtype])

        def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
            rows = [self._row(i) for i in range(*slice(start, stop).indices(self.shape[0]))]
            return np.stack(rows)

        def _row(self, i: int) -> np.ndarray:
            rng = np.random.default_rng([self.number, i])
            row = rng.standard_normal(self.shape[1:], np.float32) * np.float32(0.02)
            return np.asarray(row).astype(self.dtype)

    model = make_model(
        {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": "gemma_2b"}}
    )
    flat = trees.flatten(nn.unbox(abstract_params(model)))
    write_npz(path, {name: Random(n, x.shape) for n, (name, x) in enumerate(flat.items())})


def make_tokenizer(path: pathlib.Path) -> None:
    """Writes the packaged tokenizer, extended to the 256,000 pieces that Gemma's has."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    from pgjax.text.tokenizer import SPECIAL, Tokenizer

    model = pb.ModelProto.FromString(Tokenizer.tiny().model_bytes)
    own = [piece for piece in model.pieces if piece.piece not in set(SPECIAL)]
    del model.pieces[:]
    model.pieces.extend(own)
    for i in range(256_000 - len(own)):
        model.pieces.add(piece=f"▁word{i:06d}", score=-1e4)
    path.write_bytes(Tokenizer(model.SerializeToString()).model_bytes)


def convert(*args: object) -> float:
    """Converts in a process of its own, and returns its peak memory in GiB."""
    code = (
        "import resource\nfrom pgjax.commands.main import main\n"
        f"try:\n    main({['convert', *map(str, args)]!r})\n"
        "except SystemExit as e:\n    assert not e.code, e\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def differences(first: pathlib.Path, second: pathlib.Path) -> list[str]:
    """Returns the names of tensors that differ in any bit, or that only one `.npz` has."""
    from pgjax.checkpoints.npz import open_npz

    a, b = open_npz(first), open_npz(second)
    found = sorted(a.keys() ^ b.keys())
    for name in sorted(a.keys() & b.keys()):
        x, y = a[name], b[name]
        same = x.shape == y.shape and x.dtype == y.dtype
        for i in range(x.shape[0] if same else 0):
            same = same and x.read(i, i + 1).tobytes() == y.read(i, i + 1).tobytes()
            if not same:
                break
        found += [] if same else [name]
    return found


def ask_pgjax(folder: pathlib.Path, npz: pathlib.Path) -> None:
    """Writes the logits [v] after the prompt, and the answer, to `pgjax.npz` in a folder."""
    import jax.numpy as jnp

    import pgjax
    from pgjax import trees
    from pgjax.inference.images import PromptedImages
    from pgjax.inference.preprocessing import PromptPreprocessor

    model = pgjax.load(npz)
    example = PromptPreprocessor(model.context)(
        PromptedImages([_image()], [PROMPT])[0], np.random.default_rng(0)
    )
    batch = [jnp.asarray(example[k][None]) for k in ("image", "text", "mask_ar", "mask_input")]
    options = {"max_new_tokens": 1, "cache_dtype": "float32", "method": "prefill"}
    logits, _ = model.context.model.apply(
        {"params": trees.unflatten(model.params)}, *batch, **options
    )
    text = model.generate(_image(), PROMPT, max_new_tokens=TOKENS)
    np.savez(folder / "pgjax.npz", logits=np.asarray(logits[0]), text=text)


def ask_transformers(folder: pathlib.Path, export: pathlib.Path) -> None:
    """Writes the same by transformers and its processor to `transformers.npz` in a folder."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(export)
    model = PaliGemmaForConditionalGeneration.from_pretrained(export, dtype=torch.float32).eval()
    inputs = processor(
        text=f"<image>{PROMPT}", images=Image.fromarray(_image()), return_tensors="pt"
    )
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1].numpy()
        out = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0, length:]
    text = processor.decode(out, skip_special_tokens=True)
    np.savez(folder / "transformers.npz", logits=logits, text=text)


def _image() -> np.ndarray:
    """Draws an image of the size that the model takes, so that it is not resized."""
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)


def live(folder: pathlib.Path, npz: pathlib.Path, export: pathlib.Path) -> bool:
    """Returns whether both agree; each of them runs in a process of its own."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    answers = {}
    for name, path in (("pgjax", npz), ("transformers", export)):
        command = [sys.executable, __file__, "--folder", str(folder), "--ask", name, str(path)]
        subprocess.run(command, env=env, check=True)
        answers[name] = np.load(folder / f"{name}.npz")
    ours, theirs = answers.values()
    count = len(ours["logits"])
    apart = float(np.abs(ours["logits"] - theirs["logits"][:count]).max())
    same = str(ours["text"]) == str(theirs["text"])
    print(
        f"transformers: largest difference of {count:,} logits {apart:.1e} (of up to "
        f"{np.abs(ours['logits']).max():.1f}); text {'the same' if same else 'DIFFERS'}: "
        f"{str(ours['text'])!r}",
        flush=True,
    )
    return same and apart <= TOLERANCE


def run(folder: pathlib.Path, dtypes: list[str], with_transformers: bool) -> bool:
    """Prints a line per precision, and returns whether everything agrees."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder / "paligemma_tokenizer.model")
    good = True
    for dtype in dtypes:
        first, export = folder / f"{dtype}.npz", folder / dtype
        back = folder / f"{dtype}_back.npz"
        make(first, dtype)
        there = convert(first, export)
        back_again = convert(export, back)
        found = differences(first, back)
        print(
            f"{dtype:<9} {first.stat().st_size / 2**30:5.2f} GiB: npz → folder (peak "
            f"{there:.1f} GiB) → npz (peak {back_again:.1f} GiB): "
            f"{'the same bits' if not found else f'DIFFERS in {found}'}",
            flush=True,
        )
        good = good and not found
        back.unlink()
        if with_transformers and dtype == "float32":
            good = live(folder, first, export) and good
        first.unlink()
        shutil.rmtree(export)
    return good


def main() -> int:
    """Runs all comparisons, and returns 0 if everything agrees, or 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=pathlib.Path, help="the folder for all files (default: a temporary one)"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        default=["float32", "bfloat16", "float16"],
        help="the precisions to convert",
    )
    parser.add_argument(
        "--live", action="store_true", help="compare with transformers as well, in float32"
    )
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ask:
        name, path = args.ask
        asks = {"pgjax": ask_pgjax, "transformers": ask_transformers}
        asks[name](args.folder, pathlib.Path(path))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        good = run(args.folder or pathlib.Path(temporary), args.dtypes, args.live)
    return 0 if good else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
