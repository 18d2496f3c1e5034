"""The optimisation loop over one batch: decode, loss, gradient with respect to the latents, Adam, per-image stopping.

All state lives in tensors on the device and no value is read back inside an iteration; the host looks once every
`checkpoint_interval` iterations. Images of a batch never mix: each has its own rate, flags and best latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..kernels.reference import fused_adam_reference
from .config import OptimizationConfig
from .metrics import mean_squared_error
from .objective import Loss

RUNNING, CONVERGED, TARGET_REACHED, NON_FINITE = range(4)
STOP_REASONS = ("iterations", "converged", "target", "non-finite")  # by the codes above

Decode = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class LoopState:
    """B images in flight; T iterations at most. Everything is on the device of the latents."""

    latents: torch.Tensor  # (B, C, h, w) fp32, the current iterate
    exp_avg: torch.Tensor  # like latents, Adam's first moment
    exp_avg_sq: torch.Tensor  # like latents, Adam's second moment
    best_latents: torch.Tensor  # like latents, of the lowest finite loss so far
    best_loss: torch.Tensor  # (B,) fp32, infinity until one is seen
    losses: torch.Tensor  # (T, B) fp32, NaN where an image did not run
    best_history: torch.Tensor  # (T, B) fp32, best_loss after each iteration
    learning_rate: torch.Tensor  # (B,) fp32, in the latent's unit
    target_mse: torch.Tensor  # (B,) fp32, clamped error at which an image is done; negative: never
    active: torch.Tensor  # (B,) bool
    stop_code: torch.Tensor  # (B,) int8, an index into STOP_REASONS
    stop_iteration: torch.Tensor  # (B,) int32, the iteration that stopped it, -1 while running

    @classmethod
    def start(cls, latents: torch.Tensor, config: OptimizationConfig) -> "LoopState":
        """Fresh state at `latents`, which are copied."""
        count, steps, device = latents.shape[0], config.iterations, latents.device
        nan = float("nan")
        return cls(
            latents=latents.clone(),
            exp_avg=torch.zeros_like(latents),
            exp_avg_sq=torch.zeros_like(latents),
            best_latents=latents.clone(),
            best_loss=torch.full((count,), float("inf"), device=device),
            losses=torch.full((steps, count), nan, device=device),
            best_history=torch.full((steps, count), nan, device=device),
            learning_rate=learning_rates(latents, config),
            target_mse=torch.full((count,), -1.0, device=device),
            active=torch.ones(count, dtype=torch.bool, device=device),
            stop_code=torch.zeros(count, dtype=torch.int8, device=device),
            stop_iteration=torch.full((count,), -1, dtype=torch.int32, device=device),
        )


def learning_rates(latents: torch.Tensor, config: OptimizationConfig) -> torch.Tensor:
    """(B,) fp32: the absolute rate where one is set, else a multiple of each image's own spread σ."""
    if config.learning_rate is not None:
        return torch.full((latents.shape[0],), config.learning_rate, device=latents.device)
    spread = latents.flatten(1).std(1, correction=0).clamp_min(1e-3)  # a flat picture still gets a rate
    return config.relative_learning_rate * spread


def iterate(
    state: LoopState, step: int, decode: Decode, objective: Loss, targets: torch.Tensor, config: OptimizationConfig
) -> None:
    """Iteration `step` (from 0) of every active image, in place: evaluate, keep the best, decide, update."""
    latents = state.latents.detach().requires_grad_(True)
    with torch.enable_grad():
        decoded = decode(latents)
        loss = objective(decoded, targets)
        # A mean over 10⁶ values has gradients below fp16's smallest number: pass them through the decoder scaled by a
        # power of two near that count, which changes nothing in fp32 but the exponents.
        scale = 2.0 ** (targets[0].numel().bit_length() - 1)
        (gradient,) = torch.autograd.grad(scale * loss.sum(), latents)
    gradient, loss = gradient / scale, loss.detach()

    finite_loss = torch.isfinite(loss)
    improved = state.active & finite_loss & (loss < state.best_loss)
    state.best_loss.copy_(torch.where(improved, loss, state.best_loss))
    wide = improved.view((-1,) + (1,) * (latents.ndim - 1))
    state.best_latents.copy_(torch.where(wide, state.latents, state.best_latents))
    state.losses[step] = torch.where(state.active, loss, torch.nan)
    state.best_history[step] = state.best_loss

    broken = ~(finite_loss & torch.isfinite(gradient).flatten(1).all(1))
    _stop(state, broken, NON_FINITE, step)
    if config.target_gain is not None:
        reached = mean_squared_error(decoded.detach(), targets)
        if step == 0:
            state.target_mse.copy_(reached / 10.0 ** (config.target_gain / 10.0))
        _stop(state, reached <= state.target_mse, TARGET_REACHED, step)
    if config.convergence_threshold > 0.0 and step >= config.convergence_window:
        before = state.best_history[step - config.convergence_window]
        stalled = before - state.best_loss <= config.convergence_threshold * before.abs()
        _stop(state, stalled, CONVERGED, step)

    fused_adam_reference(
        state.latents,
        gradient,
        state.exp_avg,
        state.exp_avg_sq,
        state.learning_rate,
        state.active,
        step + 1,
        config.betas,
        config.eps,
    )


def _stop(state: LoopState, where: torch.Tensor, code: int, step: int) -> None:
    stopping = state.active & where
    state.stop_code.masked_fill_(stopping, code)
    state.stop_iteration.masked_fill_(stopping, step)
    state.active.logical_and_(~stopping)


def run_loop(
    latents: torch.Tensor,
    targets: torch.Tensor,
    decode: Decode,
    objective: Loss,
    config: OptimizationConfig,
    on_checkpoint: Callable[[int], None] | None = None,
) -> LoopState:
    """Optimise (B, C, h, w) fp32 `latents` against `targets` until all images stop or `config.iterations` are done.

    `state.latents` is then the last iterate, not yet evaluated for images that were still active;
    `on_checkpoint(done)` is called with the number of iterations done, every `checkpoint_interval`.
    """
    state = LoopState.start(latents, config)
    for step in range(config.iterations):
        iterate(state, step, decode, objective, targets, config)
        done = step + 1
        if done % config.checkpoint_interval == 0 or done == config.iterations:
            if on_checkpoint is not None:
                on_checkpoint(done)
            if done < config.iterations and not bool(state.active.any()):
                break
    return state


def loss_lists(state: LoopState) -> list[list[float]]:
    """Per image, the losses of the iterations it ran, as Python floats; a non-finite last one included."""
    table = state.losses.cpu().T.tolist()
    stops = state.stop_iteration.cpu().tolist()
    evaluated = state.losses.shape[0]
    return [row[: stop + 1 if stop >= 0 else evaluated] for row, stop in zip(table, stops, strict=True)]
