"""The names of released checkpoints."""

import pytest

from pgjax.checkpoints import released


def test_every_released_checkpoint_of_paligemma_2_is_there():
    names = {name for name in released.RELEASES if name.startswith("paligemma2-")}
    assert names == {
        *(f"paligemma2-{s}-pt-{r}" for s in ("3b", "10b", "28b") for r in (224, 448, 896)),
        *(f"paligemma2-{s}-mix-{r}" for s in ("3b", "10b", "28b") for r in (224, 448)),
        "paligemma2-3b-ft-docci-448", "paligemma2-10b-ft-docci-448",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "file", "kaggle"),
    [
        (("pt-224.f16", "paligemma-3b-pt-224.f16", "paligemma-3b-pt-224.f16.npz"),
         "paligemma-3b-pt-224.f16.npz", "google/paligemma/jax/paligemma-3b-pt-224"),
        (("mix-448.bf16", "mix-448.b16", "paligemma-3b-mix-448.b16.npz"),
         "paligemma-3b-mix-448.bf16.npz", "google/paligemma/jax/paligemma-3b-mix-448"),
        (("paligemma2-10b-pt-896", "paligemma2-10b-pt-896.bf16", "paligemma2-10b-pt-896.b16",
          "paligemma2-10b-pt-896.b16.npz"),
         "paligemma2-10b-pt-896.b16.npz", "google/paligemma-2/jax/paligemma2-10b-pt-896"),
    ],
)  # fmt: skip
def test_names_in_a_precision(names, file, kaggle):
    found = {released.get(name) for name in names}
    (release,) = found
    assert (release.file, release.kaggle) == (file, kaggle)
    assert file.replace(".bf16.", ".b16.") in release.files


@pytest.mark.parametrize(
    "name", ["paligemma2-3b-pt-224.f16", "paligemma2-28b-ft-docci-448", "pt-224.npz"]
)
def test_names_that_do_not_exist(name):
    assert released.get(name) is None
