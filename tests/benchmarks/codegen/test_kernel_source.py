"""What is read from the sources of Triton kernels, as Inductor writes them."""

from relatent.benchmarks.codegen.kernel_source import read_kernel

GENERATED = """
@triton_heuristics.pointwise(
    triton_meta={'signature': {'in_ptr0': '*bf16', 'in_out_ptr0': '*fp32', 'out_ptr0': '*bf16', 'out_ptr1': '*bf16',
    'xnumel': 'i32'}, 'device': DeviceProperties(type='cuda'), 'constants': {}},
)
@triton.jit
def fused(in_ptr0, in_out_ptr0, out_ptr0, out_ptr1, xnumel, XBLOCK: tl.constexpr):
    x0 = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)
    tmp0 = tl.load(in_ptr0 + (x0), None).to(tl.float32)
    tmp1 = tl.load(in_out_ptr0 + (x0), None)
    tmp2 = tmp0 + tmp1
    tl.store(in_out_ptr0 + (x0), tmp1, None)
    tl.store(out_ptr0 + (x0), tmp2, None)
    tl.store(out_ptr1 + (x0), tmp2, None)
"""

COPY = """
@triton_heuristics.pointwise(
    triton_meta={'signature': {'in_ptr0': '*fp32', 'out_ptr0': '*bf16'}, 'constants': {}},
)
@triton.jit
def copying(in_ptr0, out_ptr0):
    tmp0 = tl.load(in_ptr0 + (x0), None)
    tmp1 = tmp0.to(tl.float32)
    tl.store(out_ptr0 + (x0), tmp1, None)
"""

WRITTEN = """
@triton_heuristics.user_autotune(
    triton_meta={'signature': {'x': '*bf16', 'residual': '*bf16', 'total': '*bf16', 'y': '*bf16', 'ADD': 'constexpr'},
    'constants': {'ADD': %s}},
    custom_kernel=True,
)
@triton.jit
def written(x, residual, total, y, ADD: tl.constexpr):
    s = tl.load(x + offsets)
    if ADD:
        s = s + tl.load(residual + offsets)
        tl.store(total + offsets, s)
    tl.store(y + offsets, s.to(y.dtype.element_ty))
"""


def test_pointers_of_a_generated_kernel():
    found = read_kernel("fused", GENERATED)
    assert found.generated
    assert not found.copies
    assert found.pointers == ["in_ptr0", "in_out_ptr0", "out_ptr0", "out_ptr1"]
    assert found.reads == {"in_ptr0", "in_out_ptr0"}
    assert found.writes == {"in_out_ptr0", "out_ptr0", "out_ptr1"}
    assert found.repeated == [{"out_ptr0", "out_ptr1"}]


def test_a_kernel_that_only_converts_is_a_copy():
    found = read_kernel("copying", COPY)
    assert found.copies
    assert found.repeated == []


def test_branches_that_a_constant_rules_out_are_not_counted():
    without, with_sum = (read_kernel("written", WRITTEN % flag) for flag in (False, True))
    assert (without.reads, without.writes) == ({"x"}, {"y"})
    assert (with_sum.reads, with_sum.writes) == ({"x", "residual"}, {"total", "y"})
    assert not without.generated
    assert not without.copies
