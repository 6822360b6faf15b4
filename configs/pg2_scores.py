"""PaliGemma 2 on the benchmarks of its paper's table, from runs of one's own.

    pgjax evaluate --benchmarks pg2_scores:runs=runs/pg2

No checkpoint of these transfers is released, so each is a run directory, `RUNS/NAME`, of
`pgjax train --config NAME:variant=pg2-3b --workdir RUNS/NAME`.

Arguments, as in `pg2_scores:variant=pg2-10b,res=448`:
    variant   size of the model: pg2-3b, pg2-10b or pg2-28b
    res       image size: 224 or 448; videos are at 224 only, and tasks that are new in the paper
              at the size of their published score, text spotting at 896
    runs      folder of the run directories; left out: the pretrained checkpoint for each
"""

from pgjax.recipes import parse_arg

# A benchmark -> the transfer whose run is evaluated on it.
TABLE = {
    "ai2d": "", "aokvqa_da": "", "aokvqa_mc": "", "chartqa": "", "coco35l": "", "cococap": "",
    "countbenchqa": "tallyqa", "docvqa": "", "gqa": "", "infovqa": "", "marvl": "nlvr2",
    "nlvr2": "", "nocaps": "cococap", "ocrvqa": "", "okvqa": "", "refcoco_seg": "", "rsvqa_hr": "",
    "rsvqa_lr": "", "scicap": "", "science_qa": "", "screen2words": "", "stvqa": "", "tallyqa": "",
    "textcaps": "", "textvqa": "", "vizwizvqa": "", "vqav2": "", "widgetcap": "", "xgqa": "gqa",
    "xm3600": "coco35l",
}  # fmt: skip
VIDEOS = (
    "activitynet_cap", "activitynet_qa", "msrvtt_cap", "msrvtt_qa", "msvd_qa", "vatex_cap",
)  # fmt: skip

# A task that is new in the paper -> the image size of its published score.
NEW = {
    "docci": 448, "grandstaff": 896, "molecules": 448, "text_spotting": 896, "vsr_random": 224,
    "vsr_zeroshot": 224,
}  # fmt: skip


def get_config(arg=None):
    """Names the configs to evaluate, as `--benchmarks` takes them."""
    arg = parse_arg(arg, variant="pg2-3b", res=224, runs="")
    table = {name: "" for name, res in NEW.items() if res == arg.res}
    if arg.res != 896:
        table |= TABLE
    if arg.res == 224 and arg.variant != "pg2-28b":
        table |= dict.fromkeys(VIDEOS, "")
    return tuple(
        f"{name}:variant={arg.variant},res={arg.res}"
        + (f",init={arg.runs}/{tuned or name}" if arg.runs else "")
        for name, tuned in table.items()
    )
