"""transformers and peft through the suite: where they differ is known, and told with its cause."""

import pytest

from pgjax.conformance.adapter import find_adapter
from pgjax.conformance.suite import run

# What differs, with its cause.
KNOWN = {
    "tokens": "the line break is tokenized together with the prompt",
    "image": "this is bicubic resizing",
    "beam answers": "an answer ends only where eos is among the best candidates",
    "loss of a batch": "mean over all tokens of the batch",
}


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["transformers", "peft"])
@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_what_differs_is_known(name, family):
    for package in ("torch", "transformers", name):
        pytest.importorskip(package)
    findings = {x.check: x for x in run(find_adapter(name), family).findings}
    for check, found in findings.items():
        if check in KNOWN:
            assert found.result == "differs" and KNOWN[check] in found.text, found
        elif check in ("boxes", "decoded mask"):
            assert found.result == "not offered"
        else:
            assert found.result == "agrees", found
