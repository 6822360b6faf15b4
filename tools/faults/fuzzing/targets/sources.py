"""Sources of training data that are read in place: parquet, data sets on disk, WebDataset."""

import contextlib
import os
import pathlib
import tarfile

from pgjax.data.sources import make_source
from pgjax.errors import DataError
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import folders_of, write_folder
from tools.faults.fuzzing.targets.imports import arrow_files, webdataset


def check_arrow(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Rows are those of pyarrow's other reader."""
    from pyarrow import parquet

    write_folder(folder, files)
    path = folder / next(iter(files), "x.parquet")
    kind = "parquet" if path.suffix == ".parquet" else "datasets"
    source = make_source({"name": kind, "fname": str(path), "suffix": "text"})
    wanted = None
    if kind == "parquet":
        with contextlib.suppress(OSError, ValueError):  # of damaged pages, which are read later
            wanted = parquet.read_table(path)
    if wanted is not None and len(source) != wanted.num_rows:
        raise Wrong(f"{len(source)} rows of {wanted.num_rows}")
    for i in range(min(len(source), 20)):
        source.where(i)
        try:
            example = source[i]
        except DataError:
            continue
        if wanted is not None and example["suffix"] != wanted.column("text")[i].as_py():
            raise Wrong(f"row {i} has {example['suffix']!r}")


def check_tar(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Images are the bytes of the tar's members."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    write_folder(folder, files)
    source = make_source({"name": "webdataset", "fname": str(folder / "x.tar")})
    with tarfile.open(folder / "x.tar") as tar:
        members = [tar.extractfile(member) for member in tar if member.isfile()]
        contents = [member.read() for member in members if member]
    for i in range(len(source)):
        source.where(i)
        try:
            example = source[i]
        except DataError:
            continue
        images = example["image"]
        if any(one not in contents for one in (images if type(images) is list else [images])):
            raise Wrong(f"sample {i} has an image that is no member")


TARGETS = [
    Target("parquet and arrow in place", folders_of(arrow_files), check_arrow, 5),
    Target("WebDataset in place", folders_of(lambda: [webdataset()]), check_tar, 4),
]
