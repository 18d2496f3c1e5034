"""Attention that is written out against diffusers' own: outputs, gradients, sizes, and that the compiler leaves it written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from relatent.engine.autoencoders import attention as module
from relatent.engine.autoencoders.attention import SpatialAttention, explicit_attention
from relatent.engine.optimization.runners import DYNAMO
from torch import nn

CHANNELS = 32


def diffusers_attention(**changes):
    torch.manual_seed(5)
    settings = dict(heads=1, dim_head=CHANNELS, norm_num_groups=4, eps=1e-6, residual_connection=True, bias=True)
    attention = Attention(CHANNELS, **(settings | changes)).requires_grad_(False)
    for parameter in attention.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))  # biases too, and scores that are not all alike
    return UNetMidBlock2D(attention)


class UNetMidBlock2D(nn.Module):
    """The attention of diffusers' block of that name, which is recognised by it, without what is around it."""

    def __init__(self, attention):
        super().__init__()
        self.attentions = nn.ModuleList([attention])

    def forward(self, x):
        return self.attentions[0](x, temb=None)


def output_and_gradient(decoder, x, pull):
    x = x.clone().requires_grad_(True)
    output = decoder(x)
    return output.detach(), torch.autograd.grad(output, x, pull)[0]


def error(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("most", [module.MOST_SCORES, 0], ids=["written out", "too large"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_outputs_and_gradients_are_diffusers_own(monkeypatch, dtype, bound, most):
    monkeypatch.setattr(module, "MOST_SCORES", most)
    own = diffusers_attention()
    written = copy.deepcopy(own)
    assert explicit_attention(written) == 1
    assert isinstance(written.attentions[0], SpatialAttention)
    x, pull = torch.randn(2, 2, CHANNELS, 6, 5).to(dtype).unbind(0)
    x, pull = (each.contiguous(memory_format=torch.channels_last) for each in (x, pull))
    expected = output_and_gradient(copy.deepcopy(own).double(), x.double(), pull.double())
    found = output_and_gradient(written.to(dtype), x, pull)
    rounded = output_and_gradient(own.to(dtype), x, pull)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for ours, theirs, exact, from_input in zip(found, rounded, expected, (x, pull), strict=True):
        changed = exact - from_input.double()  # what the attention adds, without the residual connection
        assert changed.norm() > 0.3 * exact.norm()
        assert error(ours - from_input, changed) <= max(bound, 2 * error(theirs - from_input, changed))
        assert error(ours, exact) < bound


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 2, "dim_head": CHANNELS // 2}, {"residual_connection": False}, {"rescale_output_factor": 2.0},
        {"norm_num_groups": None}, {"spatial_norm_dim": 4}, {"qk_norm": "layer_norm"},
        {"cross_attention_dim": 8},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_it_does_not_know_is_left_alone(changes):
    attention = diffusers_attention(**changes)
    assert explicit_attention(attention) == 0
    assert type(attention.attentions[0]) is Attention


def test_the_size_of_the_scores_decides(monkeypatch):
    calls = []
    attention = diffusers_attention()
    explicit_attention(attention)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda query, *rest, **options: calls.append(query) or query)
    for batch, side, fits in ((8, 64, True), (32, 64, True), (2, 128, True), (33, 64, False), (3, 128, False)):
        calls.clear()
        with torch.device("meta"):
            copied = copy.deepcopy(attention).to("meta", torch.bfloat16)
            copied(torch.empty(batch, CHANNELS, side, side, dtype=torch.bfloat16))
        assert bool(calls) != fits


@pytest.mark.slow
def test_the_compiler_leaves_it_written_out():
    """With its gradient in the same region, as in the step; without one it would be replaced."""
    from torch._dynamo.utils import counters

    attention = diffusers_attention()
    explicit_attention(attention)
    x, pull = torch.randn(2, 1, CHANNELS, 4, 4).unbind(0)

    x.requires_grad_(True)

    def step(x):
        return torch.autograd.grad(attention(x), x, pull)[0]

    counters.clear()
    # code that an earlier process has compiled would be taken from a cache, and nothing counted
    with torch._inductor.config.patch(force_disable_caches=True), torch._dynamo.config.patch(DYNAMO):
        found = torch.compile(step, fullgraph=True)(x)
        assert counters["inductor"]["fuse_attention"] == 0
        with torch.no_grad():
            torch.compile(attention, fullgraph=True)(x)
    assert counters["inductor"]["fuse_attention"] == 1, "no longer counted: the test says nothing"
    torch.testing.assert_close(found, step(x), rtol=1e-4, atol=1e-4)
