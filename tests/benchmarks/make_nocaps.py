"""NoCaps: a file in COCO's format, images by their names in Open Images."""

from fixture import picture, write


def make(folder):
    images = [
        {
            "id": i, "open_images_id": f"00{i}f", "file_name": f"00{i}f.jpg", "width": 20,
            "height": 24, "license": 0, "coco_url": "", "domain": domain,
        }
        for i, domain in enumerate(("in-domain", "near-domain", "out-domain"))
    ]  # fmt: skip
    annotations = [
        {"image_id": i, "id": 10 * i + n, "caption": f"A newt {i}, {n}. \n"}
        for n in range(10) for i in range(3)
    ]  # fmt: skip
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    write(folder / "nocaps_val_4500_captions.json", content)
    test = [{k: v for k, v in image.items() if k != "domain"} for image in images[:1]]
    write(folder / "nocaps_test_image_info.json", {"info": {}, "images": test})
    for image in images:
        write(folder / "images" / image["file_name"], picture(image["id"]))
    return {
        "validation": [
            {"image_id": i, "answers": [f"A newt {i}, {n}." for n in range(10)]} for i in range(3)
        ],
        "test": [{"image_id": 0, "answers": [], "domain": "", "open_images_id": "000f"}],
    }
