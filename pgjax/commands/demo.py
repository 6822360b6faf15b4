"""`pgjax demo`."""

import importlib.util
import os
from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.errors import UserError


class Demo(Command):
    """Serves a web page to ask checkpoints about images, one or two side by side.

    Boxes and masks are drawn, and can be downloaded. Only this machine can open the page, unless
    --host says otherwise. The page needs gradio: pip install 'paligemma-jax[demo]'.
    """

    name = "demo"
    example = "pgjax demo --checkpoints mix-224,runs/mine"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._checkpoints = self.text(
            "checkpoints", "tiny",
            "Checkpoints to choose from, separated by commas; see pgjax list checkpoints.",
        )  # fmt: skip
        self._quantize = self.choice(
            "quantize", None, ["int8", "int4", "nf4"],
            "Keep the decoder's matrices in 8 or 4 bits; left out: as the checkpoint has them.",
        )  # fmt: skip
        self._host = self.text(
            "host", "127.0.0.1", "Address to listen on; 0.0.0.0 opens the page to the network."
        )
        self._port = self.integer("port", 7860, "Port to listen on.", 1)
        self._names = self.items(
            "names", "Names under which a proxy opens the page; others than this machine's own "
            "are refused.",
        )  # fmt: skip

    def run(self) -> None:
        """Serves until it is interrupted."""
        if importlib.util.find_spec("gradio") is None:
            raise UserError("The demo needs gradio: pip install 'paligemma-jax[demo]'.")
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
        from pgjax.access import warn_if_open
        from pgjax.demo.page_guard import OPEN, private_folder
        from pgjax.loading.compiler_options import cache_compilations

        cache_compilations()
        host, port = self._host.value, self._port.value
        warn_if_open(host, port, OPEN)
        with private_folder() as folder:
            from pgjax.demo.app import serve

            checkpoints = self._checkpoints.value.split(",")
            serve(checkpoints, self._quantize.value, host, port, self._names.value, folder)
