"""Fine-tunes PaliGemma on your own images.

To change more than the data, copy this file and edit the copy:

    pgjax train --copy_config forkme mine.py

Your data is a JSONL file, one line per example:

    {"image": "photos/0001.jpg", "suffix": "A cow stands on a beach."}

Image paths are relative to the JSONL file (or to `root`). Then:

    pgjax train --config forkme --workdir runs/mine --config.input.data.fname=mine.jsonl

Parquet files, data sets of Hugging Face on disk and WebDataset tars are read as they are, by
`forkme:source=parquet`; `config.input.data.suffix` and the like say which columns are what.

Arguments, as in `forkme:variant=tiny,steps=100`:
    source    jsonl, parquet, datasets or webdataset
    variant   3b; pg2-3b, pg2-10b or pg2-28b of PaliGemma 2; tiny: a toy model that comes with pgjax
              and trains on any CPU, or pg2-tiny: a random one of PaliGemma 2
    res       image size: 224, 448 or 896; 0: the variant's own
    mode      what is tuned: full, freeze_vit, freeze_llm, projector, attention (for a T4), lora,
              qlora (LoRA on a decoder in 4 bits)
    steps     length of the run in updates; 0: 15 passes over the data, or 50 with detection
    detection 0; or how many objects each target of boxes has, to tune a detector as the authors of
              PaliGemma 2 do: noise boxes fill up the targets, and answers list as many boxes, with
              the probabilities of their labels as scores
"""

from pgjax.recipes import parse_arg, transfer


def get_config(arg=None):
    """Captions by default: the prompt is `caption en`, the target each line's `suffix`."""
    arg = parse_arg(arg, source="jsonl", variant="3b", res=0, mode="", steps=0, detection=0)
    data = {"name": arg.source, "fname": "", "image": "image", "prefix": "", "suffix": ""}
    if arg.source != "webdataset":  # where images are named by paths
        data |= {"root": "", "allow_outside_root": False}
    # Lines are split in a random order, which is always the same; False keeps the file's order.
    data |= {"shuffle": True, "seed": 0}
    prompt = "detect all classes" if arg.detection else "caption en"
    metric = "mean_average_precision" if arg.detection else "exact_match"
    held_out = {**data, "split": "train[90%:]", "if_empty": "all"}

    c = transfer(
        "forkme",
        variant=arg.variant,
        res=arg.res,
        mode=arg.mode,
        # Where the examples come from. A tenth is kept for validation, or in a file of less than
        # five lines, nothing: validation then takes the lines that train.
        train={**data, "split": "train[:90%]"},
        evals={
            # Loss on held-out targets, to see overfitting.
            "val": {"kind": "perplexity", "data": held_out, "every": 100},
            # Answers to held-out prompts, stored under WORKDIR/predictions for you to read, and
            # scored by exact_match; `pgjax list metrics` shows the other metrics.
            "answers": {
                "kind": "answers",
                "metric": {"name": metric},
                "data": held_out,
                "every": 500,  # an answer may be as long as a target, `text_len`
            },
        },
        # The prompt: the line's own `prefix` if it has one, and else `caption en`.
        prompt=f"setdefault('prefix', {prompt!r})",
        # The target: "" takes the line's `suffix` as it is. If each line holds several references
        # in a list `captions`, "choice('captions', 'suffix')" draws one of them each time.
        target="",
        # Length of prompt and target together, in tokens. Longer ones are an error; "truncate"
        # cuts them and "drop" leaves them out, and either counts and reports them.
        text_len=32 + 9 * arg.detection if arg.detection else 128,
        objects=arg.detection,
        on_truncate="error",
        epochs=0 if arg.steps else 50 if arg.detection else 15,
        steps=arg.steps,
        batch_size=32,
        # The learning rate matters most; try 3e-6 to 3e-5 for 3b, 1e-6 to 1e-5 for pg2-3b, and
        # 3e-7 to 3e-6 for larger ones.
        lr={"3b": 1e-5, "pg2-3b": 3e-6, "pg2-10b": 1e-6, "pg2-28b": 1e-6}.get(arg.variant, 1e-3),
        weight_decay=3e-7,
    )
    # Evaluations follow the training data, so that one flag sets a key of all of them.
    for spec in c.evals.values():
        for key in data.keys() - {"name"}:
            spec.data[key] = c.input.data.get_ref(key)

    # Which parameters train if no mode is given: the first pattern that matches decides, False
    # freezes, and a number multiplies the learning rate. For instance:
    # c.trainable = (("img/.*", False), ("llm/embedder/.*", 0.1), (".*", True))
    c.checkpoint_every = 200
    return c
