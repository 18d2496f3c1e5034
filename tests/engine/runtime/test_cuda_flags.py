"""Scoped settings of CUDA's libraries, through both of torch's interfaces; they can be set without a GPU."""

import pytest
import torch
from relatent.engine.runtime.cuda_flags import exact_fp32, tuned_convolutions

CUDNN, MATMUL = torch.backends.cudnn, torch.backends.cuda.matmul


def state():
    return CUDNN.conv.fp32_precision, MATMUL.fp32_precision


@pytest.fixture(params=["default", "older", "newer", "newer, convolutions apart", "all"])
def tf32(request):
    """TF32 as a caller may have allowed it; torch's defaults afterwards."""
    if request.param == "older":
        torch.set_float32_matmul_precision("high")
    elif request.param.startswith("newer"):
        MATMUL.fp32_precision = "tf32"
        if request.param != "newer":
            CUDNN.rnn.fp32_precision = "ieee"
    elif request.param == "all":
        torch.backends.fp32_precision = "tf32"
    yield request.param
    torch.backends.fp32_precision = "none"
    CUDNN.rnn.fp32_precision = CUDNN.conv.fp32_precision = "tf32"
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = "none"


def test_tf32_is_off_inside_and_back_afterwards(tf32):
    before = state()
    assert "tf32" in before
    with exact_fp32():
        assert "tf32" not in state()
        with exact_fp32():
            assert "tf32" not in state()
        assert "tf32" not in state()
    assert state() == before
    if tf32 in ("default", "older"):
        assert CUDNN.allow_tf32
        assert torch.get_float32_matmul_precision() == ("highest" if tf32 == "default" else "high")


def test_it_is_a_decorator_and_outlives_errors():
    before = state()

    @exact_fp32()
    def fail():
        assert "tf32" not in state()
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert state() == before


def test_cudnn_is_tuned_inside_alone():
    with tuned_convolutions():
        assert CUDNN.benchmark
    assert not CUDNN.benchmark
