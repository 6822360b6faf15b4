"""MIMIC-CXR: radiographs of the chest, with reports."""

import re
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space
from pgjax.errors import DataError

_HEADING = re.compile(r"^ *([A-Z][A-Z ()/,&-]*):", re.MULTILINE)
# What a section is called, from the usual name to rare ones.
_NAMES = {
    "FINDINGS": ("FINDINGS", "FINDING"),
    "IMPRESSION": ("IMPRESSION", "IMPRESSIONS", "CONCLUSION"),
    "INDICATION": ("INDICATION", "CLINICAL INFORMATION", "CLINICAL HISTORY", "HISTORY"),
}


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per radiograph; those of a study share its report."""
    name = "mimic-cxr-2.0.0-split.csv"
    for row in files.csv(files.first(name, f"{name}.gz")):
        if row["split"] == split:
            subject = f"p{row['subject_id']}"
            study = f"files/{subject[:3]}/{subject}/s{row['study_id']}"
            yield {
                "image": files[f"{study}/{row['dicom_id']}.jpg"],
                "image_id": row["dicom_id"],
                "study_id": int(row["study_id"]),
                "report": files[f"{study}.txt"],
            }


def sections(report: str) -> dict[str, str]:
    """The texts of a report by heading, each on one line; of equal headings, the last one's."""
    _, *parts = _HEADING.split(report)
    texts = {h: clean_space(t) for h, t in zip(parts[::2], parts[1::2], strict=True)}
    found = {}
    for name, headings in _NAMES.items():
        found[name] = next((texts[h] for h in headings if texts.get(h)), "")
    return found


def build(example: Example) -> Example:
    """Takes findings and impression out of the report.

    Raises:
      DataError: it has neither.
    """
    found = sections(example.pop("report").read().decode(errors="replace"))
    parts = [f"{name}: {found[name]}" for name in ("FINDINGS", "IMPRESSION") if found[name]]
    if not parts:
        raise DataError("the report has neither findings nor an impression")
    return {**example, "indication": found["INDICATION"], "answers": [" ".join(parts)]}


READER = Reader(
    about="MIMIC-CXR: radiographs of the chest with reports (arXiv:1901.07042).",
    where="""\
https://physionet.org/content/mimic-cxr-jpg/2.1.0 (credentialed access): the folder files, and
mimic-cxr-2.0.0-split.csv.gz, as it is or unpacked;
https://physionet.org/content/mimic-cxr/2.1.0: mimic-cxr-reports.zip.
Radiographs whose report has neither findings nor an impression are left out, some per cent.
PaliGemma 2's authors had a language model remove what reports say of earlier radiographs; this does
not.""",
    licence="PhysioNet Credentialed Health Data License 1.5.0.",
    key="image_id",
    features={
        "image": IMAGE, "image_id": str, "study_id": int, "indication": str, "answers": [str],
    },
    splits={"train": 368_960, "validate": 2_991, "test": 5_159},
    read=read,
    build=build,
)  # fmt: skip
