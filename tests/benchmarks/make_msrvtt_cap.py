"""MSR-VTT: training and test annotations apart, captions in no order, videos in an archive."""

from fixture import film, write, write_zip


def make(folder):
    expected = {}
    for file, splits in (("train_val", ("train", "train", "validate")), ("test", ("test",))):
        first = 0 if file == "train_val" else 7010
        videos = [
            {
                "category": 9, "url": "https://…", "video_id": f"video{first + i}", "split": split,
                "start time": 137.72, "end time": 149.44, "id": first + i,
            }
            for i, split in enumerate(splits)
        ]  # fmt: skip
        sentences = [
            {"caption": f"a cat {n} runs \n", "video_id": video["video_id"], "sen_id": n}
            for n in (1, 0) for video in reversed(videos)
        ]  # fmt: skip
        content = {"info": {}, "videos": videos, "sentences": sentences}
        write(folder / f"{file}_videodatainfo.json", content)
        for video in videos:
            split = {"validate": "validation"}.get(video["split"], video["split"])
            expected.setdefault(split, []).append(
                {"image_id": video["video_id"], "answers": ["a cat 1 runs", "a cat 0 runs"]}
            )
        films = {f"TrainVal/{v['video_id']}.mp4": film(v["id"] % 7) for v in videos}
        write_zip(folder / f"{file}_videos.zip", films)
    return expected
