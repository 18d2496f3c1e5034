"""Settings of the tuning of an encoder."""

from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class TuningSettings:
    """How an encoder is tuned: AdamW on random crops; the rate rises over `warmup` steps and falls linearly to 0."""

    steps: int = 2000
    batch_size: int = 8  # crops of a step
    crop: int = 128  # side in pixels, a multiple of the latent cell
    learning_rate: float = 5e-5
    warmup: int = 10  # steps
    average: float = 0.99  # decay of the moving average of the weights, which is the result
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value out of its range."""
        for name in ("steps", "batch_size", "crop", "warmup"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected a whole number of at least 1, found {getattr(self, name)}")
        if not self.learning_rate > 0.0:
            raise UsageError(f"learning_rate: expected a number above 0, found {self.learning_rate}")
        if not 0.0 <= self.average < 1.0:
            raise UsageError(f"average: expected a fraction in [0, 1), found {self.average}")

    def rate(self, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (1.0 - step / self.steps)
