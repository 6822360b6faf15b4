"""A web page to ask a checkpoint about images; answers are streamed, boxes and masks drawn."""

import functools
import pathlib
import tempfile
import threading
from collections.abc import Iterator

import gradio as gr  # pyright: ignore[reportMissingImports]
import numpy as np
from PIL import Image

from pgjax.data.decode import decode_image
from pgjax.data.scenes import SceneSource
from pgjax.errors import UserError
from pgjax.inference.load import load

MOST_CHARACTERS = 1000  # of a prompt
MOST_PIXELS = 50_000_000  # of an image
MOST_BYTES = 20_000_000  # of an image file
WAITING = 128  # requests in the queue; further ones are refused
SAMPLERS = ("greedy", "temperature(0.7)", "top_k(40)", "nucleus(0.9)", "beam(4)", "best_of(4)")


def upload_field() -> gr.Image:
    """Makes an image field that passes on the uploaded file, so that pgjax decodes it."""
    field = gr.Image(label="image", type="filepath", sources=["upload", "clipboard"])
    field.preprocess = lambda payload: payload and payload.path
    return field


def read_image(path: str | None) -> np.ndarray:
    """Decodes an upload to uint8 [H,W,3].

    Raises:
      UserError: there is none, or it is too large or not an image.
    """
    if path is None:
        raise UserError("There is no image yet: drop one, or click an example.")
    size = pathlib.Path(path).stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"The file has {size / 1e6:.0f} MB, at most {MOST_BYTES / 1e6:.0f} MB go.")
    return decode_image(pathlib.Path(path).read_bytes(), orient=True, max_pixels=MOST_PIXELS)


class Page:
    """The models behind the page; one is in memory at a time."""

    def __init__(self, quantize: str | None):
        """Loads nothing yet.

        Args:
          quantize: int8, int4 or nf4, for the decoder's matrices; None to leave them.
        """
        self._lock = threading.Lock()
        self._open = functools.lru_cache(maxsize=1)(lambda name: load(name, quantize=quantize))

    def ask(
        self, checkpoint: str, path: str | None, prompt: str, sampler: str, length: int, seed: int
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Answers one prompt; yields the text so far, and the image with what it found drawn in.

        Args:
          checkpoint: name or path of the checkpoint; it is loaded unless it is in memory.
          path: file of the uploaded image; None where there is none.
          prompt: the prompt.
          sampler: how tokens are chosen, such as `greedy`.
          length: length of the longest answer, in tokens.
          seed: seed of the sampler.

        Raises:
          gradio.Error: what was asked cannot be answered; the page shows the message.
        """
        try:
            image = read_image(path)
            if len(prompt) > MOST_CHARACTERS:
                raise UserError(
                    f"The prompt has {len(prompt):,} characters, at most {MOST_CHARACTERS:,} go."
                )
            with self._lock:
                yield from self._answer(checkpoint, image, prompt, sampler, int(length), int(seed))
        except UserError as e:
            raise gr.Error(str(e), duration=None) from None

    def _answer(self, checkpoint, image, prompt, sampler, length, seed):
        model = self._open(checkpoint)
        options = {"max_new_tokens": length, "sampler": sampler, "seed": seed}
        if sampler.startswith(("beam", "best_of")) or prompt.startswith(("detect", "segment")):
            # A search has no answer before it ends, and a box needs its last token to be drawn.
            answer = model.generate(image, prompt, return_answers=True, **options)
            masks = prompt.startswith("segment")
            found = model.read_detections(answer, image.shape[:2], masks=masks)
            yield answer.text or "(no answer)", np.asarray(found.draw(image))
            return
        text = ""
        for piece in model.stream(image, prompt, **options):
            text += piece
            yield text, image
        yield text or "(no answer)", image


def examples(folder: pathlib.Path) -> list[list[str]]:
    """Draws scenes with prompts that the tiny model knows, for rows of [file, prompt]."""
    rows = []
    tasks = ("caption", "detect", "count", "color")
    scenes = SceneSource(split="demo", tasks=tasks, max_shapes=2, wording="pt")
    for i in range(len(tasks)):
        example = scenes[i]
        path = folder / f"scene_{i}.png"
        picture = Image.fromarray(example["image"])
        picture.resize((256, 256), Image.Resampling.NEAREST).save(path)
        rows.append([str(path), example["prefix"]])
    return rows


def build(checkpoints: list[str], quantize: str | None, folder: pathlib.Path) -> gr.Blocks:
    """Makes the page.

    Args:
      checkpoints: what can be chosen, the first to begin with.
      quantize: as for `Page`.
      folder: folder for the images of examples.
    """
    page = Page(quantize)
    with gr.Blocks(title="pgjax", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# PaliGemma in JAX\nDrop an image and ask: `caption en`, `answer en what is this?`, "
            "`detect bee`, `segment bee`."
        )
        with gr.Row():
            with gr.Column():
                image = upload_field()
                prompt = gr.Textbox(label="prompt", value="caption en", elem_id="prompt")
                ask = gr.Button("ask", variant="primary", elem_id="ask")
                checkpoint = gr.Dropdown(checkpoints, value=checkpoints[0], label="checkpoint")
                sampler = gr.Dropdown(SAMPLERS, value="greedy", label="sampler")
                length = gr.Slider(1, 256, 64, step=1, label="longest answer, in tokens")
                seed = gr.Number(0, precision=0, label="seed")
            with gr.Column():
                answer = gr.Textbox(label="answer", elem_id="answer")
                picture = gr.Image(label="what it found", elem_id="picture", format="png")
        inputs = [checkpoint, image, prompt, sampler, length, seed]
        gr.on(
            [ask.click, prompt.submit], page.ask, inputs, [answer, picture],
            concurrency_limit=1, api_name="ask",
        )  # fmt: skip
        if "tiny" in checkpoints:
            gr.Examples(examples(folder), [image, prompt], label="examples for the tiny model")
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1)


def serve(checkpoints: list[str], quantize: str | None, host: str, port: int) -> None:
    """Serves the page until it is interrupted.

    Args:
      checkpoints: what can be chosen on the page, the first to begin with.
      quantize: int8, int4 or nf4, for the decoder's matrices; None to leave them.
      host: the address to listen on; 0.0.0.0 is open to the network.
      port: of that address.
    """
    with tempfile.TemporaryDirectory() as temporary:
        build(checkpoints, quantize, pathlib.Path(temporary)).launch(
            server_name=host,
            server_port=port,
            max_file_size=MOST_BYTES,
            allowed_paths=[temporary],
            show_error=True,
        )
