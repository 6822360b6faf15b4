"""MSVD-QA: questions about short videos of YouTube."""

from collections.abc import Iterator

from pgjax.benchmarks import videos
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields questions, whose video's file is found by its number in youtube_mapping.txt."""
    lines = files.text("youtube_mapping.txt").splitlines()
    names = {number: name for name, number in (line.rsplit(maxsplit=1) for line in lines if line)}
    for row in files.rows(f"{split.replace('validation', 'val')}_qa.json"):
        name = names[f"vid{row['video_id']}"]
        yield {
            "image": videos.video(files, name),
            "image_id": name,
            "question_id": row["id"],
            "question": row["question"],
            "answers": [row["answer"]],
        }


READER = Reader(
    about="MSVD-QA: questions about the videos of MSVD (Xu et al., ACM MM 2017).",
    where=f"""\
https://github.com/xudejing/video-question-answering: train_qa.json, val_qa.json, test_qa.json, and
youtube_mapping.txt; https://www.cs.utexas.edu/~ml/clamp/videoDescription/: YouTubeClips.tar.
{videos.WHERE}""",
    licence="not stated; for research, the videos are their owners'.",
    key="question_id",
    features={
        "image": [IMAGE],
        "image_id": str,
        "question_id": int,
        "question": str,
        "answers": [str],
    },
    splits={"train": 30_933, "validation": 6_415, "test": 13_157},
    read=read,
    build=videos.build,
    options=videos.options(8, 26),
)
