"""MIMIC-CXR: a compressed table of splits, reports in an archive, sections of several names."""

import gzip

from fixture import picture, write, write_zip

REPORTS = [
    "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n"
    " INDICATION:  ___F with cough  // eval for infection\n \n TECHNIQUE:  Chest PA\n \n"
    " FINDINGS: \n \n There is no focal consolidation.\n Heart size: normal.\n \n IMPRESSION: \n \n"
    " No acute process.\n",
    "FINAL REPORT\n HISTORY: Fall.\n\n CONCLUSION:\n No fracture.\n",
]
FOUND = [
    (
        "___F with cough // eval for infection",
        "FINDINGS: There is no focal consolidation. Heart size: normal. "
        "IMPRESSION: No acute process.",
    ),
    ("Fall.", "IMPRESSION: No fracture."),
]


def make(folder):
    lines, reports, expected = ["dicom_id,study_id,subject_id,split"], {}, {}
    for i, split in enumerate(("train", "validate", "test", "train", "test")):
        subject, study, image = 10000032 + i // 2, 50414267 + i // 2, f"02aa804e-{i}"
        lines.append(f"{image},{study},{subject},{split}")
        place = f"files/p10/p{subject}/s{study}"
        reports[f"{place}.txt"] = REPORTS[i // 2 % 2]
        indication, text = FOUND[i // 2 % 2]
        write(folder / f"jpg/{place}/{image}.jpg", picture(i))
        expected.setdefault(split, []).append(
            {"image_id": image, "study_id": study, "indication": indication, "answers": [text]}
        )
    table = gzip.compress("\n".join(lines).encode(), mtime=0)
    write(folder / "jpg/mimic-cxr-2.0.0-split.csv.gz", table)
    write_zip(folder / "mimic-cxr-reports.zip", reports)
    return expected
