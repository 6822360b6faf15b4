"""Published scores of PaliGemma-3B, to stand beside measured ones.

`PUBLISHED[benchmark]` is `split`, on which the score was taken, and `scores`, by the key of the
measured score and the image size. Percent, and CIDEr × 100 likewise, except the keys in `PLAIN`.
Those of the transfers are of a model tuned on the benchmark; `mix_…` are of the mix checkpoints.
"""

from typing import Any

PLAIN = ("bleu4",)  # published as measured, in 0..1
RESOLUTIONS = (224, 448, 896)


def _row(split: str, **scores: tuple[float, ...]) -> dict[str, Any]:
    by_res = {k: dict(zip(RESOLUTIONS, v, strict=False)) for k, v in scores.items()}
    return {"split": split, "scores": by_res}


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
    "xgqa": _row("test, mean of 8 languages", acc=(58.37, 59.07)),
    "nlvr2": _row("test", acc=(90.02, 88.93)),
    "marvl": _row("test, mean of 5 languages", acc=(80.57, 76.78)),
    "ai2d": _row("test", acc=(72.12, 73.28)),
    "science_qa": _row("test, images, no CoT", acc=(95.39, 95.93)),
    "rsvqa_lr": _row("test", acc=(92.65, 93.11)),
    "rsvqa_hr": _row("test", acc=(92.61, 92.79)),
    "rsvqa_hr_test2": _row("test2", acc=(90.58, 90.54)),
    "chartqa": _row("test", acc=(57.08, 71.36)),
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
