"""Launches, bytes and the peak of buffers, recorded of a module that is run on fake tensors."""

from types import SimpleNamespace

import pytest
import torch
from relatent.benchmarks.codegen.launches import Recorder, replay
from relatent.benchmarks.codegen.summary import summarise
from torch._subclasses.fake_tensor import FakeTensorMode

SOURCE = """
@triton_heuristics.pointwise(
    triton_meta={'signature': {'in_ptr0': '*bf16', 'out_ptr0': '*fp32', 'out_ptr1': '*fp32'}, 'constants': {}},
)
@triton.jit
def doubled(in_ptr0, out_ptr0, out_ptr1):
    tmp0 = tl.load(in_ptr0 + (x0), None)
    tmp1 = tmp0 + tmp0
    tl.store(out_ptr0 + (x0), tmp1, None)
    tl.store(out_ptr1 + (x0), tmp1, None)
"""


@pytest.fixture
def found():
    recorder = Recorder()
    kernel = recorder.kernel("doubled", SOURCE)
    module = SimpleNamespace()

    def call(arguments):
        x, weight = arguments
        arguments.clear()
        a = torch.ops.aten.convolution(x, weight, None, [1, 1], [1, 1], [1, 1], True, [0, 0], 1)  # 32 values a channel
        b = module.empty_strided_cuda((1, 16, 4, 8), (512, 32, 8, 1), torch.float32)
        c = module.empty_strided_cuda((1, 16, 4, 8), (512, 32, 8, 1), torch.float32)
        kernel.run(a, b, c, 512, stream=0)
        del a, c
        flat = module.reinterpret_tensor(b, (16, 32), (32, 1), 0)
        del b
        d = module.empty_strided_cuda((16, 16), (16, 1), torch.float32)
        torch.ops.aten.mm.out(flat, module.reinterpret_tensor(flat, (32, 16), (1, 32), 0), out=d)
        return (d,)

    with FakeTensorMode():
        arguments = [torch.empty(1, 16, 4, 8, dtype=torch.bfloat16, device="cuda:0")]
        arguments.append(torch.empty(16, 16, 3, 3, dtype=torch.bfloat16, device="cuda:0"))
        (result,) = replay(module, call, recorder, arguments)
    assert result.shape == (16, 16)
    return summarise([recorder])


def test_launches_and_bytes(found):
    assert (found["graphs"], found["launches"], found["triton_kernels"]) == (1, 3, 1)
    assert found["extern_kernels"] == {"convolution.default": 1, "mm.out": 1}
    values = 16 * 4 * 8
    assert found["bytes"]["convolution"] == 2 * (values + 16 * 16 * 9 + values)
    assert found["bytes"]["fused"] == (2 + 4 + 4) * values
    assert found["bytes"]["product"] == 4 * (values + 256)  # both factors are the same buffer, read once
    assert found["bytes_without_convolutions"] == found["bytes"]["fused"] + found["bytes"]["product"]


def test_buffers(found):
    values = 16 * 4 * 8
    assert found["argument_bytes"] == 2 * (values + 16 * 16 * 9)
    assert found["peak_bytes"] == (2 + 4 + 4) * values
    assert found["activation_values"] == values
    assert found["fp32_activations"] == 2
    assert found["stored_twice"] == 1
    assert found["convolutions"] == {"transposed, stride 1": 1}
    assert found["cpu_tensors"] == 0
    assert ["float32", [16, 16], 1] in found["buffers"]
