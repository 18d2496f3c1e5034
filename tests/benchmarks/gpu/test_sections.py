"""What the sections compare, at sizes where the result is known."""

import sys
from types import SimpleNamespace

import pytest
import torch
from relatent.benchmarks.bench_step import Problem
from relatent.benchmarks.gpu.sections import captured, convolutions, iteration
from relatent.benchmarks.gpu.sections.decoders import impose_ranks
from relatent.benchmarks.gpu.sections.encoder import SDEncoder
from relatent.benchmarks.gpu.sections.kernel_bytes import kernel_bytes
from relatent.benchmarks.profile import busy_microseconds
from relatent.benchmarks.sd_decoder import CHANNELS
from relatent.benchmarks.timing import alternate
from relatent.engine.autoencoders.rewrite import DEFAULT_REWRITES
from relatent.engine.optimization.runners import EagerRunner

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def problem():
    return Problem(CPU, small=True)


def _runner(problem, decoder="rewritten"):
    slots, step = problem.slots(decoder, "bf16", 2, 32)
    return EagerRunner(step, slots)


def test_equal_loops_are_found_equal_and_others_not(problem, monkeypatch):
    monkeypatch.setattr(captured, "SIZE", 32)
    found = captured.compare(problem, _runner(problem), {"same": _runner(problem)})
    assert found["largest_gain_difference_db"] == 0.0
    assert all(row["equal_bits"] for row in found["rows"])
    assert [row["pictures"] for row in found["rows"]] == ["first", "second, in place"]
    assert "error" not in found

    class Stale(EagerRunner):
        """Like a graph that does not see what was written over its inputs."""

        def run(self, iterations):
            super().run(iterations // 2)

    slow = Stale(_runner(problem).step, _runner(problem).slots)
    found = captured.compare(problem, slow, {"other": _runner(problem)})
    assert "off by" in found["error"]


def test_the_decoders_convolutions():
    found = convolutions.shapes(CHANNELS, 32, 512)
    assert found[512, 512, 3, 64, False] == 10
    assert found[512, 512, 3, 64, True] == 1
    assert found[128, 3, 3, 512, False] == 1
    assert found[256, 256, 3, 256, True] == 1
    assert sum(found.values()) == 36


def test_a_wrong_way_is_not_timed(monkeypatch):
    monkeypatch.setattr(convolutions, "turn", lambda weight: weight.transpose(0, 1))  # not flipped
    shape = (8, 8, 3, 8, False)
    row = convolutions._row(shape, 1, "gradient", convolutions._ways(shape, 1, CPU)["gradient"], CPU, None)
    assert row["wrong"] == "flipped"
    assert set(row["seconds"]) == {"autograd"}


def test_imposed_ranks_are_used(problem):
    low_rank = impose_ranks(problem.decoder, DEFAULT_REWRITES)
    assert low_rank.factors
    project, expand = next(iter(low_rank.factors.values()))[0]
    assert project.shape == (expand.shape[0] // 2, expand.shape[0])
    slots, step = problem.slots("rewritten", "bf16", 1, 32, low_rank=low_rank)
    exact, exact_step = problem.slots("rewritten", "bf16", 1, 32)
    step(slots)
    exact_step(exact)
    assert torch.equal(slots.losses[:, 0], exact.losses[:, 0])  # the forward pass is exact
    assert not torch.allclose(slots.latents, exact.latents)


def test_the_encoder_has_the_decoders_latents(problem):
    encoder = SDEncoder((8, 8, 16, 16), 4)
    latents = encoder(torch.randn(2, 3, 32, 48))
    assert latents.shape == (2, 4, 4, 6)
    assert latents.std(correction=0).item() == pytest.approx(1.0, abs=0.05)


def test_bytes_of_the_compilers_kernels(monkeypatch):
    def kernel(name, gigabytes):
        return SimpleNamespace(inductor_meta={"kernel_name": name, "kernel_num_gb": gigabytes})

    module = SimpleNamespace(a=kernel("triton_a", 0.5), other=3, b=kernel("triton_b", None))
    cache = SimpleNamespace(PyCodeCache=SimpleNamespace(modules=[module]))
    monkeypatch.setitem(sys.modules, "torch._inductor.codecache", cache)
    assert kernel_bytes() == {"triton_a": 0.5e9}
    profile = {
        "busy_share": 0.9,
        "kernels": {"triton_a": 2.0, "convolution": 3.0},
        "calls": {"triton_a": 4, "convolution": 1},
    }
    monkeypatch.setattr(iteration, "busy_share", lambda *arguments, **options: dict(profile))
    found = iteration._profile(None, CPU)
    assert found["kernel_bytes_per_second"] == {"triton_a": 1e12}  # four calls of 0.5 GB in 2 ms
    monkeypatch.setattr(iteration, "busy_share", lambda *arguments, **options: 1 / 0)
    assert "ZeroDivisionError" in iteration._profile(None, CPU)["profile_error"]


def test_busy_time_counts_overlaps_once():
    assert busy_microseconds([(0.0, 10.0, "a"), (2.0, 4.0, "b"), (8.0, 12.0, "c"), (20.0, 21.0, "d")]) == 13.0


def test_alternating_calls_in_turn_and_leaves_out_the_first_round():
    calls = []
    found = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, CPU, repeats=2)
    assert "".join(calls) == "ababab"
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}
