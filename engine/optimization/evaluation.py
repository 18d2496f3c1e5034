"""The objective of every slot and its gradient with respect to the latents, as a function of device tensors."""

from collections.abc import Callable

import torch

from ...kernels.library import channels_last
from ..errors import UsageError
from ..loop_decoder import Decoded, LoopDecoder
from ..losses.pointwise import HUBER_DELTA
from ..losses.registry import build_objective, fusable
from ..losses.regularisers import build_penalty
from .config import OptimizationConfig
from .slots import Slots

Objective = Callable[[Decoded, torch.Tensor, torch.Tensor], torch.Tensor]
# -> loss (B,), clamped squared error (B,), the latents' gradient times a scale, and that scale
Evaluation = Callable[[Slots], tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]


def build_evaluation(
    decoder: LoopDecoder, config: OptimizationConfig, loss_and_gradient: Callable[..., tuple[torch.Tensor, ...]]
) -> Evaluation:
    """loss_and_gradient: `kernels.fused_loss.fused_loss` or its reference.

    A mean over 10⁶ values has gradients below fp16's smallest number: they pass through the decoder multiplied by a
    power of two near that count, which changes nothing in fp32 but the exponents.
    """
    kind, delta = fusable(config.loss_function) or (None, HUBER_DELTA)
    objective, penalty = build_objective(config.loss_function), build_penalty(config.regularisers)
    modality = decoder.modality

    def evaluate(slots: Slots) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        scale = 2.0 ** (slots.targets[0].numel().bit_length() - 1)
        decoded, extra = decoder.run(slots.decoder_input, slots.step)
        if decoded.shape != slots.targets.shape:  # they would be broadcast
            raise UsageError(f"the decoder gives {tuple(decoded.shape)}, the targets are {tuple(slots.targets.shape)}")
        if kind is not None:
            seen = decoded.detach()
            seen = seen.contiguous(memory_format=channels_last(seen.ndim))
            loss, error, output_gradient = loss_and_gradient(
                seen,
                slots.targets,
                kind,
                weight=slots.weights,
                delta=delta,
                scale=scale,
                value_range=modality.value_range,
            )
            gradient = _vjp(decoded, slots.decoder_input, output_gradient, extra, scale)
            loss = loss if extra is None else loss + extra.detach()
        else:
            each = objective(decoded.float(), slots.targets, slots.weights)
            each = each if extra is None else each + extra
            (gradient,) = torch.autograd.grad(scale * each.sum(), slots.decoder_input)
            loss = each.detach()
            error = modality.squared_error(decoded.detach(), slots.targets, slots.weights)
        due = None if decoder.judge_interval == 1 else _due(slots, decoder.judge_interval)
        if decoder.judge is not None and (due is None or _any_of(due)):
            with torch.no_grad():
                judged = decoder.judge(slots.decoder_input, slots.step)
                loss = objective(judged.output.float(), slots.targets, slots.weights)
                loss = loss if judged.extra is None else loss + judged.extra
                error = modality.squared_error(judged.output, slots.targets, slots.weights)
        if penalty is not None:
            # of the fp32 latents, not of their rounded copy, which only lends its place in the graph: torch 2.11 compiles
            # no requires_grad_() of an intermediate
            nothing = slots.decoder_input.float() - slots.decoder_input.detach().float()
            cost = penalty(slots.to_latents(slots.latents.detach()) + nothing, slots.initial, slots.step)
            (pulled_cost,) = torch.autograd.grad(scale * cost.sum(), slots.decoder_input)
            loss, gradient = loss + cost.detach(), gradient.float() + pulled_cost.float()
        if decoder.judge is not None and due is not None:
            before = slots.losses.gather(1, (slots.step - 1).clamp_min(0).long().unsqueeze(1)).squeeze(1)
            loss, error = torch.where(due, loss, before), torch.where(due, error, torch.inf)
        return loss, error, gradient, scale

    return evaluate


def _due(slots: Slots, interval: int) -> torch.Tensor:
    """(B,) bool: which images are judged at this iteration; one that has no best latents yet always is."""
    return (slots.step % interval == 0) | torch.isinf(slots.best_loss)


def _any_of(due: torch.Tensor) -> bool:
    """False where a forward pass can be left out; known only where the host may look at (B,) bool `due` for nothing."""
    return due.device.type != "cpu" or torch.compiler.is_compiling() or bool(due.any())


def _vjp(
    decoded: torch.Tensor,
    latents: torch.Tensor,
    output_gradient: torch.Tensor,
    extra: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """The gradient with respect to the latents of ⟨decoded, output_gradient⟩ + scale · Σ extra."""
    if extra is not None:
        total = (decoded.float() * output_gradient).sum() + scale * extra.sum()
        (gradient,) = torch.autograd.grad(total, latents)
    elif decoded.device.type == "cpu" and not torch.compiler.is_compiling():
        # as below to the bit; given a gradient of the output, torch imports its symbolic shapes, a third of a second
        (gradient,) = torch.autograd.grad((decoded * output_gradient).sum(), latents)
    else:
        (gradient,) = torch.autograd.grad(decoded, latents, output_gradient)
    return gradient


def total_objective(config: OptimizationConfig, slots: Slots) -> Callable[[Decoded, torch.Tensor], torch.Tensor]:
    """(decoded, latents) -> (B,): loss, extra loss and penalty of these slots' images, as the loop minimises them, at the
    iteration that each image has reached."""
    objective, penalty = build_objective(config.loss_function), build_penalty(config.regularisers)

    def total(decoded: Decoded, latents: torch.Tensor) -> torch.Tensor:
        loss = objective(decoded.output.float(), slots.targets, slots.weights)
        loss = loss if decoded.extra is None else loss + decoded.extra
        return loss if penalty is None else loss + penalty(latents, slots.initial, slots.step)

    return total
