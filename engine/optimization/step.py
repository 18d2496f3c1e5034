"""One iteration of all active slots as a function of device tensors: nothing is read back, and nothing branches on data.

It decodes, computes the loss and its gradient with respect to the latents, updates the best latents, decides on early
stopping, and makes an Adam step. The same code runs eagerly, inside one compiled region, and inside a CUDA graph.
"""

import math
from collections.abc import Callable

import torch

from ...kernels.fused_adam import fused_adam
from ...kernels.fused_loss import fused_loss
from ...kernels.library import runs_on
from ...kernels.reference import fused_adam_reference, fused_loss_reference
from ..loop_decoder import LoopDecoder
from ..modality import Modality
from .config import OptimizationConfig
from .evaluation import build_evaluation
from .slots import CONVERGED, NON_FINITE, TARGET_REACHED, Slots

Step = Callable[[Slots], None]


def build_step(
    decoder: LoopDecoder, config: OptimizationConfig, device: torch.device, *, triton: bool | None = None
) -> Step:
    """Return a function that runs one iteration of all active slots; their `decoder_input` is of the decoder's type.

    triton: use the Triton kernels, or their reference lines; None: the kernels on CUDA.
    """
    if triton is None:
        triton = device.type == "cuda" and runs_on(device)
    adam = fused_adam if triton else fused_adam_reference
    evaluate = build_evaluation(decoder, config, fused_loss if triton else fused_loss_reference)

    def step(slots: Slots) -> None:
        with torch.enable_grad():
            loss, error, gradient, scale = evaluate(slots)
        with torch.no_grad():
            gradient = slots.coordinates.vjp(gradient)
            norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float32) / scale
            improved = slots.active & torch.isfinite(loss) & (loss < slots.best_loss)
            _record(slots, loss, torch.where(improved, loss, slots.best_loss), config.iterations)
            stopped = _stops(slots, loss, error, norm, config, decoder.modality)
            slots.active.logical_and_(~stopped)
            beta = _first_beta(slots.step, config)
            correction = torch.lerp(torch.ones_like(beta), slots.bias_correction, beta)
            gradient_scale = _gradient_scale(norm, scale, config)
            adam(
                slots.latents, gradient, slots.exp_avg, slots.exp_avg_sq, slots.best_latents, slots.decoder_input,
                slots.best_loss, loss=loss, improved=improved, active=slots.active, step=slots.step + 1,
                learning_rate=slots.learning_rate * _schedule(slots.step, config), gradient_scale=gradient_scale,
                beta1=beta, bias_correction1=correction,
                eps=_epsilon(norm * scale * gradient_scale, gradient[0].numel(), config), beta2=config.betas[1],
            )  # fmt: skip
            slots.bias_correction.copy_(torch.where(slots.active, correction, slots.bias_correction))
            if not slots.coordinates.direct:
                slots.decoder_input.copy_(slots.to_latents(slots.latents))
            slots.step.add_(slots.active)
            slots.active.logical_and_(slots.step < slots.max_steps)

    return step


def _record(slots: Slots, loss: torch.Tensor, best: torch.Tensor, last: int) -> None:
    """Write the histories at each image's own iteration; idle slots write to the column after the last."""
    column = torch.where(slots.active, slots.step, last).long().unsqueeze(1)
    slots.losses.scatter_(1, column, loss.unsqueeze(1))
    slots.best_history.scatter_(1, column, best.unsqueeze(1))


def _stops(
    slots: Slots, loss: torch.Tensor, error: torch.Tensor, norm: torch.Tensor, config: OptimizationConfig,
    modality: Modality,
) -> torch.Tensor:  # fmt: skip
    """Return which active images stop at this iteration, (B,) bool, and record the reason and the iteration."""
    reasons = [(NON_FINITE, ~(torch.isfinite(loss) & torch.isfinite(norm)))]
    if config.has_target:
        unknown = (slots.step == 0) & (slots.target_error < 0.0)
        goal = modality.target_error(error, config.target_gain, config.target_psnr)
        slots.target_error.copy_(torch.where(unknown, goal, slots.target_error))
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


def _first_beta(step: torch.Tensor, config: OptimizationConfig) -> torch.Tensor:
    """Return Adam's β₁ at each image's own step, (B,) fp32; it rises, because early gradients are soon out of date."""
    last = config.betas[0]
    missing = max(last - config.initial_beta, 0.0) if config.beta_rise else 0.0
    return last - missing * (1.0 - step / max(config.beta_rise, 1)).clamp_min(0.0)


def _epsilon(norm: torch.Tensor, values: int, config: OptimizationConfig) -> torch.Tensor:
    """Return Adam's ε, (B,): `eps`, and `relative_eps` in units of the RMS of the image's whole gradient."""
    return config.eps + norm * (config.relative_eps / math.sqrt(values))


def _schedule(step: torch.Tensor, config: OptimizationConfig) -> torch.Tensor | float:
    """Return the factor of the learning-rate schedule at each image's own step, (B,)."""
    progress = step / config.iterations
    if config.schedule == "cosine":
        return 0.5 * (1.0 + torch.cos(math.pi * progress))
    if config.schedule == "trapezoid":
        return (2.5 * (1.0 - progress)).clamp_max(1.0)
    return 1.0 - progress if config.schedule == "linear" else 1.0


def _gradient_scale(norm: torch.Tensor, scale: float, config: OptimizationConfig) -> torch.Tensor:
    """Return the factor, (B,), that undoes the scale of the gradient and, where asked for, clips its norm."""
    factor = torch.full_like(norm, 1.0 / scale)
    if config.max_gradient_norm is not None:
        factor = factor * (config.max_gradient_norm / norm.clamp_min(1e-30)).clamp_max(1.0)
    return factor
