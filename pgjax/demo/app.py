"""The web page to ask checkpoints about images: its layout, and what its controls do."""

import contextlib
import functools
import pathlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]

from pgjax.benchmarks.readers.coco35l import LANGUAGES
from pgjax.checkpoints import released
from pgjax.demo.access import OwnPagesOnly, known_names
from pgjax.demo.answering import Models, Result
from pgjax.demo.examples import examples_of
from pgjax.demo.questions import (
    MOST_BYTES,
    MOST_SEED,
    MOST_TOKENS,
    SAMPLERS,
    choice,
    read_question,
)
from pgjax.demo.rendering import answer_html, head_html
from pgjax.demo.tasks import OWN, read_prompt, tasks_of, translate
from pgjax.errors import UserError
from pgjax.inference.mask_rle import encode_mask

WAITING = 128  # questions in the queue; further ones are refused
_NONE = "(none)"  # instead of a second checkpoint
_SHOWN_SIDE = 1024  # pixels of the longer side of a picture with boxes, at most
_SMALL_SIDE = 640  # smaller ones are enlarged by whole numbers, up to this
_CSS = pathlib.Path(__file__).parent / "page.css"
_KEEP = 1800  # seconds for which a visitor's answer can be shown with another threshold
_NAMES = {"caption": "Caption", "question": "Question", "detect": "Detect", "segment": "Segment"}
_NAMES |= {"read": "Read text", OWN: "Own prompt"}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns errors into what the page shows: one sentence, without Python's own words."""
    try:
        yield
    except UserError as e:
        raise gr.Error(str(e), duration=None, print_exception=False) from None
    except Exception:
        traceback.print_exc()
        raise gr.Error(
            "This failed for an unexpected reason; the terminal of pgjax demo shows the traceback.",
            duration=None,
            print_exception=False,
        ) from None


class Page:
    """What the controls of the page do; arguments are what a browser or a program has sent."""

    def __init__(
        self, checkpoints: Sequence[str], quantize: str | None, folder: pathlib.Path
    ) -> None:
        """Loads nothing yet.

        Args:
          checkpoints: what can be asked.
          quantize: int8, int4 or nf4, for the decoder's matrices; None to leave them.
          folder: for pictures of examples; uploads lie in its folder `uploads`.
        """
        self.checkpoints = list(checkpoints)
        self._models = Models(quantize)
        self._folder = folder
        self.examples = functools.cache(lambda name: examples_of(name, folder / "examples"))

    def _checkpoint(self, name: Any) -> str:
        return choice("checkpoint", name, self.checkpoints)

    def choose_checkpoint(self, checkpoint: Any, task: Any, text: Any, language: Any) -> list[Any]:
        """Offers the tasks and examples of a checkpoint, and writes the prompt anew."""
        with _explained():
            tasks = tasks_of(self._checkpoint(checkpoint))
            task = task if task in tasks else next(iter(tasks))
            gallery = gr.update(value=self.examples(checkpoint))
            return [*self.choose_task(checkpoint, task, text, language), gallery]

    def choose_task(self, checkpoint: Any, task: Any, text: Any, language: Any) -> list[Any]:
        """Shows the controls of a task, and writes its prompt."""
        with _explained():
            tasks = tasks_of(self._checkpoint(checkpoint))
            chosen = tasks[choice("task", task, list(tasks))]
            return [
                gr.update(choices=[(_NAMES[name], name) for name in tasks], value=task),
                gr.update(visible=bool(chosen.hint) and task != OWN, info=chosen.hint),
                gr.update(visible=chosen.has_language),
                self.write_prompt(checkpoint, task, text, language),
            ]

    def write_prompt(self, checkpoint: Any, task: Any, text: Any, language: Any) -> Any:
        """Writes the prompt of a task in the checkpoint's own language."""
        with _explained():
            tasks = tasks_of(self._checkpoint(checkpoint))
            if choice("task", task, list(tasks)) == OWN:
                return gr.update()
            if not isinstance(text, str) or not isinstance(language, str):
                raise UserError("text and language are not text.")
            return tasks[task].prompt(text, language)

    def choose_example(self, checkpoint: Any, chosen: gr.SelectData) -> list[Any]:
        """Fills in an example's picture and prompt."""
        with _explained():
            picture, prompt = self.examples(self._checkpoint(checkpoint))[chosen.index]
            task, text, language = read_prompt(checkpoint, prompt)
            controls = self.choose_task(checkpoint, task, text, language or "en")
            return [picture, text, language or "en", *controls[:-1], prompt]

    def ask(self, checkpoint: Any, second: Any, threshold: Any, *asked: Any) -> Iterator[list[Any]]:
        """Asks one checkpoint or two, and shows what is known so far.

        Args:
          checkpoint: which of them.
          second: another one, or `(none)`.
          threshold: the least score of objects that are shown, in percent.
          *asked: image, prompt, sampler, length, seed and orient, see `read_question`.

        Yields:
          Values of the outputs: the results for `show`, then as `show` returns.
        """
        with _explained():
            names = [self._checkpoint(checkpoint)]
            if second != _NONE:
                names.append(self._checkpoint(second))
            results: list[Result | None] = [None, None]
            for i, name in enumerate(names):
                image, prompt, *options = asked
                if i and isinstance(prompt, str):
                    prompt = translate(prompt, names[0], name)
                for result in self._models.ask(
                    name, self._question(image, prompt, *options), beside=names
                ):
                    results[i] = result
                    yield [results, *self.show(results, threshold)]

    def _question(self, *asked: Any) -> Any:
        return read_question(*asked, uploads=self._folder / "uploads")

    def show(self, results: Sequence[Result | None] | None, threshold: Any) -> list[Any]:
        """Shows results with the objects above a threshold.

        Returns:
          Updates of the slider of the threshold, and of a panel's column, heading, picture, answer
          and raw text, for each of two panels.
        """
        with _explained():
            if not isinstance(threshold, int | float) or not results:
                raise UserError("The answer is not kept any more; ask again.")
            updates = [gr.update(visible=any(r and r.found for r in results))]
            for result in results:
                updates += _panel(result and result.above(threshold / 100))
            return updates

    def answer(self, checkpoint: Any, *asked: Any) -> dict[str, Any]:
        """What programs call: an answer as JSON, with the objects that it names."""
        with _explained():
            question = self._question(*asked)
            *_, result = self._models.ask(self._checkpoint(checkpoint), question)
            assert result.answer is not None and result.found is not None
            records = result.found.to_records()
            for record, found in zip(records, result.found, strict=True):
                if found.mask is not None:
                    record["segmentation"] = encode_mask(found.mask)
            return {
                "text": result.text,
                "ended": result.answer.ended,
                "logprob": round(result.answer.logprob, 4),
                "objects": records,
            }


