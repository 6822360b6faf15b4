"""Who may use the page, and where its files lie."""

import contextlib
import os
import pathlib
import re
import signal
import sys
import tempfile
from collections.abc import Iterator

from pgjax.access import OwnPagesOnly, Scope

OPEN = (
    "opens the page to the network: whoever reaches port {port} of this machine can ask its "
    "checkpoints, without a password and without encryption"
)
# Gradio would fetch other sites for a visitor; nothing on this page needs it.
_FETCHES = re.compile(r"/(?:gradio_api/)?(?:file=\s*https?:|proxy=)", re.IGNORECASE)


@contextlib.contextmanager
def private_folder() -> Iterator[pathlib.Path]:
    """A folder for the page's files, which only this user can read, and which is deleted at last.

    Gradio, which must not have been imported before, keeps its uploads there.
    """
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # which cleans up
    with tempfile.TemporaryDirectory(prefix="pgjax_demo_") as folder:
        uploads = pathlib.Path(folder) / "uploads"
        uploads.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        yield pathlib.Path(folder)


class PageGuard(OwnPagesOnly):
    """Refuses, beside what comes from other sites, requests to fetch something from them."""

    def problem(self, scope: Scope) -> str:
        """Why a request is refused, in one sentence; "" where it is not."""
        fetches = _FETCHES.match(scope["path"])
        refused = "This page fetches nothing from other sites." if fetches else ""
        return super().problem(scope) or refused
