"""Published scores of PaliGemma-3B and PaliGemma 2, to stand beside measured ones.

`PUBLISHED[benchmark]` is `split`, on which the score was taken, and `scores`, by the key of the
measured score and the image size. Percent, and CIDEr × 100 likewise, except the keys in `PLAIN`.
Those of the transfers are of a model tuned on the benchmark; `mix_…` are of the mix checkpoints,
and `pg2-3b_…`, `pg2-10b_…` and `pg2-28b_…` of PaliGemma 2. Of its mix checkpoints none are
published.
"""

from typing import Any

PLAIN = ("bleu4", "characters", "sentences")  # published as measured
RESOLUTIONS = (224, 448, 896)


def _row(split: str, **scores: tuple[float | None, ...]) -> dict[str, Any]:
    by_res = {
        name: {res: v for res, v in zip(RESOLUTIONS, values, strict=False) if v is not None}
        for name, values in scores.items()
    }
    return {"split": split, "scores": by_res}


def _at_448(**scores: float) -> dict[str, tuple[float | None, ...]]:
    return {name: (None, score) for name, score in scores.items()}


def _at_896(**scores: float) -> dict[str, tuple[float | None, ...]]:
    return {name: (None, None, score) for name, score in scores.items()}


PUBLISHED: dict[str, dict[str, Any]] = {
    # Captions
    "cococap": _row("val", cider=(141.92, 144.60)),
    "nocaps": _row("val", cider=(121.72, 123.58)),
    "coco35l": _row(
        "dev",
        **{"cider": (116.4, 118.6), "cider/en": (139.2, 141.2), "cider/avg34": (115.8, 118.0)},
    ),
    "xm3600": _row(
        "test", **{"cider": (42.4, 42.9), "cider/en": (78.1, 80.0), "cider/avg35": (41.3, 41.9)}
    ),
    "textcaps": _row("val", cider=(127.48, 153.94)),
    "scicap": _row("test", cider=(162.25, 181.49), bleu4=(0.192, 0.211)),
    "screen2words": _row("test", cider=(117.57, 119.59)),
    "widgetcap": _row("test", cider=(136.07, 148.36)),
    # Questions
    "vqav2": _row("test-std", acc=(83.19, 85.64)),
    "mmvp": _row("all", acc=(47.33, 45.33)),
    "pope_random": _row("random", acc=(87.80, 88.23)),
    "pope_popular": _row("popular", acc=(85.87, 86.77)),
    "pope_adversarial": _row("adversarial", acc=(84.27, 85.90)),
    "objaverse_multiview": _row("all", similarity=(62.7, 62.8)),
    "okvqa": _row("val", acc=(63.54, 63.15)),
    "aokvqa_mc": _row("test", acc=(76.37, 76.90)),
    "aokvqa_da": _row("test", acc=(61.85, 63.22)),
    "gqa": _row("testdev balanced", acc=(65.61, 67.03)),
    # The mean over the 8 languages, and over those that are not English.
    "xgqa": _row("test", **{"acc": (58.37, 59.07), "acc/avg7": (57.3, 57.9)}),
    "nlvr2": _row("test", acc=(90.02, 88.93)),
    "marvl": _row("test, mean of 5 languages", acc=(80.57, 76.78)),
    "ai2d": _row("test", acc=(72.12, 73.28)),
    "science_qa": _row("test, images, no CoT", acc=(95.39, 95.93)),
    "rsvqa_lr": _row("test", acc=(92.65, 93.11)),
    "rsvqa_hr": _row("test", acc=(92.61, 92.79)),
    "rsvqa_hr_test2": _row("test2", acc=(90.58, 90.54)),
    "chartqa": _row(
        "test",
        **{"acc": (57.08, 71.36), "acc/human": (40.0, 54.2), "acc/augmented": (74.2, 88.5)},
    ),
    "vizwizvqa": _row("test-std", acc=(73.7, 75.52)),
    "tallyqa": _row("test", **{"acc/simple": (81.72, 84.86), "acc/complex": (69.56, 72.27)}),
    "ocrvqa": _row("test", acc=(73.24, 75.60, 75.90)),
    "textvqa": _row("test-std", acc=(55.47, 73.15, 76.48)),
    "docvqa": _row("test", anls=(43.74, 78.02, 84.77)),
    "infovqa": _row("test", anls=(28.46, 40.47, 47.75)),
    "stvqa": _row("test", anls=(63.29, 81.82, 84.40)),
    # Segmentation
    "refcoco_seg": _row("RefCOCO val", miou=(73.40, 75.57, 76.94)),
    "refcocoplus_seg": _row("RefCOCO+ val", miou=(68.32, 69.76, 72.18)),
    "refcocog_seg": _row("RefCOCOg val", miou=(67.65, 70.17, 72.22)),
    # Video
    "msrvtt_cap": _row("test", cider=(70.54,)),
    "msrvtt_qa": _row("test", acc=(50.09,)),
    "activitynet_cap": _row("test", cider=(34.62,)),
    "activitynet_qa": _row("test", acc=(50.78,)),
    "vatex_cap": _row("test", cider=(79.73,)),
    "msvd_qa": _row("test", acc=(60.22,)),
    # On the splits of PaliGemma 2's paper (arXiv:2412.03555, table 15), which repeats VizWiz's
    # score on test-std as one on val
    "aokvqa_da_val": _row("val", acc=(61.1, 65.7)),
    "aokvqa_mc_val": _row("val", acc=(78.5, 80.3)),
    "countbenchqa": _row("test", acc=(81.9, 83.1)),
    "docvqa_val": _row("val", anls=(37.8, 74.1)),
    "infovqa_val": _row("val", anls=(25.5, 37.0)),
    "stvqa_val": _row("val", anls=(61.6, 79.7)),
    "textvqa_val": _row("val", acc=(59.0, 74.6)),
    "vqav2_minival": _row("minival", acc=(82.1, 84.6)),
    "refcoco_seg_testA": _row("RefCOCO testA", miou=(75.7, 77.9)),
    "refcoco_seg_testB": _row("RefCOCO testB", miou=(70.7, 72.4)),
    "refcocoplus_seg_testA": _row("RefCOCO+ testA", miou=(71.9, 74.2)),
    "refcocoplus_seg_testB": _row("RefCOCO+ testB", miou=(64.5, 64.5)),
    "refcocog_seg_test": _row("RefCOCOg test", miou=(68.2, 71.0)),
    # The announcement's table of mix checkpoints
    "mix_mmvp": _row("all", acc=(46.00, 45.33)),
    "mix_pope_random": _row("random", acc=(88.00, 89.37)),
    "mix_pope_popular": _row("popular", acc=(86.63, 88.40)),
    "mix_pope_adversarial": _row("adversarial", acc=(85.67, 87.47)),
}

