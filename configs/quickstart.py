"""Tunes a tiny PaliGemma on drawn scenes, on a CPU, in a few minutes.

    pgjax train --config quickstart --workdir runs/quickstart

The run starts from the tiny checkpoint that comes with pgjax, which knows plain scenes and terse
prompts, and learns textured backgrounds and the prompts that PaliGemma uses. It ends with a table
of scores before and after, on scenes that it never saw, and with a picture of some answers.

Arguments, as in `quickstart:steps=40`:
    steps     length of the run, in updates
    scratch   start from random weights instead
"""

from pgjax.recipes import parse_arg, transfer


def get_config(arg=None):
    """Asks for captions, counts, colours and boxes in drawn scenes."""
    arg = parse_arg(arg, scratch=False, steps=1800)
    scenes = {"name": "scenes", "style": "rich", "wording": "quickstart", "max_shapes": 2}
    c = transfer(
        "quickstart",
        variant="tiny",
        train={**scenes, "split": "train", "num_examples": 1_000_000},
        evals={
            "test": {
                "kind": "answers",
                "data": {**scenes, "split": "test", "num_examples": 400},
                "metric": {"name": "by_task"},
                "batch_size": 100,
            }
        },
        prompt="",
        target="",
        text_len=26,
        steps=arg.steps,
        batch_size=16,
        lr=7e-4,
    )
    if arg.scratch:
        c.init = ""
    c.frozen_dtype = "float32"
    c.log_every = 100
    c.checkpoint_every = 500
    c.eval_first = True
    c.sample_sheet = "test"
    return c
