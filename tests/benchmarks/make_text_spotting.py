"""Words in scenes: files of five owners, each in a format of its own.

ICDAR's begin with a byte-order mark, have commas and quotes in words, and `###` for words that
cannot be read.
Total-Text's are printed by Python 2, long lists on several lines.
"""

import json

from fixture import picture, write, write_zip

SIZE = (40, 80)
# A word at the right, one at the left a bit lower, one below, one that cannot be read.
LINES = """\ufeff50,4,70,4,70,12,50,12,Hot
4,6,40,2,40,10,4,14,"Fish, \\"5\\";"
4,20,20,20,20,30,4,30,&
60,20,70,20,70,30,60,30,###
"""
TARGET = (
    '<loc0051><loc0051><loc0358><loc0512> Fish, "5"; ; <loc0102><loc0640><loc0307><loc0896> Hot'
    " ; <loc0512><loc0051><loc0768><loc0256> &"
)


def make(folder):
    crlf = LINES.replace("\n", "\r\n")
    image = picture(1, SIZE)
    for images, texts in (
        ("ch4_training_images", "ch4_training_localization_transcription_gt"),
        ("ch4_test_images", "Challenge4_Test_Task4_GT"),
    ):
        write_zip(folder / f"{images}.zip", {f"img_{i}.jpg": image for i in (1, 2)})
        write_zip(folder / f"{texts}.zip", {f"gt_img_{i}.txt": crlf for i in (1, 2)})
    other = LINES.replace(",Hot", ",Latin,Hot").replace(",&", ",Symbols,&")
    other = other.replace(',"Fish', ',Latin,"Fish').replace(",###", ",None,###")
    texts = "ch8_training_localization_transcription_gt_v2"
    write(folder / "mlt17/ch8_training_images_1/img_1.png", picture(2, SIZE, "PNG"))
    write(folder / f"mlt17/{texts}/gt_img_1.txt", other)
    write(folder / "mlt19/ImagesPart1/tr_img_00001.jpg", image)
    write(folder / "mlt19/train_gt/tr_img_00001.txt", other)

    curved = """\
x: [[ 4 20 40\n 40 20  4]], y: [[ 6  2  6 14 10 14]], ornt: [u'c'], transcriptions: [u"it's"]
x: [[50 70 70 50]], y: [[ 4  4 12 12]], ornt: [u'h'], transcriptions: [u'caf\\xe9']
x: [[60 70]], y: [[20 20]], ornt: [u'#'], transcriptions: [u'#']
x: [[60 70 70 60]], y: [[20 20 30 30]], ornt: [u'#'], transcriptions: [u'#']
"""
    write(folder / "totaltext/Images/Test/img3.JPG", image)
    write(folder / "totaltext/Groundtruth/Test/poly_gt_img3.txt", curved)
    plain = """\
x: [[ 4 40 40  4]], y: [[ 2  2 14 14]], ornt: [u'h'], transcriptions: [u'Hi']
x: [[60 70 70 60]], y: [[20 20 30 30]], ornt: [], transcriptions: []
"""
    write(folder / "totaltext/Images/Train/img4.jpg", image)
    write(folder / "totaltext/Groundtruth/Train/poly_gt_img4.txt", plain)

    word = {"vertices": [[4, 2], [40, 2], [40, 14], [4, 14]], "text": "Hi", "legible": True}
    blurred = {"vertices": [[60, 20], [70, 20], [70, 30], [60, 30]], "text": "", "legible": False}
    lines = [{"text": "Hi", "words": [word, blurred]}]
    write(folder / "hiertext/gt/train.jsonl", {
        "info": {}, "annotations": [{"image_id": "a1", "paragraphs": [{"lines": lines}]}],
    })  # fmt: skip
    write(folder / "hiertext/train/a1.jpg", image)
    write(folder / "TextOCR_0.1_train.json", {
        "imgs": {"b2": {"id": "b2", "width": 80, "height": 40, "file_name": "train/b2.jpg"}},
        "anns": {
            "b2_1": {"image_id": "b2", "utf8_string": "Hi", "points": [4, 2, 40, 2, 40, 14, 4, 14]},
            "b2_2": {"image_id": "b2", "utf8_string": ".", "points": [60, 20, 70, 20, 70, 30]},
        },
        "imgToAnns": {"b2": ["b2_1", "b2_2"]},
    })  # fmt: skip
    write_zip(folder / "train_val_images.zip", {"train_images/b2.jpg": image})
    said = {"transcription": "Hi", "legible": True, "language": "english"}
    write(folder / "text_spotting_openimages_v5_train_f.json", json.dumps({
        "images": [{"id": 7, "file_name": "train_f/c3.jpg"}],
        "annotations": [{"image_id": 7, "bbox": [4, 2, 36, 12], "attributes": said}],
    }))  # fmt: skip
    write(folder / "openimages/train_f/c3.jpg", image)

    four = {
        "answers": [TARGET],
        "words": ["Hot", 'Fish, "5";', "&", "###"],
        "legible": [True, True, True, False],
        "size": [*SIZE],
    }
    hi = "<loc0051><loc0051><loc0358><loc0512> Hi"
    names = ("Total-Text/img4", "MLT17/img_1", "MLT19/tr_img_00001", "HierText/a1", "TextOCR/b2",
             "IntelOCR/train_f/c3")  # fmt: skip
    train = [{"image_id": name, "answers": [TARGET if "MLT" in name else hi]} for name in names]
    outlines = [
        "4,6,20,2,40,6,40,14,20,10,4,14",
        "50,4,70,4,70,12,50,12",
        "60,20,70,20,70,30,60,30",
    ]
    return {
        "train": [{"image_id": f"ICDAR 2015/img_{i}", **four} for i in (1, 2)] + train,
        "icdar15_test": [{"image_id": f"img_{i}", **four} for i in (1, 2)],
        "totaltext_test": [{
            "image_id": "img3", "words": ["it's", "café", "#"], "legible": [True, True, False],
            "outlines": outlines,
        }],
    }  # fmt: skip
