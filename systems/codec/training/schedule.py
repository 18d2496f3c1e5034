"""The learning rate over a training."""

import math

DROPS = ((11 / 12, 0.3), (57 / 60, 0.1), (59 / 60, 0.01))  # published: epochs 2750, 2850 and 2950 of 3000
WARM_UP = 200  # steps of `cosine`
LEAST = 0.01  # of the rate, at the end of `cosine`


def learning_rate(initial: float, schedule: str, done: float, step: int) -> float:
    """Return the rate of a step.

    schedule: `drops` falls to 0.3, 0.1 and 0.01 of `initial` near the end; `cosine` rises over 200 steps, then falls along
    half a cosine to 0.01 of it. done: the part of all epochs that is over, 0 to 1. step: counted from 0.
    """
    if schedule == "drops":
        return initial * next((factor for begin, factor in reversed(DROPS) if done >= begin), 1.0)
    fallen = LEAST + (1.0 - LEAST) * (1.0 + math.cos(math.pi * done)) / 2.0
    return initial * fallen * min(1.0, (step + 1) / WARM_UP)
