"""What programs cost, against numbers worked out by hand."""

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from pgjax.devices.hlo import Array, parse
from pgjax.devices.products import product_flops
from pgjax.devices.program_cost import program_cost
from pgjax.errors import UserError

HERE = pathlib.Path(__file__).parent


def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)


def cost(f, *args, **kwargs):
    return program_cost(jax.jit(f).lower(*args).compile().as_text(), **kwargs)


@pytest.fixture(scope="module")
def texts(command):
    return json.loads(command(HERE / "programs.py", devices=8).stdout)


def test_a_product():
    c = cost(lambda x, w: x @ w, shape(32, 64), shape(64, 128))
    assert c.flops_of_bits == {32: 2 * 32 * 64 * 128}
    assert c.memory_bytes == 4 * (32 * 64 + 64 * 128 + 32 * 128)
    assert not c.collectives


def test_a_loop_counts_as_often_as_it_runs():
    def f(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    c = cost(f, shape(32, 256), shape(5, 256, 256))
    assert c.flops == 5 * 2 * 32 * 256 * 256
    # Each layer's weights are read once, as a slice of their stack, and the slice is written and
    # read again where it is not part of the product; the activations are small beside them.
    weights, activations = 4 * 5 * 256 * 256, 4 * 5 * 32 * 256
    assert weights + 2 * activations <= c.memory_bytes <= 3 * weights + 8 * activations


def test_a_loop_that_data_end():
    def f(x, n):
        return jax.lax.fori_loop(0, n, lambda _, x: x @ x, x)

    text = jax.jit(f).lower(shape(16, 16), shape(dtype=jnp.int32)).compile().as_text()
    once = 2 * 16**3
    assert program_cost(text).flops == once
    assert program_cost(text, unknown_trips=7).flops == 7 * once


def test_of_a_condition_the_costliest_branch_counts():
    def f(x, yes):
        return jax.lax.cond(yes, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert cost(f, shape(16, 16), shape(dtype=jnp.bool_)).flops == 2 * 2 * 16**3


def test_a_convolution():
    """Patches of 4×4 and 3 channels; with padding, only what falls on the image counts."""

    def f(x, w, padding="VALID", stride=4):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=numbers
        )

    args = shape(2, 8, 8, 3), shape(4, 4, 3, 16)
    assert cost(f, *args).flops == 2 * 2 * (2 * 2) * (4 * 4 * 3) * 16
    # Along an axis of 8, a window of 3 with one of padding on either side hits 8 × 3 − 2.
    padded = cost(lambda x, w: f(x, w, "SAME", 1), shape(2, 8, 8, 3), shape(3, 3, 3, 16))
    assert padded.flops == 2 * 2 * 22**2 * 3 * 16


def test_gathers_in_a_loop(texts):
    c = program_cost(texts["gather"])
    (gather,) = c.collectives
    assert (gather.kind, gather.group, gather.times) == ("all-gather", 8, 3)
    assert gather.results[0].size == 64 * 64 and gather.dtype == "f32"
    assert "while" in gather.op_name
    assert c.collective_bytes == {"all-gather": 3 * 7 * 64 * 64 * 4 / 8}
    assert c.collective_counts == {"all-gather": 3}
    assert c.flops == 3 * 2 * 2 * 64 * 64  # two of the sixteen rows


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("all-reduce", 2 * 7 / 8),
        ("reduce-scatter", 7 / 8),
        ("all-to-all", 7 / 8),
        ("collective-permute", 1),
    ],
)
def test_bytes_of_collectives(texts, kind, share):
    c = program_cost(texts[kind])
    assert c.collective_bytes == {kind: share * 16 * 32 * 4}
    assert c.collective_counts == {kind: 1}


def test_updates_in_place_count_as_the_update():
    def f(x, row, i):
        return jax.lax.dynamic_update_slice_in_dim(x, row, i, axis=0)

    jitted = jax.jit(f, donate_argnums=0)
    args = shape(1024, 64), shape(1, 64), shape(dtype=jnp.int32)
    c = program_cost(jitted.lower(*args).compile().as_text())
    assert c.memory_bytes <= 3 * 64 * 4


HEAD = "HloModule m, num_partitions=8\n\n%add (a: f32[], b: f32[]) -> f32[] {\n"
ADD = (
    "  %a = f32[] parameter(0)\n  %b = f32[] parameter(1)\n  ROOT %s = f32[] add(%a, %b)\n}\n\n"
    "ENTRY %main (p: bf16[8,64]) -> bf16[64,64] {\n  %p = bf16[8,64]{1,0} parameter(0)\n"
)


