"""VATEX: English captions of ten-second videos."""

from collections.abc import Iterator

from pgjax.benchmarks import videos
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space

_FILES = {
    "train": "vatex_training_v1.0.json",
    "validation": "vatex_validation_v1.0.json",
    "test": "vatex_public_test_english_v1.1.json",
}


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields videos with their ten English captions."""
    for row in files.rows(_FILES[split]):
        yield {
            "image": videos.video(files, row["videoID"]),
            "video_id": row["videoID"],
            "answers": [clean_space(caption) for caption in row["enCap"]],
        }


READER = Reader(
    about="VATEX: captions of short videos (arXiv:1904.03493).",
    where=f"""\
https://eric-xw.github.io/vatex-website/download.html: vatex_training_v1.0.json,
vatex_validation_v1.0.json, vatex_public_test_english_v1.1.json. The videos are parts of those of
YouTube: VIDEOID_START_STOP.mp4, as their ids say, in any folders or archives.
{videos.WHERE}""",
    licence="CC BY 4.0 (captions); the videos are their owners'.",
    key="video_id",
    features={"image": [IMAGE], "video_id": str, "answers": [str]},
    splits={"train": 25_991, "validation": 3_000, "test": 6_000},
    read=read,
    build=videos.build,
    options=videos.options(16, 7),
)
