"""The state of the optimisation loop: B slots on the device, each with one image that is being optimised, or idle."""

import dataclasses
from dataclasses import dataclass

import torch

from ...kernels.library import channels_last
from ..coordinates import Coordinates
from ..errors import UsageError
from .config import OptimizationConfig

DIRECT = Coordinates()  # the latents themselves

RUNNING, CONVERGED, TARGET_REACHED, NON_FINITE = range(4)
STOP_REASONS = ("iterations", "converged", "target", "non-finite")  # by the codes above


@dataclass
class Slots:
    """All tensors are on one device and are changed in place only, so that a captured graph can keep their addresses.

    Latents are (B, *latent shape), in what follows (B, C, h, w), targets (B, C, *spatial), for example (B, 3, H, W). T is
    the configuration's iterations; column T of the histories takes what idle slots write. What is optimised are coordinates,
    which the slots' `coordinates` map to latents.
    """

    initial: torch.Tensor  # (B, C, h, w) fp32, the encoder's latents, which a result is never worse than
    origin: torch.Tensor  # like initial, where the iterations start: the same, or a warm start
    latents: torch.Tensor  # like initial, the current iterate, in the slots' coordinates
    decoder_input: (
        torch.Tensor
    )  # like initial, the current latents in the decoder's precision: decoded, and where gradients end
    targets: torch.Tensor  # (B, 3, H, W) fp32 in [-1, 1]
    exp_avg: torch.Tensor  # like latents, Adam's first moment
    exp_avg_sq: torch.Tensor  # like latents, Adam's second moment
    bias_correction: torch.Tensor  # (B,) fp32, the weight gathered in exp_avg, 1 − β₁ᵗ for a constant β₁
    best_latents: torch.Tensor  # like latents, of the lowest finite loss so far
    best_loss: torch.Tensor  # (B,) fp32, infinity until one is seen
    losses: torch.Tensor  # (B, T + 1) fp32, NaN where an image did not run
    best_history: torch.Tensor  # (B, T + 1) fp32, best_loss after each iteration
    learning_rate: torch.Tensor  # (B,) fp32, in the latent's unit
    target_error: torch.Tensor  # (B,) fp32, clamped squared error at which an image is done; negative: never
    step: torch.Tensor  # (B,) int32, iterations done
    max_steps: torch.Tensor  # (B,) int32, iterations to do
    active: torch.Tensor  # (B,) bool
    stop_code: torch.Tensor  # (B,) int8, an index into STOP_REASONS
    stop_iteration: torch.Tensor  # (B,) int32, the iteration that stopped it, -1 for none
    weights: torch.Tensor | None = None  # (B, 1, H, W) fp32 of mean 1 per image; None: all pixels count alike
    coordinates: Coordinates = DIRECT  # shared by all slots

    @classmethod
    def empty(
        cls, latents: torch.Tensor, targets: torch.Tensor, config: OptimizationConfig, dtype: torch.dtype,
        weighted: bool = False, coordinates: Coordinates = DIRECT,
    ) -> "Slots":  # fmt: skip
        """Idle slots for batches shaped like (B, C, h, w) `latents` and (B, 3, H, W) `targets`, which are not read."""
        count, device = latents.shape[0], latents.device
        like = torch.empty_like(latents, dtype=torch.float32, memory_format=torch.contiguous_format)
        layout = channels_last(targets.ndim)

        def each(value: float, kind: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.full((count,), value, dtype=kind, device=device)

        history = torch.full((count, config.iterations + 1), float("nan"), device=device)
        return cls(
            initial=torch.zeros_like(like),
            origin=torch.zeros_like(like),
            latents=torch.zeros_like(like),
            decoder_input=torch.zeros_like(like, dtype=dtype).requires_grad_(True),
            targets=torch.zeros_like(targets, dtype=torch.float32, memory_format=layout),
            exp_avg=torch.zeros_like(like),
            exp_avg_sq=torch.zeros_like(like),
            bias_correction=each(0.0),
            best_latents=torch.zeros_like(like),
            best_loss=each(float("inf")),
            losses=history,
            best_history=history.clone(),
            learning_rate=each(0.0),
            target_error=each(-1.0),
            step=each(0, torch.int32),
            max_steps=each(config.iterations, torch.int32),
            active=each(False, torch.bool),
            stop_code=each(RUNNING, torch.int8),
            stop_iteration=each(-1, torch.int32),
            weights=torch.ones_like(targets[:, :1], dtype=torch.float32, memory_format=torch.contiguous_format)
            if weighted
            else None,
            coordinates=coordinates,
        )

    def to_latents(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Map coordinates, `latents` or `best_latents`, to latents (B, C, h, w)."""
        return self.coordinates.to_latents(self.origin, coordinates)

    @torch.no_grad()
    def in_latent_space(self) -> "Slots":
        """Return the same slots with `latents` and `best_latents` mapped to latents, and direct coordinates."""
        fixed = {name: self.to_latents(getattr(self, name)) for name in ("latents", "best_latents")}
        return dataclasses.replace(self, **fixed, coordinates=DIRECT)

    @torch.no_grad()
    def load(
        self,
        where: list[int],
        latents: torch.Tensor,
        targets: torch.Tensor,
        config: OptimizationConfig,
        max_steps: int | None = None,
        weights: torch.Tensor | None = None,
        origin: torch.Tensor | None = None,
    ) -> None:
        """Start images in the slots `where`: (n, C, h, w) latents, (n, 3, H, W) targets, both copied.

        max_steps: iterations to do; None: all of the configuration's. weights: (n, 1, H, W), where the slots have them.
        origin: latents to start the iterations at; None: `latents`.
        """
        if (weights is None) != (self.weights is None):
            raise UsageError("images with a weight map and images without cannot share a loop: give both kinds apart")
        index = torch.tensor(where, device=self.latents.device)
        latents = latents.to(self.latents.device, torch.float32)
        origin = latents if origin is None else origin.to(latents)
        self.initial[index] = latents
        for name in ("origin", "latents", "best_latents", "decoder_input"):
            tensor = getattr(self, name)
            tensor[index] = origin.to(tensor.dtype)
        if not self.coordinates.direct:
            self.latents[index], self.best_latents[index] = 0.0, 0.0
        self.targets[index] = targets.to(self.targets)
        if self.weights is not None and weights is not None:
            self.weights[index] = weights.to(self.weights)
        self.learning_rate[index] = learning_rates(latents, config, self.coordinates)
        fresh = {
            "exp_avg": 0.0, "exp_avg_sq": 0.0, "bias_correction": 0.0, "best_loss": float("inf"), "losses": float("nan"),
            "best_history": float("nan"), "target_error": -1.0, "step": 0, "max_steps": config.iterations if max_steps is None else max_steps, "active": True,
            "stop_code": RUNNING, "stop_iteration": -1,
        }  # fmt: skip
        for name, value in fresh.items():
            getattr(self, name)[index] = value

    @torch.no_grad()
    def take(self, where: list[int], dtype: torch.dtype | None = None) -> "Slots":
        """Return a copy of the slots `where`, with `decoder_input` in `dtype`; None: in its present type."""
        index = torch.tensor(where, device=self.latents.device)
        copies = {name: getattr(self, name).detach()[index] for name in self.names()}
        copies["targets"] = copies["targets"].contiguous(memory_format=channels_last(self.targets.ndim))
        part = Slots(
            **copies, weights=None if self.weights is None else self.weights[index], coordinates=self.coordinates
        )
        part.decoder_input = (
            part.to_latents(part.latents).to(dtype or self.decoder_input.dtype, copy=True).requires_grad_(True)
        )
        return part

    @torch.no_grad()
    def put(self, where: list[int], part: "Slots") -> None:
        """Write `part` back to the slots `where`."""
        index = torch.tensor(where, device=self.latents.device)
        for name in self.names():
            getattr(self, name)[index] = getattr(part, name).detach()

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the tensors that every instance has; weights and coordinates, which no iteration changes, are not
        among them."""
        return [field.name for field in dataclasses.fields(cls) if field.name not in ("weights", "coordinates")]


def learning_rates(
    latents: torch.Tensor, config: OptimizationConfig, coordinates: Coordinates = DIRECT
) -> torch.Tensor:
    """Return (B,) fp32: the absolute learning rate where one is set, else a multiple of σ of each image's initial latents."""
    if config.learning_rate is not None:
        return torch.full((latents.shape[0],), config.learning_rate, device=latents.device)
    return config.relative_learning_rate * coordinates.initial_std(latents)
