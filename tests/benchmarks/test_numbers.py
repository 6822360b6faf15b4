"""The numbers of the published table of transfers, once more, against the configs.

A line: epochs, batch size, learning rate, weight decay, label smoothing, dropout, text length. What
differs by image size is a tuple, for 224, 448 and 896 pixels.
"""

import pytest
from rows import ROWS
from test_all import get_config

TABLE = {
    "activitynet_cap": (1, 128, 1e-5, 1e-6, 0, 0, 64),
    "activitynet_qa": (1, 128, 1e-5, 1e-6, 0, 0, 64),
    "ai2d": (10, 256, 1e-5, 1e-6, 0, 0, 128),
    "aokvqa_da": (10, 128, 5e-6, 0, 0, 0, 32),
    "aokvqa_mc": (15, 128, 5e-6, 0, 0, 0, 128),
    "chartqa": (30, 256, 1e-5, 1e-6, 0.2, 0.1, 48),
    "coco35l": (None, 256, 1e-5, 1e-6, 0, 0, 32),
    "coco_detection": (50, 256, 1e-5, 0, 0, 0, 932),
    "cococap": (5, 256, 1e-5, 1e-6, 0, 0, 32),
    "docci": (10, 256, 1e-5, 0, 0, 0, 512),
    "doclaynet": (50, 256, 1e-5, 0, 0, 0, 932),
    "docvqa": (10, 256, 1e-5, 1e-6, 0, 0, 32),
    "fintabnet": (None, 256, 1e-4, 0, 0, 0, 4096),
    "gqa": (1, 256, 1e-5, 0, 0, 0, 32),
    "grandstaff": (None, 256, 1e-4, 0, 0.1, 0, 1024),
    "infovqa": (3, (256, 128, 32), (1e-5, 1e-5, 3e-6), (1e-6, 1e-6, 3e-7), 0.4, 0, 48),
    "molecules": (None, 256, 1e-4, 0, 0.1, 0, 256),
    "mimic_cxr": (8, 256, 5e-6, 0, 0, 0, 512),
    "msrvtt_cap": (20, 128, 1e-5, 0, 0, 0, 32),
    "msrvtt_qa": (1, 128, 1e-5, 0, 0, 0, 64),
    "msvd_qa": (1, 128, 3e-6, 3e-7, 0, 0, 64),
    "nlvr2": ((3, 10), 256, (1e-5, 3e-6), (1e-6, 3e-7), 0, 0, 64),
    "ocrvqa": (3, 128, (3e-6, 3e-6, 1e-5), 0, 0, 0, 32),
    "okvqa": (10, 128, 5e-6, 0, 0, 0, 32),
    "pubtabnet": (None, 256, 1e-4, 0, 0, 0, 4096),
    "refcoco_seg": (100, (256, 256, 64), (3e-5, 1e-5, 1e-5), 0, 0.3, (0.1, 0, 0), 48),
    "rsvqa_hr": (1, 256, 1e-5, 0, 0, 0, 32),
    "rsvqa_lr": (3, 256, 3e-6, 0, 0.2, 0, 32),
    "scicap": (80, 256, 3e-5, 0, 0.1, 0.1, 96),
    "science_qa": (20, 128, 1e-5, 0, 0, 0, 512),
    "screen2words": (10, 256, 1e-5, 0, 0.2, 0.3, 24),
    "stvqa": (3, (256, 128, 32), (1e-5, 1e-5, 3e-6), (1e-6, 1e-6, 3e-7), 0.1, 0, 48),
    "tallyqa": (2, 256, (1e-5, 1e-5, 7e-6), (0, 1e-6, 7e-7), 0, 0, 32),
    "text_spotting": (None, 256, 1e-5, 0, 0.1, 0, 2048),
    "textcaps": (5, 256, 1e-5, 1e-6, 0, 0, 32),
    "textvqa": ((5, 10, 10), 256, 3e-6, (0, 3e-7, 0), 0, 0, 32),
    "vatex_cap": (10, 128, 3e-6, 3e-7, 0, 0, 64),
    "vizwizvqa": (10, 256, 1e-5, 0, 0, 0, 48),
    "vqav2": (10, 256, 1e-5, (1e-6, 0), 0, 0, 32),
    "vsr_random": (15, 1024, 3e-6, 3e-7, 0, 0, 48),
    "vsr_zeroshot": (15, 1024, 3e-6, 3e-7, 0, 0, 48),
    "widgetcap": (4, 64, 3e-6, 3e-7, 0.1, 0.1, 32),
}
FROZEN = {  # the image tower, at which sizes
    "activitynet_cap": (224,),
    "activitynet_qa": (224,),
    "gqa": (448,),
    "msrvtt_cap": (224,),
    "msrvtt_qa": (224,),
    "science_qa": (224, 448),
}
BEAMS = {"cococap": "beam(2)", "nocaps": "beam(2)", "textcaps": "beam(3)"}
STEPS = {"grandstaff": 30_000, "molecules": 30_000, "text_spotting": 15_000}
TRAINED = [name for name, row in ROWS.items() if row.trains]


def test_no_row_is_missing():
    assert set(TRAINED) == set(TABLE)
    # Objaverse Multiview is not here: nothing public says how its answers are compared.
    assert ROWS.keys() - TABLE.keys() == {
        "countbenchqa", "marvl", "mmvp", "nocaps", "pope", "xgqa", "xm3600",
    }  # fmt: skip


LISTS = dict.fromkeys(("coco_detection", "doclaynet"), "detection")  # with noise boxes


@pytest.mark.parametrize("name", TRAINED)
def test_numbers(name):
    for i, res in enumerate(ROWS[name].res):
        config = get_config(name, f"res={res}")
        epochs, *expected, text_len = (
            value[i] if isinstance(value, tuple) else value for value in TABLE[name]
        )
        got = [
            config.input.batch_size,
            config.optimizer.lr,
            config.optimizer.weight_decay,
            config.label_smoothing,
            config.model.llm.dropout,
        ]
        assert got == expected, res
        if epochs is not None:
            assert config.total_epochs == epochs
        assert config.total_steps == STEPS.get(name, config.total_steps)
        assert f"for_{LISTS.get(name, 'training')}({text_len}, " in config.input.pp
        assert f"for_answering({text_len}" in config.answering.text
        frozen = dict(config.trainable) != {".*": True}
        assert frozen == (res in FROZEN.get(name, ())), res
        assert (config.schedule.decay, config.schedule.warmup_percent) == ("cosine", 0.05)
        assert dict(config.optimizer.decay_rules) == {"img/.*/kernel": 1.0, ".*": 0.0}


def test_published_mean_of_types():
    """As in the published score: no rural_urban at low resolution; all types at high."""
    exclude = {name: get_config(name, "").evals.test.metric for name in ("rsvqa_lr", "rsvqa_hr")}
    assert tuple(exclude["rsvqa_lr"].exclude) == ("rural_urban",)
    assert "exclude" not in exclude["rsvqa_hr"]


def test_beams():
    for name in ROWS:
        samplers = {
            spec.sampler for spec in get_config(name, "").evals.values() if "sampler" in spec
        }
        assert samplers == ({BEAMS[name]} if name in BEAMS else set()), name
