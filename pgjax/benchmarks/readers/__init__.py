"""Readers of the official files of benchmarks, by name.

A new benchmark needs three files:

1. Its reader, `pgjax/benchmarks/readers/NAME.py`, which ends in `READER = Reader(…)` (see
   pgjax/benchmarks/reader.py for the attributes), and a line in `READERS` below.
   `read(files, split)` yields one dict per example, from annotations alone:

   - `files["val2014/x.jpg"]` is an image or a video by the end of its path, in a folder or an
     archive; a missing one is listed later, and not raised. `files.rows` (a list in JSON or a
     pickle), `.entries` (an object in JSON), `.jsonl`, `.csv` and `.parquet` yield the records of
     annotations, whose absence is an error; `.json`, `.pickle` and `.text` read a whole file;
     `files.glob` lists files. A reader need not check what it reads: what it runs into is reported
     with the place of the record, and values are compared with the features.
   - Keys are those of the other benchmarks, so that prompts and metrics fit: `image` (one, or a
     list: frames, or two images), `question`, `answers` (a list of all references, captions too;
     empty where the owners do not publish them), `question_id` (or `image_id`, where an example is
     an image), and besides them what the metric, a breakdown or a submission needs
     (`question_type`, `domain`, …).
   - Text stays as it was published; only what cannot be undone later, such as line breaks, is
     cleaned.
   - Features are `IMAGE`, `BOX`, `str`, `int`, `float`, `bool`, `[feature]` and `{key: feature}`.
   - Work on pixels goes into `build(example, **options)`, which runs in worker processes. It raises
     a DataError for what it cannot read, which is then listed with the example's id.
   - Official counts are facts: None where the owners publish none.

2. Its transfer, `transfers/NAME.py`, with the published hyperparameters through
   `pgjax.recipes.benchmark`; a value that depends on the image size is `{224: …, 448: …}`. An
   evaluation is `answers(dataset, split, metric, published=…, submission=…)`, and may have a
   `prompt` of its own. Preprocessing is that of the published model: `antialias=False` where its
   resize had none.

3. Its fixture, `tests/benchmarks/make_NAME.py`, whose `make(folder)` writes a tiny source with the
   official names and layout, oddities of the format included, and returns what `pgjax prepare` has
   to find: `{split: [examples]}` with the keys that matter. Helpers are in
   tests/benchmarks/fixture.py. With a line in tests/benchmarks/rows.py, the test of all benchmarks
   builds the config, prepares the fixture, trains a step, and scores it.
"""

from pgjax.benchmarks.reader import Reader
from pgjax.benchmarks.readers import (
    activitynet,
    ai2d,
    aokvqa,
    chartqa,
    coco35l,
    coco_detection,
    cococap,
    countbenchqa,
    docci,
    docvqa,
    gqa,
    grandstaff,
    html_tables,
    marvl,
    mimic_cxr,
    mmvp,
    molecules,
    msrvtt,
    msvd_qa,
    nlvr2,
    nocaps,
    ocrvqa,
    okvqa,
    pope,
    refcoco_seg,
    rsvqa,
    scicap,
    science_qa,
    screens,
    stvqa,
    tallyqa,
    text_spotting,
    textvqa,
    vatex_cap,
    vizwizvqa,
    vqav2,
    vsr,
)

READERS: dict[str, Reader] = {
    "activitynet_cap": activitynet.CAPTIONS,
    "activitynet_qa": activitynet.QUESTIONS,
    "ai2d": ai2d.READER,
    "aokvqa": aokvqa.READER,
    "chartqa": chartqa.READER,
    "coco35l": coco35l.COCO,
    "coco_detection": coco_detection.COCO,
    "cococap": cococap.READER,
    "countbenchqa": countbenchqa.READER,
    "docci": docci.READER,
    "doclaynet": coco_detection.DOCLAYNET,
    "docvqa": docvqa.PAGES,
    "fintabnet": html_tables.FINTABNET,
    "gqa": gqa.GQA,
    "grandstaff": grandstaff.READER,
    "infovqa": docvqa.GRAPHICS,
    "marvl": marvl.READER,
    "mimic_cxr": mimic_cxr.READER,
    "mmvp": mmvp.READER,
    "molecules": molecules.READER,
    "msrvtt_cap": msrvtt.CAPTIONS,
    "msrvtt_qa": msrvtt.QUESTIONS,
    "msvd_qa": msvd_qa.READER,
    "nlvr2": nlvr2.READER,
    "nocaps": nocaps.READER,
    "ocrvqa": ocrvqa.READER,
    "okvqa": okvqa.READER,
    "pope": pope.READER,
    "pubtabnet": html_tables.PUBTABNET,
    "refcoco_seg": refcoco_seg.READER,
    "rsvqa_hr": rsvqa.HIGH,
    "rsvqa_lr": rsvqa.LOW,
    "scicap": scicap.READER,
    "science_qa": science_qa.READER,
    "screen2words": screens.SCREENS,
    "stvqa": stvqa.READER,
    "tallyqa": tallyqa.READER,
    "text_spotting": text_spotting.READER,
    "textcaps": textvqa.CAPTIONS,
    "textvqa": textvqa.QUESTIONS,
    "vatex_cap": vatex_cap.READER,
    "vizwizvqa": vizwizvqa.READER,
    "vqav2": vqav2.READER,
    "vsr": vsr.READER,
    "widgetcap": screens.WIDGETS,
    "xgqa": gqa.XGQA,
    "xm3600": coco35l.XM3600,
}
