"""The web page to ask checkpoints about images: its layout, and what its controls do."""

import pathlib
from collections.abc import Sequence
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
from gradio.themes import Soft  # pyright: ignore[reportMissingImports]
from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]

from pgjax.access import known_names
from pgjax.benchmarks.readers.coco35l import LANGUAGES
from pgjax.demo.handlers import NAMES, NONE, Page
from pgjax.demo.page_guard import PageGuard
from pgjax.demo.questions import MOST_SEED, MOST_TOKENS, SAMPLERS
from pgjax.demo.tasks import tasks_of
from pgjax.inference.sent_images import MOST_BYTES

WAITING = 128  # questions in the queue; further ones are refused
# On a phone the answers are below the controls.
_SHOW_ANSWERS = (
    "() => { if (innerWidth < 720) document.getElementById('answers').scrollIntoView() }"
)
_CSS = pathlib.Path(__file__).parent / "page.css"
_KEEP = 1800  # seconds for which a visitor's answer can be shown with another threshold


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
                with gr.Row(visible=len(checkpoints) > 1):
                    checkpoint = gr.Dropdown(
                        list(checkpoints), value=first, label="checkpoint", min_width=150,
                        elem_id="checkpoint",
                    )  # fmt: skip
                    second = gr.Dropdown(
                        [NONE, *checkpoints], value=NONE, label="side by side with",
                        min_width=150, elem_id="second",
                    )  # fmt: skip
                task = gr.Radio(
                    [(NAMES[name], name) for name in tasks], value=task_name, label="task",
                    elem_id="task",
                )  # fmt: skip
                with gr.Row():
                    text = gr.Textbox(
                        label="about what", info=chosen.hint, visible=bool(chosen.hint),
                        elem_id="text", scale=3, min_width=200,
                    )  # fmt: skip
                    language = gr.Dropdown(
                        list(LANGUAGES), value="en", label="language",
                        visible=chosen.has_language, scale=1, min_width=90,
                    )  # fmt: skip
                prompt = gr.Textbox(
                    chosen.prompt("", "en"), label="prompt, as the checkpoint reads it",
                    elem_id="prompt",
                )  # fmt: skip
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                with gr.Accordion("Options", open=False):
                    sampler = gr.Dropdown(SAMPLERS, value="greedy", label="sampler")
                    length = gr.Slider(
                        0, MOST_TOKENS, 0, step=1, label="longest answer, in tokens",
                        info="0: 64, and room for ten objects",
                    )  # fmt: skip
                    seed = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label="seed")
                    orient = gr.Checkbox(
                        False, label="turn pictures as their EXIF orientation says",
                        info="otherwise they are read as they are stored, as in training",
                    )  # fmt: skip
            with gr.Column(scale=7, min_width=340, elem_id="answers"):
                threshold = gr.Slider(
                    0, 100, 0, step=1, label="hide objects with a score below (%)",
                    visible=False, elem_id="threshold",
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
        # What is sent is checked by the page itself, instead of by Gradio.
        own: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
        own["show_progress"] = "hidden"
        one_by_one = {"preprocess": False, "concurrency_limit": 1, "concurrency_id": "models"}
        answering = {
            "fn": page.show_answers,
            "inputs": [checkpoint, second, threshold, *asked],
            "outputs": [results, *shown],
            **one_by_one,
            "api_visibility": "private",
            "show_progress_on": [ask],
        }
        asks = [ask.click, prompt.submit, text.submit]
        gr.on(asks, **answering)
        gr.on([*asks, gallery.select], js=_SHOW_ANSWERS)
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


def _theme() -> Soft:
    """Fonts of the visitor's system, so that nothing is loaded from elsewhere; plain labels."""
    theme = Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    theme.set(
        block_title_background_fill="transparent",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_label_text_color="*body_text_color",
        block_label_background_fill="*block_background_fill",
    )
    return theme


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
    guard = Middleware(PageGuard, names=known_names(host, names), command="pgjax demo")
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