@pytest.mark.parametrize(
    ("line", "kind", "sent", "group"),
    [
        (
            "%g = (bf16[8,64]{1,0}, bf16[64,64]{1,0}) all-gather-start(%p), channel_id=1, "
            "replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={0}",
            "all-gather", 7 * 1024, 8,
        ),
        (
            "%g = (bf16[8,64]{1,0}, bf16[32,64]{1,0}) all-gather-start(bf16[8,64]{1,0} %p), "
            "replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}",
            "all-gather", 3 * 1024, 4,
        ),
        (
            "%g = bf16[8,64]{1,0:T(8,128)(2,1)S(1)} all-reduce(%p), "
            "replica_groups=[2,4]<=[8], to_apply=%add",
            "all-reduce", 2 * 3 / 4 * 1024, 4,
        ),
        (
            "%g = ((bf16[8,64]{1,0}), bf16[4,64]{1,0}) reduce-scatter-start(%p), "
            "replica_groups={{0,1},{2,3},{4,5},{6,7}}, dimensions={0}, to_apply=%add",
            "reduce-scatter", 512, 2,
        ),
        ("%g = bf16[8,64]{1,0} all-reduce(%p), replica_groups={}, to_apply=%add",
         "all-reduce", 2 * 7 / 8 * 1024, 8),
        ("%g = bf16[8,64]{1,0} all-to-all(%p), replica_groups={{0},{1}}, dimensions={0}",
         "all-to-all", 0, 1),
        (
            "%g = (bf16[8,64]{1,0}, bf16[8,64]{1,0}, u32[], u32[]) collective-permute-start(%p), "
            "source_target_pairs={{0,1},{1,0}}",
            "collective-permute", 1024, 2,
        ),
    ],
)  # fmt: skip
def test_ways_to_write_collectives(line, kind, sent, group):
    """Synchronous and asynchronous, and the three forms of groups."""
    text = f"{HEAD}{ADD}  {line}\n  ROOT %r = bf16[8,64]{{1,0}} copy(%p)\n}}\n"
    (found,) = program_cost(text).collectives
    assert (found.kind, found.sent, found.group) == (kind, sent, group)
    assert all(r.dtype == "bf16" for r in found.results)


LIBRARY = """HloModule m

ENTRY %main (q: f16[2,256,8,64], k: f16[2,384,1,64], w: f16[16,32], x: f16[64,16]) -> f16[64,32] {
  %q = f16[2,256,8,64]{3,2,1,0} parameter(0)
  %k = f16[2,384,1,64]{3,2,1,0} parameter(1)
  %w = f16[16,32]{1,0} parameter(2)
  %x = f16[64,16]{1,0} parameter(3)
  %a = (f16[2,256,8,64]{3,2,1,0}, u8[0]{0}) custom-call(%q, %k, %k), custom_call_target="__cudnn$fmhaSoftmax", backend_config={"fmha":{"scale":1}}
  ROOT %m = (f16[64,32]{1,0}, s8[4096]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"beta":0,"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
}
"""  # noqa: E501


def test_calls_of_libraries():
    module = parse(LIBRARY)
    entry = module.computations[module.entry]
    flops = {n: product_flops(entry, i) for n, i in entry.instructions.items()}
    assert flops["a"] == (16, 4 * 2 * 256 * 8 * 64 * 384)
    assert flops["m"] == (16, 2 * 64 * 16 * 32)
    q, k = 2 * 256 * 8 * 64, 2 * 384 * 64  # the workspaces are not traffic
    assert program_cost(LIBRARY).memory_bytes == 2 * (2 * q + k + 64 * 16 + 16 * 32 + 64 * 32)


def test_tpu_loops_say_their_trip_count_by_their_condition():
    text = """HloModule m

%cond (c: (s32[], f32[4,4])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)}) parameter(0)
  %end = s32[]{:T(128)} constant(9)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %end), direction=LT
}

%body (b: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %b = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%b), index=0
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%j, %two)
  %x = f32[4,4]{1,0:T(8,128)} get-tuple-element(%b), index=1
  %y = f32[4,4]{1,0:T(8,128)S(1)} convolution(%x, %x), dim_labels=bf_io->bf
  ROOT %t = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)}) tuple(%next, %y)
}

ENTRY %main (p: f32[4,4]) -> (s32[], f32[4,4]) {
  %p = f32[4,4]{1,0:T(8,128)} parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %start = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)}) tuple(%one, %p)
  ROOT %loop = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)}) while(%start), condition=%cond, body=%body
}
"""
    found = program_cost(text, unknown_trips=100)
    assert found.flops == 4 * 2 * 4**3  # from 1 to 9 by steps of 2
    # The operand is read from memory once, and the result stays in the fast memory, S(1); the
    # counter takes two reads and a write.
    assert found.memory_bytes == 4 * (4 * 16 + 3 * 4)


def test_sizes_of_arrays():
    assert Array("pred", (3,)).nbytes == 3 and Array("s4", (3,)).nbytes == 2
    assert Array("f8e4m3fn", (2, 2)).bits == 8 and Array("bf16", ()).nbytes == 2


def test_what_is_no_program():
    with pytest.raises(UserError, match="no ENTRY computation"):
        program_cost("HloModule m\n")
