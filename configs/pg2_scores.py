"""PaliGemma 2 on the benchmarks of its paper's table, from runs of one's own.

    pgjax evaluate --benchmarks pg2_scores:runs=runs/pg2

No checkpoint of these transfers is released, so each is a run directory, `RUNS/NAME`, of
`pgjax train --config NAME:variant=pg2-3b --workdir RUNS/NAME`.

Arguments, as in `pg2_scores:variant=pg2-10b,res=448`:
    variant   size of the model: pg2-3b, pg2-10b or pg2-28b
    res       image size: 224 or 448; 896 for tasks that are new in the paper; videos: 224 only
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
# Tasks that are new in the paper -> the sizes of the model and of images with published scores.
NEW = {
    "docci": (("pg2-3b", "pg2-10b"), (448,)),
    "grandstaff": (("pg2-3b",), (896,)),
    "molecules": (("pg2-10b",), (448,)),
    "text_spotting": (("pg2-3b",), (896,)),
    "vsr_random": (("pg2-3b", "pg2-10b"), (224,)),
    "vsr_zeroshot": (("pg2-3b", "pg2-10b"), (224,)),
    "coco_detection": (("pg2-3b", "pg2-10b"), (224, 448, 896)),
    "doclaynet": (("pg2-3b", "pg2-10b"), (224, 448, 896)),
    "fintabnet": (("pg2-3b",), (896,)),
    "mimic_cxr": (("pg2-3b", "pg2-10b"), (896,)),
    "pubtabnet": (("pg2-3b",), (896,)),
}


def get_config(arg=None):
    """Names the configs to evaluate, as `--benchmarks` takes them."""
    arg = parse_arg(arg, variant="pg2-3b", res=224, runs="")
    table = dict(TABLE) if arg.res != 896 else {}
    if arg.res == 224 and arg.variant != "pg2-28b":
        table |= dict.fromkeys(VIDEOS, "")
    for name, (variants, sizes) in NEW.items():
        if arg.variant in variants and arg.res in sizes:
            table[name] = ""
    return tuple(
        f"{name}:variant={arg.variant},res={arg.res}"
        + (f",init={arg.runs}/{tuned or name}" if arg.runs else "")
        for name, tuned in table.items()
    )
