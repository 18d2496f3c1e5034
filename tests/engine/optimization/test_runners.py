"""Lengths of replays, iterations past the end, what a step falls back to, and the settings that it runs with."""

import pytest
import torch
from helpers import started
from relatent import OptimizationConfig
from relatent.engine.optimization import runners
from relatent.engine.optimization.runners import (
    REPLAY,
    CompiledRunner,
    EagerRunner,
    build_runner,
    choose_mode,
    replay_length,
)  # fmt: skip
from relatent.engine.optimization.slots import Slots
from relatent.engine.optimization.step import build_step


class Recorded:
    """A step that records the settings under which it is called."""

    def __init__(self):
        self.seen = []

    def __call__(self, slots):
        self.seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark))


@pytest.fixture
def uncompiled(monkeypatch):
    """`torch.compile` gives the function itself, so that runners can be watched."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)


def slots_in(dtype):
    return Slots.empty(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 16, 16), OptimizationConfig(iterations=2), dtype)


def test_how_long_replays_are():
    assert [replay_length(n, 10) for n in (50, 46, 37, 12, 7, 1)] == [10, 2, 2, 6, 7, 1]
    for iterations in range(1, 200):
        length = replay_length(iterations, 10)
        replays = -(-iterations // length)
        assert replays * (length + REPLAY) <= iterations * (1 + REPLAY), "one by one they would be faster"
    assert choose_mode("auto", torch.device("cpu")) == "eager"
    assert choose_mode("on", torch.device("cpu")) == "compiled"
    assert choose_mode("auto", torch.device("cuda")) == "captured"
    assert choose_mode("off", torch.device("cuda")) == "eager"


@pytest.mark.parametrize("precondition", [False, True])
def test_iterations_past_the_end_change_nothing(small_vae, targets, precondition):
    """Images of different progress in one batch, as refilling leaves them; one has stopped by its target, one is idle."""
    config = OptimizationConfig(
        iterations=5, target_gain=60.0, convergence_threshold=1e-9, convergence_window=2, precondition=precondition
    )
    targets = targets[[0, 1, 2, 0]]
    slots = started(small_vae, targets, config)
    slots.max_steps.copy_(torch.tensor([5, 3, 5, 5]))
    slots.active[3] = False
    step = build_step(small_vae.loop_decoder("fp32"), config, torch.device("cpu"))
    step(slots)
    slots.target_error[2] = 1e9
    for _ in range(4):
        step(slots)
    assert slots.step.tolist() == [5, 3, 1, 0]
    assert not slots.active.any()
    before = {name: getattr(slots, name).detach().clone() for name in Slots.names()}
    for _ in range(3):
        step(slots)
    for name, expected in before.items():
        found = getattr(slots, name).detach()
        if name in ("losses", "best_history"):  # the last column is for idle slots
            found, expected = found[:, :-1], expected[:, :-1]
        if name == "target_error":  # of a slot without an image it means nothing, and is set when one comes
            found, expected = found[:3], expected[:3]
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, msg=name)


def test_what_cannot_be_captured_runs_compiled_and_says_so(uncompiled, monkeypatch, caplog):
    class Uncapturable:
        def __init__(self, runner, per_replay):
            raise self.error("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(runners, "CapturedRunner", Uncapturable)
    Uncapturable.error = RuntimeError
    assert isinstance(build_runner(Recorded(), slots_in(torch.bfloat16), "captured", 2), CompiledRunner)
    (message,) = caplog.messages
    assert message.endswith("runs compiled, which is slower: operation not permitted when stream is capturing")
    eager = build_runner(Recorded(), slots_in(torch.bfloat16), "captured", 2, compiled=False)
    assert isinstance(eager, EagerRunner)
    Uncapturable.error = torch.OutOfMemoryError
    with pytest.raises(torch.OutOfMemoryError):
        build_runner(Recorded(), slots_in(torch.bfloat16), "captured", 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp32_is_exact_and_cudnn_is_tuned_once(uncompiled, dtype):
    step, tf32 = Recorded(), dtype != torch.float32
    runner = CompiledRunner(step, slots_in(dtype))
    runner.run(2)
    assert step.seen == [(tf32, True), (tf32, False), (tf32, False)]
    eager = EagerRunner(step, runner.slots)
    runner.slots.active.fill_(True)
    eager.run(1)
    assert step.seen[3:] == [(tf32, False)]
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
