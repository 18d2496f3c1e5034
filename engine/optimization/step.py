"""One iteration of every active slot, as one function of device tensors: nothing is read back, nothing branches on data.

Decode, loss and its gradient, gradient with respect to the latents, best so far, stopping, Adam. The same lines run
eagerly, inside one compiled region, and inside a captured graph.
"""

import math
from collections.abc import Callable

import torch

from ...kernels.fused_adam import fused_adam
from ...kernels.fused_loss import fused_loss
from ...kernels.library import runs_on
from ...kernels.reference import fused_adam_reference, fused_loss_reference
from ..losses.metrics import mean_squared_error
from ..losses.registry import HUBER_DELTA, build_objective, fusable
from ..losses.regularisers import build_penalty
from .config import OptimizationConfig
from .slots import CONVERGED, NON_FINITE, TARGET_REACHED, Slots

Decode = Callable[[torch.Tensor], torch.Tensor]
Step = Callable[[Slots], None]


def build_step(decode: Decode, config: OptimizationConfig, device: torch.device, *, triton: bool | None = None) -> Step:
    """`decode` takes `Slots.low` to (B, 3, H, W) in [-1, 1], differentiably, in any floating type.

    triton: use the Triton kernels, or their reference lines; None: the kernels on CUDA.
    """
    if triton is None:
        triton = device.type == "cuda" and runs_on(device)
    adam = fused_adam if triton else fused_adam_reference
    evaluate = _evaluation(decode, config, fused_loss if triton else fused_loss_reference)

    def step(slots: Slots) -> None:
        with torch.enable_grad():
            loss, error, gradient, scale = evaluate(slots)
        with torch.no_grad():
            gradient = slots.vjp(gradient)
            norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float32) / scale
            improved = slots.active & torch.isfinite(loss) & (loss < slots.best_loss)
            _record(slots, loss, torch.where(improved, loss, slots.best_loss), config.iterations)
            stopped = _stops(slots, loss, error, norm, config)
            slots.active.logical_and_(~stopped)
            beta = _first_beta(slots.step, config)
            correction = torch.lerp(torch.ones_like(beta), slots.bias_correction, beta)
            gradient_scale = _factor(norm, scale, config)
            adam(
                slots.latents, gradient, slots.exp_avg, slots.exp_avg_sq, slots.best_latents, slots.decoder_input,
                slots.best_loss, loss=loss, improved=improved, active=slots.active, step=slots.step + 1,
                learning_rate=slots.learning_rate * _schedule(slots.step, config), gradient_scale=gradient_scale, beta1=beta, bias_correction1=correction,
                eps=_epsilon(norm * scale * gradient_scale, gradient[0].numel(), config), beta2=config.betas[1],
            )  # fmt: skip
            slots.bias_correction.copy_(torch.where(slots.active, correction, slots.bias_correction))
            if slots.preconditioner is not None:
                slots.decoder_input.copy_(slots.to_latents(slots.latents))
            slots.step.add_(slots.active)
            slots.active.logical_and_(slots.step < slots.max_steps)

    return step


