"""The shapes that signatures state are checked while the tests run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from pgjax.decoding.samplers import top_k
from pgjax.models.attention import attend
from pgjax.models.paligemma import PaliGemma, make_attn_mask


def test_wrong_shapes_and_dtypes_are_refused():
    q, k = jnp.zeros((2, 3, 4, 8)), jnp.zeros((2, 5, 1, 8))
    assert attend(q, k, k).shape == q.shape
    with pytest.raises(TypeCheckError, match="parameter 'v'"):
        attend(q, k, k[:, :4])
    with pytest.raises(TypeCheckError, match="parameter 'mask'"):
        jax.jit(attend)(q, k, k, jnp.ones((2, 3, 5), jnp.int32))
    with pytest.raises(TypeCheckError, match="parameter 'mask_ar'"):
        make_attn_mask(np.ones((2, 3), bool), np.ones((2, 4), np.int32))


def test_methods_of_modules_are_checked_and_modules_can_be_built():
    assert PaliGemma.extend.__wrapped__ and top_k(2)(jax.random.key(0), jnp.zeros(4)).shape == ()
