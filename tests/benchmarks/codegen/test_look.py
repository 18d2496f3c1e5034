"""The compiled step of Stable Diffusion's decoder at 512², seen without a GPU, stays within what it takes today."""

import pytest
from relatent.benchmarks.codegen import stub
from relatent.benchmarks.codegen.__main__ import main
from relatent.benchmarks.codegen.look import Request, look
from relatent.benchmarks.codegen.stub import CodegenUnavailableError, build_stub
from relatent.engine.autoencoders.rewrite import DEFAULT_REWRITES, FAST_REWRITES
from relatent.engine.errors import UsageError

# at most: launches, GB without convolutions, GB at the peak, fp32 buffers of activation size, transposed convolutions
BOUNDS = {DEFAULT_REWRITES: (430, 16.5, 2.2, 5, 35), FAST_REWRITES: (290, 9.5, 1.2, 0, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("rewrites", BOUNDS, ids=["plain", "fast"])
def test_the_step_of_stable_diffusion(rewrites, tmp_path):
    try:
        build_stub(tmp_path)
    except CodegenUnavailableError as error:
        pytest.skip(str(error))
    found = look(Request(rewrites=rewrites), code=tmp_path / "code.py")
    assert "async_compile.triton" in (tmp_path / "code.py").read_text()
    assert found["graphs"] == 1
    assert found["cpu_tensors"] == 0
    # docs/codegen.md says what is aimed at
    launches, moved, peak, fp32, transposed = BOUNDS[rewrites]
    assert found["launches"] <= launches
    assert found["bytes_without_convolutions"] <= moved * 1e9
    assert found["peak_bytes"] <= peak * 1e9
    assert found["fp32_activations"] <= fp32
    assert found["stored_twice"] == 0
    assert sum(count for detail, count in found["convolutions"].items() if "transposed" in detail) <= transposed
    assert sum(found["convolutions"].values()) == 72
    assert bool(found["attention"]) == ("explicit_attention" not in rewrites), "written out, or put back"


def test_without_a_compiler_the_reason_is_given(monkeypatch, capsys):
    monkeypatch.setattr(stub.torch.version, "cuda", "13.0")
    monkeypatch.setattr(stub.sys, "platform", "linux")
    monkeypatch.setattr(stub.shutil, "which", lambda name: None)
    assert main([]) == 1
    assert "no C compiler" in capsys.readouterr().err


def test_a_torch_without_cuda_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(stub.sys, "platform", "linux")
    monkeypatch.setattr(stub.torch.version, "cuda", None)
    with pytest.raises(CodegenUnavailableError, match="without CUDA"):
        build_stub(tmp_path)


@pytest.mark.parametrize("wrong", [{"size": 60}, {"size": 0}, {"batch": 0}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UsageError, match="multiple of 8"):
        Request(**wrong)
