"""ActivityNet: long videos, with captions of their parts and with questions."""

from collections.abc import Iterator

from pgjax.benchmarks import videos
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, by_id, clean_space

_FILES = {"train": "train.json", "validation": "val_1.json", "test": "val_2.json"}
_VIDEOS = f"""\
http://activity-net.org/download.html: the videos, as v_NAME.mp4, .mkv or .webm, in any folders or
archives. Many are no longer on YouTube; those are listed as missing. {videos.WHERE}"""


def read_captions(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per part of a video; test captions are not public, so val_2 is `test`."""
    for name, video in files.entries(_FILES[split]):
        parts = zip(video["timestamps"], video["sentences"], strict=True)
        for i, ((start, stop), caption) in enumerate(parts):
            yield {
                "image": videos.video(files, name),
                "image_id": f"{name}/{i}",
                # A few are written the wrong way around.
                "start": float(min(start, stop)),
                "stop": float(max(start, stop)),
                "answers": [clean_space(caption)],
            }


def read_questions(files: Files, split: str) -> Iterator[Example]:
    """Joins the files of questions and of answers."""
    part = split.replace("validation", "val")
    answers = by_id(files.rows(f"{part}_a.json"), "question_id")
    for row in files.rows(f"{part}_q.json"):
        known = answers[row["question_id"]]
        yield {
            "image": videos.video(files, f"v_{row['video_name']}"),
            "image_id": row["video_name"],
            "question_id": row["question_id"],
            "question": row["question"],
            "question_type": str(known["type"]),
            "answers": [known["answer"]],
        }


CAPTIONS = Reader(
    about="ActivityNet Captions: what happens when in long videos (arXiv:1705.00754).",
    where=f"""\
https://cs.stanford.edu/people/ranjaykrishna/densevid/: captions.zip (train.json, val_1.json,
val_2.json).
{_VIDEOS}""",
    licence="not stated (captions); the videos are their owners'.",
    key="image_id",
    features={"image": [IMAGE], "image_id": str, "start": float, "stop": float, "answers": [str]},
    splits={"train": 37_421, "validation": 17_505, "test": 17_031},
    read=read_captions,
    build=videos.build,
    options=videos.options(16, 30),
)

QUESTIONS = Reader(
    about="ActivityNet-QA: questions about long videos (arXiv:1906.02467).",
    where=f"""\
https://github.com/MILVLG/activitynet-qa, folder dataset: train_q.json, train_a.json and those of
val and test.
{_VIDEOS}""",
    licence="Apache-2.0, for academic purposes (questions); the videos are their owners'.",
    key="question_id",
    features={
        "image": [IMAGE],
        "image_id": str,
        "question_id": str,
        "question": str,
        "question_type": str,
        "answers": [str],
    },
    splits={"train": 32_000, "validation": 18_000, "test": 8_000},
    read=read_questions,
    build=videos.build,
    options=videos.options(16, 70),
)
