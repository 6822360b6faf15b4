"""MSR-VTT: short videos with captions, and questions generated from them."""

from collections.abc import Iterator

from pgjax.benchmarks import videos
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space, grouped
from pgjax.errors import UserError

_PARTS = {"train": "train", "validation": "validate", "test": "test"}
_VIDEOS = f"""\
Videos as they were published (train-video.zip and test-video.zip, or any archives or folders with
video0.mp4 to video9999.mp4). {videos.WHERE}"""
_LICENCE = "not stated; MSR-VTT (Microsoft) is for research, the videos are their owners'."


def read_captions(files: Files, split: str) -> Iterator[Example]:
    """Yields videos with their captions, about 20 each."""
    members = files.glob("*videodatainfo*.json")
    if not members:
        raise UserError(f"{files.source} has no *videodatainfo*.json; --help says where to get it.")
    for member in members:
        captions = grouped(files.rows(member, "sentences"), "video_id")
        for video in files.rows(member, "videos"):
            if video["split"] == _PARTS[split]:
                name = video["video_id"]
                yield {
                    "image": videos.video(files, name),
                    "image_id": name,
                    "answers": [clean_space(row["caption"]) for row in captions[name]],
                }


def read_questions(files: Files, split: str) -> Iterator[Example]:
    """Yields questions, which name their video by its number."""
    for row in files.rows(f"{split.replace('validation', 'val')}_qa.json"):
        name = f"video{row['video_id']}"
        yield {
            "image": videos.video(files, name),
            "image_id": name,
            "question_id": row["id"],
            "question": row["question"],
            "answers": [row["answer"]],
        }


CAPTIONS = Reader(
    about="MSR-VTT: captions of short videos (Xu et al., CVPR 2016).",
    where=f"""\
https://www.microsoft.com/en-us/research/publication/msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language/
train_val_videodatainfo.json and test_videodatainfo.json.
{_VIDEOS}""",
    licence=_LICENCE,
    key="image_id",
    features={"image": [IMAGE], "image_id": str, "answers": [str]},
    splits={"train": 6_513, "validation": 497, "test": 2_990},
    read=read_captions,
    build=videos.build,
    options=videos.options(16, 9),
)

QUESTIONS = Reader(
    about="MSRVTT-QA: questions about the videos of MSR-VTT (Xu et al., ACM MM 2017).",
    where=f"""\
https://github.com/xudejing/video-question-answering: train_qa.json, val_qa.json, test_qa.json.
{_VIDEOS}""",
    licence=_LICENCE,
    key="question_id",
    features={
        "image": [IMAGE],
        "image_id": str,
        "question_id": int,
        "question": str,
        "answers": [str],
    },
    splits={"train": 158_581, "validation": 12_278, "test": 72_821},
    read=read_questions,
    build=videos.build,
    options=videos.options(16, 9),
)
