"""What tests look at in executed notebooks."""

import base64
import io
import re

from PIL import Image


def outputs(notebook):
    for cell in notebook["cells"]:
        yield from cell.get("outputs", ())


def text_of(notebook):
    return "".join("".join(out.get("text", "")) for out in outputs(notebook))


def pictures(notebook):
    for out in outputs(notebook):
        for kind in ("image/jpeg", "image/png"):
            if data := out.get("data", {}).get(kind):
                yield Image.open(io.BytesIO(base64.b64decode("".join(data))))
                break


def check(notebook, least):
    """No cell and no command failed, and so many pictures show something."""
    assert all(out["output_type"] != "error" for out in outputs(notebook))
    said = text_of(notebook)
    failed = re.search(r".*(?:error:|Traceback|No such file).*", said)
    assert not failed, failed[0]
    found = list(pictures(notebook))
    assert len(found) >= least
    for picture in found:  # something is drawn
        assert len(set(picture.convert("RGB").reduce(4).getdata())) > 20
