"""The operations in plain torch: what any faster kernel must compute, and what runs where Triton does not."""

import torch
import torch.nn.functional as F


def fused_loss_reference(
    decoded: torch.Tensor,
    target: torch.Tensor,
    kind: str = "mse",
    *,
    weight: torch.Tensor | None = None,
    delta: float = 0.1,
    scale: float = 1.0,
    clamp: bool = False,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Arguments, results and maths of `fused_loss`."""
    x, t = decoded.float(), target.float()
    if target.dtype == torch.uint8:
        t = t / 127.5 - 1.0
    clamped = x.clamp(*value_range)
    e = (clamped if clamp else x) - t
    if kind == "mse":
        rho, slope = e.square(), 2.0 * e
    elif kind == "l1":
        rho, slope = e.abs(), e.sign()
    else:
        rho = torch.where(e.abs() <= delta, 0.5 * e.square(), delta * (e.abs() - 0.5 * delta))
        slope = e.clamp(-delta, delta)
    if clamp:
        slope = torch.where((x < value_range[0]) | (x > value_range[1]), 0.0, slope)
    square = (clamped - t).square()
    if weight is not None:
        rho, slope, square = weight * rho, weight * slope, weight * square
    gradient = (slope * (scale / decoded[0].numel())).to(decoded.dtype)
    return rho.flatten(1).mean(1), square.flatten(1).mean(1), gradient


def fused_adam_reference(
    latents: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    best_latents: torch.Tensor,
    decoder_input: torch.Tensor,
    best_loss: torch.Tensor,
    *,
    loss: torch.Tensor,
    improved: torch.Tensor,
    active: torch.Tensor,
    step: torch.Tensor,
    learning_rate: torch.Tensor,
    gradient_scale: torch.Tensor,
    beta1: torch.Tensor,
    bias_correction1: torch.Tensor,
    eps: torch.Tensor,
    beta2: float,
) -> None:
    """Arguments, effects and maths of `fused_adam`."""
    shape = (-1,) + (1,) * (latents.ndim - 1)
    best_latents.copy_(torch.where(improved.view(shape), latents, best_latents))
    best_loss.copy_(torch.where(improved, loss, best_loss))
    g = gradient.float() * gradient_scale.view(shape)
    new_avg = torch.lerp(g, exp_avg, beta1.view(shape))
    new_avg_sq = torch.lerp(g.square(), exp_avg_sq, beta2)
    # fp64: 1 − 0.999ᵗ loses four digits in fp32
    bias_correction2 = (1.0 - beta2 ** step.double()).float().view(shape)
    update = (
        learning_rate.view(shape)
        * (new_avg / bias_correction1.view(shape))
        / ((new_avg_sq / bias_correction2).sqrt() + eps.view(shape))
    )
    # where, not a product with the flag: a stopped image's gradient may be NaN, and 0 · NaN is NaN
    keep = active.view(shape)
    latents.copy_(torch.where(keep, latents - update, latents))
    exp_avg.copy_(torch.where(keep, new_avg, exp_avg))
    exp_avg_sq.copy_(torch.where(keep, new_avg_sq, exp_avg_sq))
    decoder_input.copy_(latents)


def group_norm_silu_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float = 1e-6,
    residual: torch.Tensor | None = None,
    *,
    shift: torch.Tensor | None = None,
    silu: bool = True,
    keep: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Arguments, results and maths of `group_norm_silu`; sum and statistics in fp32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    s = x.to(wide)
    s = s if shift is None else s + shift.to(wide).view(1, -1, 1, 1)
    s = s if residual is None else s + residual
    keep = keep or residual is not None
    s = s.to(x.dtype) if keep else s
    y = F.group_norm(s.to(wide), groups, weight.to(wide), bias.to(wide), eps)
    return (F.silu(y) if silu else y).to(x.dtype), s if keep else x


def upsample_conv_reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(B, I, H, W), (O, I, 3, 3), (O,) -> (B, O, 2H, 2W): the two operations that `upsample_conv` joins."""
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
