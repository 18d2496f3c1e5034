"""Codes drawn one after the other, with temperature, top-k and classifier-free guidance of the logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ....engine.errors import UsageError
from .transformer import Cache, Transformer


@torch.no_grad()
def sample_codes(
    transformer: Transformer,
    users: Tensor,
    seeds: Sequence[int],
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Tensor:
    """Codes (B, length) int64, on the transformer's device, which is left in evaluation mode.

    users: (B,) int64, from 0 on. seeds: one per sample: a sample does not depend on the others of its batch, beyond rounding.
    guidance_scale: logits are null + scale · (user − null); 1: the user's alone, in half of the time. top_k: of the most probable codes alone
    is drawn; None: of all. Raises `UsageError` for a user that does not exist, a temperature of 0 or less, or a top_k below 1.
    """
    known = transformer.condition.num_users
    if not 0 <= int(users.min()) <= int(users.max()) < known:
        raise UsageError(f"users: expected 0 to {known - 1}, found {users.tolist()}")
    if not 0.0 < temperature < float("inf") or (top_k is not None and top_k < 1):
        raise UsageError(f"expected a temperature above 0 and a top_k from 1 on, found {temperature} and {top_k}")
    transformer.eval()
    device, count = transformer.position.device, len(users)
    draws = [torch.rand(transformer.length, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    uniform = torch.stack(draws, 1).to(device)  # (length, B)
    guided = guidance_scale != 1.0
    everyone = users.to(device).repeat(2 if guided else 1)
    dropped = torch.arange(len(everyone), device=device) >= count
    cache: Cache = []
    drawn: list[Tensor] = []
    for number in uniform:
        previous = drawn[-1].repeat(2 if guided else 1) if drawn else None
        logits = transformer.step(previous, everyone, dropped, cache)
        if guided:
            of_user, of_any = logits.chunk(2)
            logits = of_any + guidance_scale * (of_user - of_any)
        drawn.append(draw(logits / temperature, number, top_k))
    return torch.stack(drawn, 1)


def draw(logits: Tensor, uniform: Tensor, top_k: int | None = None) -> Tensor:
    """One code for each row, (B,) int64: the first up to which the probabilities sum to more than the number.

    logits: (B, codes). uniform: (B,) in [0, 1).
    """
    if top_k is not None and top_k < logits.shape[1]:
        least = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    sums = logits.double().softmax(1).cumsum(1)
    # of the sum that rounding left, not of 1: a code of probability 0 behind it must not be drawn
    return torch.searchsorted(sums, uniform.double()[:, None] * sums[:, -1:], right=True)[:, 0].clamp_max(
        sums.shape[1] - 1
    )