# The announcement's table of fine-tuned checkpoints: which of the rows above it quotes.
FINE_TUNED: dict[str, tuple[str, ...]] = {
    "ft-vqav2-448": ("vqav2",),
    "ft-cococap-448": ("cococap",),
    "ft-science-qa-448": ("science_qa",),
    "ft-refcoco-seg-896": ("refcoco_seg", "refcocoplus_seg", "refcocog_seg"),
    "ft-rsvqa-hr-224": ("rsvqa_hr", "rsvqa_hr_test2"),
}

# PaliGemma 2, means of five runs (arXiv:2412.03555, table 13): benchmark -> score -> those of 3B,
# 10B and 28B at 224 px, and at 448 px. Videos were not tuned on at 28B, nor at 448 px.
_PALIGEMMA_2: dict[str, dict[str, tuple[tuple[float, ...], ...]]] = {
    # Captions
    "cococap": {"cider": ((141.3, 143.7, 144.0), (143.4, 145.0, 145.2))},
    "nocaps": {"cider": ((123.1, 126.3, 127.1), (123.5, 126.9, 127.0))},
    "coco35l": {
        "cider/en": ((138.4, 140.8, 142.4), (140.4, 142.4, 142.3)),
        "cider/avg34": ((113.9, 115.8, 116.5), (115.8, 117.2, 117.2)),
    },
    "xm3600": {
        "cider/en": ((79.8, 80.7, 81.0), (80.3, 81.5, 81.0)),
        "cider/avg35": ((42.8, 44.5, 45.2), (43.2, 44.6, 45.2)),
    },
    "textcaps": {"cider": ((127.5, 137.9, 139.9), (152.1, 157.7, 153.6))},
    "scicap": {"cider": ((165.1, 159.5, 156.9), (183.3, 177.2, 172.7))},
    "screen2words": {"cider": ((113.3, 117.8, 122.8), (114.0, 119.1, 123.4))},
    "widgetcap": {"cider": ((138.1, 139.8, 138.8), (151.4, 151.9, 148.9))},
    # Questions
    "vqav2_minival": {"acc": ((83.0, 84.3, 84.5), (84.8, 85.8, 85.8))},
    "okvqa": {"acc": ((64.2, 68.0, 71.2), (64.1, 68.6, 70.6))},
    "aokvqa_mc_val": {"acc": ((79.7, 83.7, 84.7), (82.5, 85.9, 87.0))},
    "aokvqa_da_val": {"acc": ((64.2, 68.9, 70.2), (67.9, 70.8, 71.2))},
    "gqa": {"acc": ((66.2, 67.2, 67.3), (68.1, 68.3, 68.3))},
    "xgqa": {"acc/avg7": ((58.6, 61.4, 61.1), (60.4, 62.6, 62.1))},
    "nlvr2": {"acc": ((91.4, 93.9, 94.2), (91.6, 93.7, 94.1))},
    "marvl": {"acc": ((83.5, 89.5, 90.6), (82.7, 89.1, 89.7))},
    "ai2d": {"acc": ((74.7, 83.1, 83.2), (76.0, 84.4, 84.6))},
    "science_qa": {"acc": ((96.1, 98.2, 98.2), (96.2, 98.5, 98.6))},
    "rsvqa_lr": {"acc": ((93.0, 92.8, 93.5), (92.7, 93.1, 93.7))},
    "rsvqa_hr": {"acc": ((92.7, 92.6, 92.7), (92.8, 92.8, 92.8))},
    "rsvqa_hr_test2": {"acc": ((90.9, 90.8, 90.9), (90.7, 90.7, 90.8))},
    "chartqa": {
        "acc/human": ((42.0, 48.4, 46.8), (54.0, 66.4, 61.3)),
        "acc/augmented": ((74.4, 74.2, 68.9), (89.2, 90.1, 85.1)),
    },
    "vizwizvqa_val": {"acc": ((76.4, 78.1, 78.7), (77.5, 78.6, 78.9))},
    "tallyqa": {
        "acc/simple": ((81.8, 83.2, 83.4), (85.3, 86.2, 85.7)),
        "acc/complex": ((70.3, 73.4, 74.2), (73.6, 76.7, 76.8)),
    },
    "countbenchqa": {"acc": ((81.0, 84.0, 86.4), (82.0, 85.3, 87.4))},
    "ocrvqa": {"acc": ((73.4, 74.7, 75.3), (75.7, 76.3, 76.6))},
    "textvqa_val": {"acc": ((59.6, 64.0, 64.7), (75.2, 76.6, 76.2))},
    "docvqa_val": {"anls": ((39.9, 43.9, 44.9), (73.6, 76.6, 76.1))},
    "infovqa_val": {"anls": ((25.2, 33.6, 36.4), (37.5, 47.8, 46.7))},
    "stvqa_val": {"anls": ((61.9, 64.3, 65.1), (80.5, 82.0, 81.8))},
    # Segmentation
    "refcoco_seg": {"miou": ((73.4, 75.9, 75.0), (76.3, 78.2, 77.3))},
    "refcoco_seg_testA": {"miou": ((75.7, 77.2, 76.8), (78.6, 79.7, 79.3))},
    "refcoco_seg_testB": {"miou": ((71.0, 74.2, 73.9), (73.5, 76.2, 74.8))},
    "refcocoplus_seg": {"miou": ((68.6, 72.0, 70.3), (72.1, 74.4, 72.8))},
    "refcocoplus_seg_testA": {"miou": ((72.7, 74.7, 73.6), (76.1, 77.7, 76.6))},
    "refcocoplus_seg_testB": {"miou": ((64.2, 68.4, 67.1), (67.0, 71.1, 68.6))},
    "refcocog_seg": {"miou": ((68.3, 71.4, 70.5), (72.3, 74.4, 73.0))},
    "refcocog_seg_test": {"miou": ((69.0, 71.9, 70.7), (72.7, 74.8, 73.7))},
    # Video
    "msrvtt_cap": {"cider": ((68.5, 72.1),)},
    "msrvtt_qa": {"acc": ((50.5, 51.9),)},
    "activitynet_cap": {"cider": ((34.2, 35.9),)},
    "activitynet_qa": {"acc": ((51.3, 53.2),)},
    "vatex_cap": {"cider": ((80.8, 82.7),)},
    "msvd_qa": {"acc": ((61.1, 62.5),)},
}
# Tasks that are new in PaliGemma 2's paper: benchmark -> split, and model -> score -> those at 224,
# 448 and 896 px. Some were published of PaliGemma as well, whose key is "".
_NEW: dict[str, tuple[str, dict[str, dict[str, tuple[float | None, ...]]]]] = {
    # NES is the share of sentences that people found not to be borne out by the photograph.
    "docci": (
        "qual_dev",
        {
            "": _at_448(nes=34.3, characters=535.0, sentences=8.9),
            "pg2-3b": _at_448(nes=28.4, characters=529.0, sentences=7.7),
            "pg2-10b": _at_448(nes=20.3, characters=521.0, sentences=7.5),
        },
    ),
    "grandstaff": ("test", {"pg2-3b": _at_896(cer=1.6, ser=2.3, ler=6.7)}),
    "icdar15": ("test", {"pg2-3b": _at_896(f1=75.9, precision=81.9, recall=70.7)}),
    "molecules": ("test", {"pg2-10b": _at_448(acc=94.8)}),
    "totaltext": ("test", {"pg2-3b": _at_896(f1=74.2, precision=73.8, recall=74.5)}),
    "vsr_random": ("test", {"pg2-3b": {"acc": (81.6,)}, "pg2-10b": {"acc": (86.8,)}}),
    "vsr_zeroshot": ("test", {"pg2-3b": {"acc": (74.8,)}, "pg2-10b": {"acc": (79.8,)}}),
    "coco_detection": (
        "val2017",
        {
            "": {"mAP": (28.7, 37.0, 41.1)},
            "pg2-3b": {"mAP": (30.4, 38.5, 42.3)},
            "pg2-10b": {"mAP": (30.3, 39.2, 43.6)},
        },
    ),
    "doclaynet": (
        "test",
        {
            "": {"mAP": (50.8, 64.1, 66.5)},
            "pg2-3b": {"mAP": (46.7, 62.5, 66.1)},
            "pg2-10b": {"mAP": (50.4, 63.5, 66.0)},
        },
    ),
    "fintabnet": (
        "test",
        {"pg2-3b": _at_896(s_teds=99.2, teds=98.9, grits_top=99.4, grits_con=99.2)},
    ),
    "pubtabnet": (
        "val",
        {"pg2-3b": _at_896(s_teds=97.6, teds=97.3, grits_top=98.0, grits_con=97.8)},
    ),
    "mimic_cxr": (
        "test",
        {
            "pg2-3b": _at_896(cider=19.9, bleu4=0.146, rouge_l=31.9, radgraph=28.8),
            "pg2-10b": _at_896(cider=17.4, bleu4=0.15, rouge_l=32.4, radgraph=29.5),
        },
    ),
}
for _name, (_split, _models) in _NEW.items():
    for _size, _scores in _models.items():
        PUBLISHED[f"{_size}_{_name}".removeprefix("_")] = _row(_split, **_scores)
for _name, _scores in _PALIGEMMA_2.items():
    _split = PUBLISHED.get(_name, {"split": "val"})["split"]
    for _i, _size in enumerate(("pg2-3b", "pg2-10b", "pg2-28b")):
        _own = {k: [v[_i] for v in by_res if _i < len(v)] for k, by_res in _scores.items()}
        if any(_own.values()):
            PUBLISHED[f"{_size}_{_name}"] = _row(_split, **{k: (*v,) for k, v in _own.items()})
