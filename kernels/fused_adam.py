"""One Adam step for a batch of independent latents: the whole update in one kernel, driven by device tensors.

Kingma & Ba, "Adam", 2015, algorithm 1, per image b with its own step count t, learning rate η, first decay rate β₁ and flags:

    m ← β₁m + (1−β₁)fg    v ← β₂v + (1−β₂)(fg)²    z ← z − η · (m/c) / (√(v/(1−β₂ᵗ)) + ε)

c (`bias_correction1`), the sum of the weights in m, is 1−β₁ᵗ for a constant β₁, and the caller's for one that changes.

f (`gradient_scale`) undoes the scaling that the gradient came with and carries a norm clip. Where `improved`, z as it
was before the step is kept as the best latent, with its loss. `decoder_input` receives z in the decoder's precision. An
image that is not `active` keeps everything but its best; its gradient may be NaN.

Moves, per value, reads of gradient, z, m, v and writes of z, m, v, decoder_input, and of the best where it improved.
"""

import math

import torch

from .library import blocks, jit, kernel_op, launch, require, require_device, require_like, tl

BLOCK = 1024  # values per program


@jit
def _fused_adam_kernel(
    latents, gradient, exp_avg, exp_avg_sq, best_latents, decoder_input, best_loss,
    loss, improved, active, beta1, bias_correction1, bias_correction2, learning_rate, gradient_scale, eps, values, beta2,
    BLOCK: tl.constexpr,
):  # fmt: skip
    beta2 = tl.cast(beta2, tl.float32)  # the compiler passes a Python float as fp64, Triton itself as fp32
    image = tl.program_id(1).to(tl.int64)
    within = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = within < values
    offsets = image * values + within
    z = tl.load(latents + offsets, mask=inside, other=0.0)
    if tl.load(improved + image):
        tl.store(best_latents + offsets, z, mask=inside)
        if tl.program_id(0) == 0:
            tl.store(best_loss + image, tl.load(loss + image))
    if tl.load(active + image):
        g = tl.load(gradient + offsets, mask=inside, other=0.0).to(tl.float32) * tl.load(gradient_scale + image)
        m = tl.load(exp_avg + offsets, mask=inside, other=0.0)
        v = tl.load(exp_avg_sq + offsets, mask=inside, other=0.0)
        b = tl.load(beta1 + image)
        m = b * m + (1.0 - b) * g
        v = beta2 * v + (1.0 - beta2) * g * g
        mean = m / tl.load(bias_correction1 + image)
        deviation = tl.sqrt(v / tl.load(bias_correction2 + image))
        z = z - tl.load(learning_rate + image) * mean / (deviation + tl.load(eps + image))
        tl.store(exp_avg + offsets, m, mask=inside)
        tl.store(exp_avg_sq + offsets, v, mask=inside)
        tl.store(latents + offsets, z, mask=inside)
        tl.store(decoder_input + offsets, z.to(decoder_input.dtype.element_ty), mask=inside)


@kernel_op("fused_adam", ("latents", "exp_avg", "exp_avg_sq", "best_latents", "decoder_input", "best_loss"))
def _fused_adam(
    latents: torch.Tensor, gradient: torch.Tensor, exp_avg: torch.Tensor, exp_avg_sq: torch.Tensor,
    best_latents: torch.Tensor, decoder_input: torch.Tensor, best_loss: torch.Tensor,
    loss: torch.Tensor, improved: torch.Tensor, active: torch.Tensor, step: torch.Tensor, learning_rate: torch.Tensor,
    gradient_scale: torch.Tensor, beta1: torch.Tensor, bias_correction1: torch.Tensor, eps: torch.Tensor, beta2: float,
) -> None:  # fmt: skip
    values = latents[0].numel()
    # 1 − βᵗ, from the device's own step count; expm1 keeps the digits that 1 − 0.999 loses
    bias_correction2 = -torch.expm1(step * _log(beta2))
    launch(
        _fused_adam_kernel, (blocks(values, BLOCK), latents.shape[0]),
        latents, gradient, exp_avg, exp_avg_sq, best_latents, decoder_input, best_loss,
        loss, improved, active, beta1, bias_correction1, bias_correction2, learning_rate, gradient_scale, eps, values, beta2,
        BLOCK=BLOCK,
    )  # fmt: skip


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0.0 else -1e4  # β = 0: no memory, β to any power is 0


def fused_adam(
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
    """Mutates latents, both moments, best_latents, decoder_input and best_loss; nothing is returned.

    latents, exp_avg, exp_avg_sq, best_latents: (B, ...) fp32 contiguous; gradient, decoder_input: the same shape, fp32,
    bf16 or fp16. Of shape (B,): best_loss, loss, learning_rate (in the latent's unit), gradient_scale, beta1 and
    bias_correction1 (β₁ and c of this step), eps (in the unit of the gradient times gradient_scale) fp32; improved, active
    bool; step int32, the number of this step, from 1. Raises `ValueError` for anything else.
    """
    require_device(latents, "fused_adam")
    require(latents.is_contiguous(), f"fused_adam: latents must be contiguous, found strides {latents.stride()}")
    state = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "best_latents": best_latents}
    require_like("fused_adam", latents, gradient=gradient, decoder_input=decoder_input, **state)
    for name, tensor in ({"latents": latents} | state).items():
        require(tensor.dtype == torch.float32, f"fused_adam: {name} must be fp32, found {tensor.dtype}")
    for name, tensor, dtype in (
        ("best_loss", best_loss, torch.float32), ("loss", loss, torch.float32), ("learning_rate", learning_rate, torch.float32),
        ("gradient_scale", gradient_scale, torch.float32), ("improved", improved, torch.bool), ("active", active, torch.bool),
        ("step", step, torch.int32), ("beta1", beta1, torch.float32), ("bias_correction1", bias_correction1, torch.float32),
        ("eps", eps, torch.float32),
    ):  # fmt: skip
        require(
            tensor.dtype == dtype and tuple(tensor.shape) == (latents.shape[0],) and tensor.is_contiguous(),
            f"fused_adam: {name} must be contiguous {dtype} of shape ({latents.shape[0]},), "
            f"found {tensor.dtype} {tuple(tensor.shape)}",
        )
    _fused_adam(
        latents, gradient, exp_avg, exp_avg_sq, best_latents, decoder_input, best_loss,
        loss, improved, active, step, learning_rate, gradient_scale, beta1, bias_correction1, eps, beta2,
    )  # fmt: skip