def _evaluation(
    decode: Decode, config: OptimizationConfig, loss_and_gradient: Callable[..., tuple[torch.Tensor, ...]]
) -> Callable[[Slots], tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """-> loss (B,), clamped squared error (B,), the latents' gradient times a scale, and that scale.

    A mean over 10⁶ values has gradients below fp16's smallest number: they pass through the decoder multiplied by a
    power of two near that count, which changes nothing in fp32 but the exponents.
    """
    kind, delta = fusable(config.loss_function) or (None, HUBER_DELTA)
    objective, penalty = build_objective(config.loss_function), build_penalty(config.regularisers)

    def evaluate(slots: Slots) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        scale = 2.0 ** (slots.targets[0].numel().bit_length() - 1)
        decoded = decode(slots.decoder_input)
        if kind is not None:
            seen = decoded.detach()
            if seen.ndim == 4:
                seen = seen.contiguous(memory_format=torch.channels_last)
            loss, error, pull = loss_and_gradient(
                seen, slots.targets, kind, weight=slots.weights, delta=delta, scale=scale
            )
            (gradient,) = torch.autograd.grad(decoded, slots.decoder_input, pull)
        else:
            each = objective(decoded.float(), slots.targets, slots.weights)
            (gradient,) = torch.autograd.grad(scale * each.sum(), slots.decoder_input)
            loss = each.detach()
            error = mean_squared_error(decoded.detach(), slots.targets, slots.weights)
        if penalty is not None:
            # of the fp32 latents, not of their rounded copy, which only lends its place in the graph: torch 2.11 compiles
            # no requires_grad_() of an intermediate
            nothing = slots.decoder_input.float() - slots.decoder_input.detach().float()
            extra = penalty(slots.to_latents(slots.latents.detach()) + nothing, slots.initial)
            (pull,) = torch.autograd.grad(scale * extra.sum(), slots.decoder_input)
            loss, gradient = loss + extra.detach(), gradient.float() + pull.float()
        return loss, error, gradient, scale

    return evaluate


def _record(slots: Slots, loss: torch.Tensor, best: torch.Tensor, last: int) -> None:
    """Histories at each image's own iteration; idle slots write to the column behind the last."""
    column = torch.where(slots.active, slots.step, last).long().unsqueeze(1)
    slots.losses.scatter_(1, column, loss.unsqueeze(1))
    slots.best_history.scatter_(1, column, best.unsqueeze(1))


def _stops(
    slots: Slots, loss: torch.Tensor, error: torch.Tensor, norm: torch.Tensor, config: OptimizationConfig
) -> torch.Tensor:
    """Which active images end here; writes why and when."""
    reasons = [(NON_FINITE, ~(torch.isfinite(loss) & torch.isfinite(norm)))]
    if config.has_target:
        unknown = (slots.step == 0) & (slots.target_error < 0.0)
        slots.target_error.copy_(torch.where(unknown, target_error(error, config), slots.target_error))
        reasons.append((TARGET_REACHED, error <= slots.target_error))
    if config.convergence_threshold > 0.0:
        window = config.convergence_window
        now = slots.step.clamp_max(config.iterations).long().unsqueeze(1)
        before = slots.best_history.gather(1, (now - window).clamp_min(0)).squeeze(1)
        after = slots.best_history.gather(1, now).squeeze(1)
        stalled = before - after <= config.convergence_threshold * before.abs()
        reasons.append((CONVERGED, stalled & (slots.step >= window)))
    stopped = torch.zeros_like(slots.active)
    for code, where in reasons:
        new = slots.active & where & ~stopped
        slots.stop_code.masked_fill_(new, code)
        slots.stop_iteration.copy_(torch.where(new, slots.step, slots.stop_iteration))
        stopped = stopped | new
    return stopped


def target_error(start: torch.Tensor, config: OptimizationConfig) -> torch.Tensor:
    """(B,), clamped squared errors of the start -> those at which an image is done: by the easier of its targets."""
    goal = torch.zeros_like(start)
    if config.target_gain is not None:
        goal = start / 10.0 ** (config.target_gain / 10.0)
    if config.target_psnr is not None:
        goal = goal.clamp_min(4.0 / 10.0 ** (config.target_psnr / 10.0))  # the peak to peak of [-1, 1], squared
    return goal


def _first_beta(step: torch.Tensor, config: OptimizationConfig) -> torch.Tensor:
    """(B,) fp32, Adam's β₁ at each image's own step: early gradients are soon out of date."""
    last = config.betas[0]
    missing = max(last - config.initial_beta, 0.0) if config.beta_rise else 0.0
    return last - missing * (1.0 - step / max(config.beta_rise, 1)).clamp_min(0.0)


def _epsilon(norm: torch.Tensor, values: int, config: OptimizationConfig) -> torch.Tensor:
    """(B,), Adam's ε: what is added to the RMS of each value's gradient, by `relative_eps` in units of the RMS of all."""
    return config.eps + norm * (config.relative_eps / math.sqrt(values))


def _schedule(step: torch.Tensor, config: OptimizationConfig) -> torch.Tensor | float:
    """(B,), what the learning_rate is multiplied by at each image's own step."""
    progress = step / config.iterations
    if config.schedule == "cosine":
        return 0.5 * (1.0 + torch.cos(math.pi * progress))
    if config.schedule == "trapezoid":
        return (2.5 * (1.0 - progress)).clamp_max(1.0)
    return 1.0 - progress if config.schedule == "linear" else 1.0


def _factor(norm: torch.Tensor, scale: float, config: OptimizationConfig) -> torch.Tensor:
    """(B,): undoes the gradient's scale, and clips its norm where that is asked for."""
    gradient_scale = torch.full_like(norm, 1.0 / scale)
    if config.max_gradient_norm is not None:
        gradient_scale = gradient_scale * (config.max_gradient_norm / norm.clamp_min(1e-30)).clamp_max(1.0)
    return gradient_scale
