"""Each kernel against fp64: values, gradients, registration, ragged shapes, dtypes, and what is refused.

Without a GPU they run in Triton's interpreter; the same tests run compiled where there is one.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from relatent.kernels import group_norm_silu as group_norm_module
from relatent.kernels import reference
from relatent.kernels.frozen_conv import _frozen_conv, frozen_conv, turn
from relatent.kernels.frozen_norm import frozen_norm
from relatent.kernels.fused_adam import _fused_adam, fused_adam
from relatent.kernels.fused_loss import KINDS, _fused_loss, fused_loss, mean_one
from relatent.kernels.group_norm_silu import (
    _add_group_norm_silu,
    _group_norm_silu,
    _group_norm_silu_backward,
    group_norm_silu,
)
from relatent.kernels.library import _device_of, register_operators
from relatent.kernels.upsample_conv import phase_weight, upsample_conv

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FLOOR = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}  # relative, in norm


def close(found: torch.Tensor, exact: torch.Tensor, same_dtype: torch.Tensor | None = None) -> None:
    """‖found − exact‖ ≤ 2 × the error of torch in the same dtype, plus a floor."""
    exact = exact.double()
    norm = exact.norm().clamp_min(1e-12)
    error = (found.double() - exact).norm() / norm
    allowed = FLOOR[found.dtype]
    if same_dtype is not None:
        allowed += 2 * (same_dtype.double() - exact).norm() / norm
    assert torch.isfinite(found).all()
    assert error <= allowed, f"relative error {error:.2e}, allowed {allowed:.2e}"


def images(shape, dtype=torch.float32, last=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * 0.7).to(DEVICE, dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


# fused_loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "last"), [((2, 3, 48, 40), True), ((3, 3, 7, 5), False), ((1, 1, 1, 1), False)])
def test_fused_loss_equals_autograd_in_fp64(kind, clamp, weighted, shape, last):
    decoded, target = images(shape, last=last), images(shape, last=last, seed=1).clamp(-1, 1)
    weight = mean_one(torch.rand(shape[0], 1, *shape[2:], device=DEVICE) + 0.1) if weighted else None
    loss, error, gradient = fused_loss(decoded, target, kind, weight=weight, delta=0.1, scale=8.0, clamp=clamp)

    x = decoded.double().requires_grad_(True)
    seen = x.clamp(-1, 1) if clamp else x
    functions = {
        "mse": lambda: (seen - target.double()).square(),
        "l1": lambda: (seen - target.double()).abs(),
        "huber": lambda: F.huber_loss(seen, target.double(), reduction="none", delta=0.1),
    }
    each = functions[kind]() * (1.0 if weight is None else weight.double())
    exact = each.flatten(1).mean(1)
    (pulled,) = torch.autograd.grad(exact.sum() * 8.0, x)
    square = (x.detach().clamp(-1, 1) - target.double()).square() * (1.0 if weight is None else weight.double())
    close(loss, exact.detach())
    close(error, square.flatten(1).mean(1))
    close(gradient, pulled)
    assert gradient.stride() == decoded.stride()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_loss_in_the_decoders_precision(dtype):
    decoded, target = images((2, 3, 33, 65), dtype, last=True), images((2, 3, 33, 65), last=True, seed=1).clamp(-1, 1)
    found = fused_loss(decoded, target, scale=4096.0)
    expected = reference.fused_loss_reference(decoded.float(), target, scale=4096.0)
    for value, exact in zip(found, expected, strict=True):
        close(value, exact)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert found[2].dtype == dtype


@pytest.mark.parametrize("last", [False, True])
def test_fused_loss_reads_bytes(last):
    grey = torch.randint(0, 256, (2, 3, 24, 20), dtype=torch.uint8, device=DEVICE)
    grey = grey.contiguous(memory_format=torch.channels_last) if last else grey
    decoded = images((2, 3, 24, 20), last=last)
    for kind in KINDS:
        exact = reference.fused_loss_reference(decoded, grey.float() / 127.5 - 1.0, kind)
        for value, wanted in zip(fused_loss(decoded, grey, kind), exact, strict=True):
            close(value, wanted)


def test_clamps_gradient_is_zero_outside_and_passes_at_the_bounds():
    decoded = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5], device=DEVICE).view(1, 1, 1, 5)
    target = torch.full_like(decoded, 0.5)
    clamped = fused_loss(decoded, target, clamp=True)[2].flatten() * 5
    free = fused_loss(decoded, target)[2].flatten() * 5
    assert clamped.tolist() == pytest.approx([0.0, -3.0, -1.0, 1.0, 0.0])
    assert free.tolist() == pytest.approx([-4.0, -3.0, -1.0, 1.0, 2.0])


@pytest.mark.parametrize("clamp", [False, True])
def test_fused_loss_keeps_a_nan_in_its_own_image(clamp):
    decoded = images((3, 3, 16, 16))
    decoded[1, 0, 3, 4] = torch.nan
    loss, error, _ = fused_loss(decoded, torch.zeros_like(decoded), clamp=clamp)
    assert torch.isnan(loss).tolist() == [False, True, False]
    assert torch.isnan(error).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (2, 1, 4, 3, 5), (1, 3, 6, 5)])
def test_fused_loss_takes_either_layout_where_it_makes_no_difference(shape):
    """With one channel, or one image, torch gives equal places other strides."""
    decoded, target = images(shape), images(shape, seed=1)
    expected = fused_loss(decoded, target)
    layout = torch.channels_last if decoded.ndim == 4 else torch.channels_last_3d
    if shape[1] == 1:
        other = torch.zeros_like(target, memory_format=layout).copy_(target)
    else:
        other = target.as_strided(target.shape, (7, *target.stride()[1:]))
    assert other.stride() != target.stride()
    for found, right in zip(fused_loss(decoded, other), expected, strict=True):
        assert torch.equal(found, right)


def test_fused_loss_is_deterministic():
    decoded, target = images((2, 3, 64, 64)), images((2, 3, 64, 64), seed=1)
    first, second = fused_loss(decoded, target), fused_loss(decoded, target)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_fused_loss_refuses():
    x = images((2, 3, 8, 8))
    for arguments, words in (
        ((x, x, "mae"), "kind must be one of mse, l1, huber"),
        ((x.double(), x), "float64"),
        ((x, x[:1]), "target must have shape"),
        ((x, x.contiguous(memory_format=torch.channels_last)), "strides"),
        ((x, x.long()), "uint8, fp32"),
        ((x[:, :, ::2], x[:, :, ::2]), "neither contiguous nor channels-last"),
        ((x[:0], x[:0]), "nothing to measure"),
    ):
        with pytest.raises(ValueError, match=words):
            fused_loss(*arguments)
    with pytest.raises(ValueError, match="weight must be contiguous fp32"):
        fused_loss(x, x, weight=torch.ones(2, 3, 8, 8, device=DEVICE))
    for weight, words in ((torch.zeros(1, 1, 4, 4), "masked out"), (-torch.ones(1, 1, 4, 4), "negative")):
        with pytest.raises(ValueError, match=words):
            mean_one(weight)


# fused_adam


def adam_state(shape, low=torch.float32, gradient=torch.float32):
    count = shape[0]
    tensors = {
        "latents": images(shape), "gradient": images(shape, seed=1).to(gradient), "exp_avg": images(shape, seed=2) * 0.1,
        "exp_avg_sq": images(shape, seed=3).square() * 0.01, "best_latents": torch.zeros(shape, device=DEVICE),
        "decoder_input": torch.zeros(shape, device=DEVICE, dtype=low), "best_loss": torch.full((count,), 9.0, device=DEVICE),
    }  # fmt: skip
    flags = {
        "loss": torch.arange(count, device=DEVICE).float(),
        "improved": torch.arange(count, device=DEVICE) % 2 == 0,
        "active": torch.arange(count, device=DEVICE) % 3 != 1,
        "step": torch.arange(1, count + 1, dtype=torch.int32, device=DEVICE),
        "learning_rate": torch.linspace(0.01, 0.2, count, device=DEVICE),
        "gradient_scale": torch.linspace(1.0, 0.5, count, device=DEVICE),
    }
    return tensors, flags


def decay(flags, betas):
    """Constant decay rates, and ε."""
    step = flags["step"]
    return {
        "beta1": torch.full_like(flags["learning_rate"], betas[0]),
        "bias_correction1": (1.0 - betas[0] ** step.double()).float(),
        "eps": torch.full_like(flags["learning_rate"], 1e-8),
        "beta2": betas[1],
    }


@pytest.mark.parametrize("shape", [(4, 4, 32, 32), (5, 4, 7, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
def test_fused_adam_equals_torch_adam(shape, betas):
    """Each image against torch.optim.Adam in fp64, with its own step count, learning_rate and flags."""
    tensors, flags = adam_state(shape)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    fused_adam(*tensors.values(), **flags, **decay(flags, betas))
    for i in range(shape[0]):
        parameter = before["latents"][i].double().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([parameter], lr=flags["learning_rate"][i].item(), betas=betas, eps=1e-8)
        optimizer.state[parameter] = {
            "step": torch.tensor(flags["step"][i].item() - 1.0),
            "exp_avg": before["exp_avg"][i].double().clone(),
            "exp_avg_sq": before["exp_avg_sq"][i].double().clone(),
        }
        parameter.grad = before["gradient"][i].double() * flags["gradient_scale"][i].item()
        active = bool(flags["active"][i])
        if active:
            optimizer.step()
            close(tensors["exp_avg"][i], optimizer.state[parameter]["exp_avg"])
            close(tensors["exp_avg_sq"][i], optimizer.state[parameter]["exp_avg_sq"])
            assert torch.equal(tensors["decoder_input"][i], tensors["latents"][i])
        close(tensors["latents"][i], parameter.detach())
        improved = bool(flags["improved"][i])
        kept = before["latents"][i] if improved else before["best_latents"][i]
        assert torch.equal(tensors["best_latents"][i], kept)
        assert tensors["best_loss"][i].item() == (flags["loss"][i].item() if improved else 9.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_adam_writes_the_decoders_copy(dtype):
    tensors, flags = adam_state((4, 4, 9, 5), low=dtype, gradient=dtype)
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    expected["decoder_input"].copy_(tensors["latents"])  # where an image is not active its copy stays
    tensors["decoder_input"].copy_(tensors["latents"])
    fused_adam(*tensors.values(), **flags, **decay(flags, (0.8, 0.95)))
    reference.fused_adam_reference(*expected.values(), **flags, **decay(flags, (0.8, 0.95)))
    for name, tensor in tensors.items():
        close(tensor, expected[name])


def test_fused_adam_leaves_a_stopped_image_alone():
    tensors, flags = adam_state((3, 4, 8, 8))
    flags["active"] = torch.tensor([True, False, True], device=DEVICE)
    tensors["gradient"][1] = torch.nan
    before = {name: tensor[1].clone() for name, tensor in tensors.items() if name not in ("best_latents", "best_loss")}
    fused_adam(*tensors.values(), **flags, **decay(flags, (0.9, 0.999)))
    for name, tensor in before.items():
        assert torch.equal(tensors[name][1].nan_to_num(7.0), tensor.nan_to_num(7.0)), name
    assert torch.isfinite(tensors["latents"]).all()


def test_fused_adam_refuses():
    tensors, flags = adam_state((2, 4, 8, 8))
    for change, words in (
        ({"latents": tensors["latents"].contiguous(memory_format=torch.channels_last)}, "contiguous"),
        ({"gradient": tensors["gradient"][:, :2]}, "gradient must have shape"),
        ({"exp_avg": tensors["exp_avg"].half()}, "exp_avg must be fp32"),
    ):
        with pytest.raises(ValueError, match=words):
            fused_adam(*(tensors | change).values(), **flags, **decay(flags, (0.9, 0.999)))
    with pytest.raises(ValueError, match=r"step must be contiguous torch\.int32"):
        fused_adam(*tensors.values(), **(flags | {"step": flags["step"].long()}), **decay(flags, (0.9, 0.999)))


# group_norm_silu

SHAPES = [((2, 128, 12, 11), 32), ((1, 24, 5, 7), 4), ((3, 6, 1, 1), 2), ((1, 64, 33, 40), 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
@pytest.mark.parametrize(
    ("add", "shifted", "options"),
    [
        (False, False, {}),
        (True, False, {}),
        (False, True, {}),
        (True, True, {}),
        (False, True, {"keep": True}),
        (False, False, {"silu": False}),
        (True, True, {"silu": False}),
    ],
)
def test_group_norm_silu_and_its_gradient(dtype, shape, groups, add, shifted, options):
    x = (images(shape, dtype, last=True) + 3.0).detach().requires_grad_(True)  # a mean far from 0 shows cancellation
    residual = images(shape, dtype, last=True, seed=1).requires_grad_(True) if add else None
    weight, bias = images((shape[1],), dtype, seed=2) + 1.0, images((shape[1],), dtype, seed=3)
    shift = images((shape[1],), dtype, seed=5) if shifted else None
    pull = images(shape, dtype, last=True, seed=4)
    inputs = [x] + ([residual] if add else [])
    kept = add or "keep" in options

    def both(function, inputs, to):
        other = inputs[1] if add else None
        y, total = function(
            inputs[0], to(weight), to(bias), groups, residual=other, shift=to(shift) if shifted else None, **options
        )
        results = [y, total] if kept else [y]
        return y, total, torch.autograd.grad(results, inputs, [to(pull)] * len(results))

    y, total, found = both(group_norm_silu, inputs, lambda tensor: tensor)
    wide = [tensor.detach().double().requires_grad_(True) for tensor in inputs]
    exact_y, exact_total, exact = both(reference.group_norm_silu_reference, wide, torch.Tensor.double)
    same_y, _, same = both(reference.group_norm_silu_reference, inputs, lambda tensor: tensor)
    close(y.detach(), exact_y.detach(), same_y.detach())
    for value, wanted, torchs in zip(found, exact, same, strict=True):
        close(value, wanted, torchs)
    assert y.stride() == x.stride()
    if kept:
        close(total.detach(), exact_total.detach())
    else:
        assert total is x


def test_group_norm_silu_of_a_sum_of_which_only_one_result_is_used():
    x, other = (images((2, 8, 5, 3), last=True, seed=seed).requires_grad_(True) for seed in (0, 1))
    w, b, pull = images((8,), seed=2), images((8,), seed=3), images((2, 8, 5, 3), last=True, seed=4)
    found, exact = (f(x, w, b, 2, residual=other) for f in (group_norm_silu, reference.group_norm_silu_reference))
    for used in (0, 1):
        gradients = [
            torch.autograd.grad(results[used], [x, other], pull, retain_graph=True) for results in (found, exact)
        ]
        for value, wanted in zip(*gradients, strict=True):
            close(value, wanted)


def test_group_norm_silu_merges_more_tiles_than_fit_at_once(monkeypatch):
    monkeypatch.setattr(group_norm_module, "MERGED", 2)
    monkeypatch.setattr(group_norm_module, "ELEMENTS", 64)
    x = (images((2, 8, 9, 7), last=True) + 3.0).requires_grad_(True)
    w, b, pull = images((8,), seed=1), images((8,), seed=2), images((2, 8, 9, 7), last=True, seed=3)
    found, same = group_norm_silu(x, w, b, 2)[0], reference.group_norm_silu_reference(x, w, b, 2)[0]
    wide = x.detach().double().requires_grad_(True)
    exact = reference.group_norm_silu_reference(wide, w.double(), b.double(), 2)[0]
    close(found.detach(), exact.detach(), same.detach())
    (wanted,) = torch.autograd.grad(exact, wide, pull.double())
    close(torch.autograd.grad(found, x, pull)[0], wanted, torch.autograd.grad(same, x, pull)[0])


def test_group_norm_silu_refuses():
    x, w = images((1, 8, 4, 4), last=True), torch.ones(8, device=DEVICE)
    for arguments, words in (
        ((x.contiguous()[:, :, :, ::1].clone(memory_format=torch.contiguous_format), w, w, 2), "channels-last"),
        ((x, w, w, 3), "3 groups do not divide 8"),
        ((x, w[:4], w, 2), "weight must be frozen"),
        ((x, w, w.clone().requires_grad_(True), 2), "bias must be frozen"),
        ((x, w, w, 2, 1e-6, None, w[:4]), "shift must be frozen"),
        ((x.double(), w, w, 2), "float64"),
    ):
        with pytest.raises(ValueError, match=words):
            group_norm_silu(*arguments[:6], **dict(zip(["shift"], arguments[6:], strict=False)))
    with pytest.raises(ValueError, match="residual must have shape"):
        group_norm_silu(x, w, w, 2, residual=x[:, :, :2])


# rewrites in plain torch


@pytest.mark.parametrize(("channels", "side"), [((5, 3), (7, 4)), ((1, 1), (1, 1)), ((16, 16), (8, 8))])
@pytest.mark.parametrize("with_bias", [False, True])
def test_upsample_conv_is_exact(channels, side, with_bias):
    x = images((2, channels[0], *side)).double().requires_grad_(True)
    weight = images((channels[1], channels[0], 3, 3), seed=1).double()
    bias = images((channels[1],), seed=2).double() if with_bias else None
    found = upsample_conv(x, phase_weight(weight), bias)
    exact = reference.upsample_conv_reference(x, weight, bias)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)
    pull = torch.randn_like(exact)
    torch.testing.assert_close(
        torch.autograd.grad(found, x, pull)[0], torch.autograd.grad(exact, x, pull)[0], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_upsample_conv_in_low_precision_is_as_good_as_torch(dtype):
    x, weight = images((1, 16, 12, 10), dtype, last=True), images((8, 16, 3, 3), dtype, seed=1)
    exact = reference.upsample_conv_reference(x.double(), weight.double())
    close(upsample_conv(x, phase_weight(weight)), exact, reference.upsample_conv_reference(x, weight))


def test_upsample_conv_refuses():
    with pytest.raises(ValueError, match="shape \\(O, I, 3, 3\\)"):
        phase_weight(torch.zeros(4, 4, 5, 5))
    with pytest.raises(ValueError, match="does not fit phases"):
        upsample_conv(torch.zeros(1, 3, 4, 4), torch.zeros(4, 4, 4, 4))


@pytest.mark.parametrize(
    ("stride", "padding", "kernel", "transposed"),
    [(1, 1, 3, False), (1, 0, 1, False), (2, 1, 3, False), (3, 0, 2, False), (2, 1, 4, True)],
)
@pytest.mark.parametrize("side", [9, 12])
def test_frozen_conv_equals_torch(stride, padding, kernel, transposed, side):
    x = images((2, 4, side, side + 1)).double().requires_grad_(True)
    weight = images((4, 6, kernel, kernel) if transposed else (6, 4, kernel, kernel), seed=1).double()
    bias = images((6,), seed=2).double()
    convolve = F.conv_transpose2d if transposed else F.conv2d
    exact = convolve(x, weight, bias, stride=stride, padding=padding)
    found = frozen_conv(x, weight, bias, stride=stride, padding=padding, transposed=transposed)
    torch.testing.assert_close(found, exact)
    pull = torch.randn_like(exact)
    torch.testing.assert_close(torch.autograd.grad(found, x, pull)[0], torch.autograd.grad(exact, x, pull)[0])


@pytest.mark.parametrize(("padding", "kernel"), [(1, 3), (0, 1), (0, 4), (2, 3)])
def test_frozen_conv_with_a_turned_weight_has_the_same_gradient(padding, kernel):
    x, weight = images((2, 4, 9, 8)).double().requires_grad_(True), images((6, 4, kernel, kernel), seed=1).double()
    exact = F.conv2d(x, weight, padding=padding)
    found = frozen_conv(x, weight, padding=padding, reduced=turn(weight), turned=True)
    assert torch.equal(found, exact)
    pull = torch.randn_like(exact)
    torch.testing.assert_close(torch.autograd.grad(found, x, pull)[0], torch.autograd.grad(exact, x, pull)[0])


def test_frozen_conv_keeps_its_input_out_of_the_backward_pass():
    weight = images((4, 4, 3, 3), seed=1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        frozen_conv(images((1, 4, 16, 16)).requires_grad_(True), weight, padding=1)
    assert kept == [(4, 4, 3, 3)]
    with pytest.raises(ValueError, match="must be frozen"):
        frozen_conv(images((1, 4, 16, 16)), weight.requires_grad_(True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["dense", "channels last", "gradient's other"])
@pytest.mark.parametrize(("shape", "groups"), [((2, 12, 9, 7), 4), ((1, 64, 8, 8), 2), ((2, 24, 33), 3)])
def test_frozen_norm_in_low_precision_is_as_good_as_torch(dtype, layout, shape, groups):
    x, pull = images(shape, dtype) * 3 + 1, images(shape, dtype, seed=3)
    if layout != "dense":
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "channels last":
        pull = pull.movedim(1, -1).contiguous().movedim(-1, 1)
    x.requires_grad_(True)
    weight, bias = images(shape[1:2], dtype, seed=1) + 1, images(shape[1:2], dtype, seed=2)
    exact, wide = x.detach().double().requires_grad_(True), (weight.double(), bias.double())
    expected, torchs = F.group_norm(exact, groups, *wide, 1e-6), F.group_norm(x, groups, weight, bias, 1e-6)
    found = frozen_norm(x, weight, bias, groups, 1e-6)
    close(found, expected, torchs)
    (gradient,) = torch.autograd.grad(found, x, pull)
    assert gradient.dtype == dtype
    expected = torch.autograd.grad(expected, exact, pull.double())[0]
    close(gradient, expected, torch.autograd.grad(torchs, x, pull)[0])


def test_frozen_norm_is_torchs_own_in_fp32_and_refuses_what_learns():
    x = images((2, 6, 5, 4)).requires_grad_(True)
    weight, bias = images((6,), seed=1), images((6,), seed=2)
    assert torch.equal(frozen_norm(x, weight, bias, 3), F.group_norm(x, 3, weight, bias))
    with pytest.raises(ValueError, match="must be frozen"):
        frozen_norm(x, weight.requires_grad_(True), bias, 3)


# registration


def defined(operator):
    """What torch knows of one of our operators."""
    register_operators()
    return operator.definition


def test_opcheck():
    x = images((2, 3, 9, 6), torch.bfloat16, last=True)
    torch.library.opcheck(defined(_fused_loss), (x, x.float(), None, 0, 0.1, 4.0, False, -1.0, 1.0))
    torch.library.opcheck(
        defined(_fused_loss),
        (x, x.float(), mean_one(torch.rand(2, 1, 9, 6, device=DEVICE) + 0.1), 2, 0.1, 4.0, True, 0.0, 1.0),
    )
    tensors, flags = adam_state((2, 4, 5, 3), low=torch.bfloat16)
    torch.library.opcheck(defined(_fused_adam), (*tensors.values(), *(flags | decay(flags, (0.9, 0.999))).values()))
    x = images((2, 8, 5, 3), last=True).requires_grad_(True)
    w, b = images((8,), seed=1), images((8,), seed=2)
    other, shift = images((2, 8, 5, 3), last=True, seed=5), images((8,), seed=6)
    torch.library.opcheck(defined(_group_norm_silu), (x, shift, w, b, 2, 1e-6, True))
    torch.library.opcheck(defined(_add_group_norm_silu), (x, other, shift, w, b, 2, 1e-6, True))
    torch.library.opcheck(defined(_add_group_norm_silu), (x, None, None, w, b, 2, 1e-6, False))
    _, mean, rstd = _group_norm_silu(x.detach(), shift, w, b, 2, 1e-6, True)
    torch.library.opcheck(
        defined(_group_norm_silu_backward), (x.detach() * 0.5, other, x.detach(), shift, mean, rstd, w, b, 2, True)
    )
    weight, whole = images((4, 8, 3, 3), seed=3), (None, None, None)
    torch.library.opcheck(defined(_frozen_conv), (x, weight, None, 1, 1, False, *whole, False))
    low_rank = (images((2, 4, 1, 1)), images((2, 3, 3, 3)), images((8, 3, 1, 1)))
    torch.library.opcheck(defined(_frozen_conv), (x, weight, None, 1, 1, False, *low_rank, False))


def test_compiled_gradients_equal_eager():
    """A chain of the operations, inside one fullgraph region with its own backward pass, as the step uses them."""
    w, b = images((8,), seed=1) + 1, images((8,), seed=2)
    convolution = images((8, 4, 3, 3), seed=3)
    phases = phase_weight(images((3, 8, 3, 3), seed=4))
    low_rank = {"project": images((5, 8, 1, 1)), "reduced": images((5, 2, 3, 3)), "expand": images((4, 2, 1, 1))}

    def decode(z):
        hidden = frozen_conv(z, convolution, padding=1, **low_rank).contiguous(memory_format=torch.channels_last)
        return frozen_conv(group_norm_silu(hidden, w, b, 2)[0], phases, stride=2, padding=1, transposed=True)

    def step(z, target):
        decoded = decode(z)
        dense = decoded.detach().contiguous(memory_format=torch.channels_last)
        loss, _, pull = fused_loss(dense, target)
        return loss, torch.autograd.grad(decoded, z, pull)[0]

    z = images((2, 4, 6, 5), last=True).requires_grad_(True)
    target = images((2, 3, 12, 10), last=True, seed=7)
    eager = step(z, target)
    register_operators()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(step, fullgraph=True, dynamic=False)(z, target)
    for found, expected in zip(compiled, eager, strict=True):
        close(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_kernels_follow_their_inputs():
    """Capture, change the inputs in place, replay, compare with eager."""
    decoded, target = images((2, 3, 64, 64), torch.bfloat16, last=True), images((2, 3, 64, 64), last=True, seed=1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        fused_loss(decoded, target)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = fused_loss(decoded, target)
    decoded.copy_(images((2, 3, 64, 64), seed=9))
    graph.replay()
    for found, expected in zip(outputs, fused_loss(decoded, target), strict=True):
        assert torch.equal(found, expected)


def test_compiles_for_ampere_and_hopper_without_spilling():
    """In a process of its own: an interpreting one compiles nothing."""
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "relatent.kernels.resources", "--json"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sorted(found) == ["sm_80", "sm_90"]
    for kernels in found.values():
        for name, row in kernels.items():
            assert 0 < row["registers"] <= 168, name
            assert row["spills"] <= 16, name
            assert row["shared"] <= 48 * 1024, name
            assert row["widest_load_bits"] >= 128, name
            assert row["contiguous_bytes"] >= 128, name
            assert row["fp64_operations"] == 0, name


SIZES_OF_ONE = """
from dataclasses import replace
from relatent.kernels.registry import VARIANTS
from relatent.kernels.resources import compile_variant

for variant in VARIANTS.values():
    for size in ("pixels", "chunks", "values"):
        if size in variant.kernel.arg_names:
            compile_variant(replace(variant, constants=variant.constants | {size: 1}), "sm_90")
"""


def test_a_size_of_one_compiles():
    """Triton makes an argument that is 1 a constant, which has no methods of a tensor."""
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", SIZES_OF_ONE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_launching_makes_the_tensors_device_the_current_one():
    """Of real tensors: on those of another device than the current one Triton would launch with pointers that are not its own.
    The compiler's stand-ins have no device that could be asked for, here not even a driver."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), _device_of(torch.empty(2, device="cuda")) as entered:
        assert entered is None
    assert isinstance(_device_of(torch.empty(2)), torch.cuda.device_of)