def _panel(result: Result | None) -> list[Any]:
    if result is None:
        return [gr.update(visible=False), *[gr.update()] * 4]
    picture = gr.update(value=None, visible=False)
    if result.found:
        longest = max(result.found.size)
        scale = _SHOWN_SIDE / longest if longest > _SHOWN_SIDE else max(1, _SMALL_SIDE // longest)
        drawn = result.found.draw(scale=scale, colors=result.colors)
        picture = gr.update(value=drawn, visible=True)
    return [
        gr.update(visible=True),
        head_html(result.checkpoint, about(result.checkpoint)),
        picture,
        answer_html(result),
        result.text,
    ]


def about(checkpoint: str) -> str:
    """What a checkpoint is for; "" where its name does not say."""
    if checkpoint == "tiny":
        return "knows drawn shapes only"
    release = released.get(pathlib.PurePath(checkpoint).name.removesuffix(".npz"))
    return release.use if release else ""


def _as_sent(component: Any) -> Any:
    """Leaves what is sent to the page's own checks, instead of Gradio's."""
    component.preprocess = lambda payload: payload
    return component


def build(checkpoints: Sequence[str], quantize: str | None, folder: pathlib.Path) -> gr.Blocks:
    """Makes the page.

    Args:
      checkpoints: what can be chosen, the first to begin with.
      quantize: as for `Page`.
      folder: as for `Page`.
    """
    page = Page(checkpoints, quantize, folder)
    first = checkpoints[0]
    tasks = tasks_of(first)
    task_name, chosen = next(iter(tasks.items()))
    with gr.Blocks(
        title="pgjax", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as blocks:
        gr.HTML(
            "<h1>PaliGemma in JAX</h1><p>Drop a picture, choose a task, and ask.</p>",
            elem_classes="pg-title",
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=340):
                image = gr.Image(
                    label="picture", type="filepath", sources=["upload", "clipboard"], height=290,
                    elem_id="image", buttons=[],
                )  # fmt: skip
                image.preprocess = lambda payload: payload and payload.path
                with gr.Row(visible=len(checkpoints) > 1):
                    checkpoint = _as_sent(
                        gr.Dropdown(
                            list(checkpoints), value=first, label="checkpoint", min_width=150,
                            elem_id="checkpoint",
                        )
                    )  # fmt: skip
                    second = _as_sent(
                        gr.Dropdown(
                            [_NONE, *checkpoints], value=_NONE, label="side by side with",
                            min_width=150, elem_id="second",
                        )
                    )  # fmt: skip
                task = _as_sent(
                    gr.Radio(
                        [(_NAMES[name], name) for name in tasks], value=task_name, label="task",
                        elem_id="task",
                    )
                )  # fmt: skip
                with gr.Row():
                    text = _as_sent(
                        gr.Textbox(
                            label="about what", info=chosen.hint, visible=bool(chosen.hint),
                            elem_id="text", scale=3, min_width=200,
                        )
                    )  # fmt: skip
                    language = _as_sent(
                        gr.Dropdown(
                            list(LANGUAGES), value="en", label="language",
                            visible=chosen.has_language, scale=1, min_width=90,
                        )
                    )  # fmt: skip
                prompt = _as_sent(
                    gr.Textbox(
                        chosen.prompt("", "en"), label="prompt, as the checkpoint reads it",
                        elem_id="prompt",
                    )
                )  # fmt: skip
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                with gr.Accordion("Options", open=False):
                    sampler = _as_sent(gr.Dropdown(SAMPLERS, value="greedy", label="sampler"))
                    length = _as_sent(
                        gr.Slider(
                            0, MOST_TOKENS, 0, step=1, label="longest answer, in tokens",
                            info="0: 64, and room for ten objects",
                        )
                    )  # fmt: skip
                    seed = _as_sent(
                        gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label="seed")
                    )
                    orient = _as_sent(
                        gr.Checkbox(
                            False, label="turn pictures as their EXIF orientation says",
                            info="otherwise they are read as they are stored, as in training",
                        )
                    )  # fmt: skip
            with gr.Column(scale=7, min_width=340):
                threshold = _as_sent(
                    gr.Slider(
                        0, 100, 0, step=1, label="hide objects with a score below (%)",
                        visible=False, elem_id="threshold",
                    )
                )  # fmt: skip
                with gr.Row():
                    panels = [_build_panel(i) for i in range(2)]
                gr.HTML("Examples: click one to ask it.", elem_classes="pg-asked")
                gallery = gr.Gallery(
                    page.examples(first), show_label=False, columns=3, allow_preview=False,
                    object_fit="cover", height="auto", elem_id="examples", buttons=[],
                )  # fmt: skip
        results = gr.State(time_to_live=_KEEP)

        shown = [threshold, *panels[0], *panels[1]]
        asked = [image, prompt, sampler, length, seed, orient]
        described = [checkpoint, task, text, language]
        controls = [task, text, language, prompt]
        own: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        one_by_one = {"concurrency_limit": 1, "concurrency_id": "models"}
        answering = {
            "fn": page.ask,
            "inputs": [checkpoint, second, threshold, *asked],
            "outputs": [results, *shown],
            **one_by_one,
            "api_visibility": "private",
            "show_progress_on": [ask],
        }
        gr.on([ask.click, prompt.submit, text.submit], **answering)
        checkpoint.input(page.choose_checkpoint, described, [*controls, gallery], **own)
        task.input(page.choose_task, described, controls, **own)
        gr.on([text.input, language.input], page.write_prompt, described, prompt, **own)
        gallery.select(
            page.choose_example, checkpoint, [image, text, language, *controls], **own
        ).then(**answering)
        threshold.release(page.show, [results, threshold], shown, **own)
        gr.Button(visible=False).click(
            page.answer, [checkpoint, *asked], gr.JSON(visible=False), api_name="ask", **one_by_one
        )
    return blocks.queue(max_size=WAITING, default_concurrency_limit=4)


def _build_panel(index: int) -> list[Any]:
    """The column of a checkpoint's answers, and what is in it, in the order of `_panel`."""
    with gr.Column(visible=False, min_width=320, elem_id=f"panel{index}") as column:
        head = gr.HTML()
        picture = gr.Image(
            label="what it found", format="webp", visible=False, interactive=False,
            elem_id=f"picture{index}", show_label=False, buttons=["download", "fullscreen"],
        )  # fmt: skip
        answer = gr.HTML(elem_id=f"answer{index}")
        with gr.Accordion("What the model wrote", open=False, elem_id=f"written{index}"):
            raw = gr.Textbox(show_label=False, lines=2, interactive=False, elem_id=f"raw{index}")
    return [column, head, picture, answer, raw]


def _theme() -> gr.Theme:
    """Fonts of the visitor's system, so that nothing is loaded from elsewhere; plain labels."""
    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return theme.set(
        block_title_background_fill="transparent",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_label_text_color="*body_text_color",
        block_label_background_fill="*block_background_fill",
    )


def serve(
    checkpoints: Sequence[str],
    quantize: str | None,
    host: str,
    port: int,
    names: Sequence[str],
    folder: pathlib.Path,
) -> None:
    """Serves the page until it is interrupted.

    Args:
      checkpoints: what can be chosen on the page, the first to begin with.
      quantize: int8, int4 or nf4, for the decoder's matrices; None to leave them.
      host: the address to listen on; 0.0.0.0 is open to the network.
      port: of that address.
      names: under which the page may be opened beside those of this machine, such as a proxy's.
      folder: for files, which only this user can read.
    """
    guard = Middleware(OwnPagesOnly, names=known_names(host, names))
    build(checkpoints, quantize, folder).launch(
        server_name=host,
        server_port=port,
        max_file_size=MOST_BYTES,
        allowed_paths=[str(folder / "examples")],
        show_error=False,
        state_session_capacity=64,
        app_kwargs={"middleware": [guard]},
        css=_CSS.read_text(),
        theme=_theme(),
        footer_links=["api"],
    )
