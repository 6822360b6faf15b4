"""`pgjax conformance`."""

from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.commands.output import write_json, write_text


class Conformance(Command):
    """Compares an implementation of PaliGemma with big_vision's outputs, check by check.

    The implementation is reached through an adapter: pgjax, transformers, peft, keras-hub, or a
    class of your own in a file. It is given tiny models of PaliGemma and PaliGemma 2, and its
    tokens, resized images, attention masks, image tokens, logits, losses, gradients, answers, boxes
    and decoded masks are compared with stored ones. The report says for each what differs, by how
    much, and why probably.
    """

    name = "conformance"
    example = "pgjax conformance --adapter pgjax --family paligemma2 --out report.md"
    statuses = {1: "something differs, or an error, said in one sentence on the error stream"}

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._adapter = self.text(
            "adapter", "pgjax",
            "What to check: pgjax, transformers, peft, keras-hub, or path/to/file.py:Class.",
        )  # fmt: skip
        self._family = self.choice(
            "family", None, ["paligemma", "paligemma2"], "The family; left out: both."
        )
        self._out = self.text("out", None, "A Markdown file for the report; left out: the screen.")
        self._json = self.text("json", None, "A file for the same as JSON.")

    def run(self) -> int:
        """Runs the checks and writes the report."""
        from pgjax.conformance.adapter import find_adapter
        from pgjax.conformance.markdown import as_json, markdown
        from pgjax.conformance.suite import run
        from pgjax.conformance.tiny_models import SPECS

        adapter = find_adapter(self._adapter.value)
        families = [self._family.value] if self._family.value else SPECS
        reports = [run(adapter, family, self._adapter.value) for family in families]
        text = markdown(reports)
        if self._out.value:
            write_text("--out", self._out.value, text)
            print(self._out.value)
        else:
            print(text)
        if self._json.value:
            write_json(self._json.value, as_json(reports))
        return int(any(f.is_fault for report in reports for f in report.findings))
