"""Every row of the table of transfers, and every set that is only evaluated on.

A row says which image sizes its transfer has numbers for, and which data sets it reads: those of
`pgjax prepare` that have a fixture `make_NAME.py` here, with the options to prepare them for the
tiny model.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One transfer."""

    res: tuple[int, ...] = (224, 448)
    data: dict[str, dict] = {}
    trains: bool = True


FRAMES = {"frames": 2, "stride": 3}
ALL = (224, 448, 896)

ROWS = {
    "activitynet_cap": Row((224,), {"activitynet_cap": FRAMES}),
    "activitynet_qa": Row((224,), {"activitynet_qa": FRAMES}),
    "ai2d": Row(data={"ai2d": {}}),
    "aokvqa_da": Row(data={"aokvqa": {}}),
    "aokvqa_mc": Row(data={"aokvqa": {}}),
    "chartqa": Row(data={"chartqa": {}}),
    "coco35l": Row(data={"coco35l": {}}),
    "coco_detection": Row(ALL, {"coco_detection": {}}),
    "cococap": Row(data={"cococap": {}}),
    "countbenchqa": Row(data={"countbenchqa": {}}, trains=False),
    "docci": Row(data={"docci": {}}),
    "doclaynet": Row(ALL, {"doclaynet": {}}),
    "docvqa": Row(ALL, {"docvqa": {}}),
    "fintabnet": Row(ALL, {"fintabnet": {}}),
    "gqa": Row(data={"gqa": {}}),
    "grandstaff": Row(ALL, {"grandstaff": {}}),
    "infovqa": Row(ALL, {"infovqa": {}}),
    "marvl": Row(data={"marvl": {}}, trains=False),
    "mimic_cxr": Row(ALL, {"mimic_cxr": {}}),
    "mmvp": Row(data={"mmvp": {}}, trains=False),
    "molecules": Row(ALL, {"molecules": {}}),
    "msrvtt_cap": Row((224,), {"msrvtt_cap": FRAMES}),
    "msrvtt_qa": Row((224,), {"msrvtt_qa": FRAMES}),
    "msvd_qa": Row((224,), {"msvd_qa": FRAMES}),
    "nlvr2": Row(data={"nlvr2": {}}),
    "nocaps": Row(data={"nocaps": {}}, trains=False),
    "ocrvqa": Row(ALL, {"ocrvqa": {}}),
    "okvqa": Row(data={"okvqa": {}}),
    "pope": Row(data={"pope": {}}, trains=False),
    "pubtabnet": Row(ALL, {"pubtabnet": {}}),
    "refcoco_seg": Row(ALL, {"refcoco_seg": {"tiny": True}}),
    "rsvqa_hr": Row(data={"rsvqa_hr": {}}),
    "rsvqa_lr": Row(data={"rsvqa_lr": {}}),
    "scicap": Row(data={"scicap": {}}),
    "science_qa": Row(data={"science_qa": {}}),
    "screen2words": Row(data={"screen2words": {}}),
    "stvqa": Row(ALL, {"stvqa": {}}),
    "tallyqa": Row(ALL, {"tallyqa": {}}),
    "text_spotting": Row(ALL, {"text_spotting": {}}),
    "textcaps": Row(data={"textcaps": {}}),
    "textvqa": Row(ALL, {"textvqa": {}}),
    "vatex_cap": Row((224,), {"vatex_cap": FRAMES}),
    "vizwizvqa": Row(data={"vizwizvqa": {}}),
    "vqav2": Row(data={"vqav2": {}}),
    "vsr_random": Row(data={"vsr": {}}),
    "vsr_zeroshot": Row(data={"vsr": {}}),
    "widgetcap": Row(data={"widgetcap": {}}),
    "xgqa": Row(data={"xgqa": {}}, trains=False),
    "xm3600": Row(data={"xm3600": {}}, trains=False),
}
