"""The learning rate over a training."""

import math

LEAST = 0.01  # of the rate, at the end of `cosine`


def learning_rate(initial: float, scheduler: str, warmup_steps: int, step: int, steps: int) -> float:
    """Return the rate of update `step`, counted from 0, of `steps`; above 0 for every one.

    It rises to `initial` over `warmup_steps` updates; it stays there (`constant`), or falls along half a cosine to 0.01 of
    `initial` meanwhile (`cosine`).
    """
    rising = min(1.0, (step + 1) / max(1, warmup_steps))
    if scheduler == "constant":
        return initial * rising
    return initial * rising * (LEAST + (1.0 - LEAST) * (1.0 + math.cos(math.pi * step / steps)) / 2.0)
