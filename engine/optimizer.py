"""The public optimiser: a batch of latents and targets in, one result per image out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .autoencoder import Autoencoder
from .checks import check_images, check_pair
from .config import OptimizationConfig
from .device import resolve_precision
from .load import load_autoencoder
from .loop import NON_FINITE, STOP_REASONS, LoopState, loss_lists, run_loop
from .metrics import quality
from .objective import Loss, build_objective


@dataclass
class OptimizationResult:
    """One image's outcome. Tensors are fp32 on the device of the given latents, latents unscaled."""

    initial_latents: torch.Tensor  # (1, C, h, w)
    optimized_latents: torch.Tensor  # (1, C, h, w), the best seen, never worse than the initial ones
    losses: list[float]  # one per iteration, the first at the initial latents
    metrics: dict[str, float]  # initial_psnr, final_psnr, psnr_improvement (dB), …; see `summarise`
    convergence_iteration: int | None  # the iteration at which the image converged or reached its target
    stop_reason: str  # one of STOP_REASONS; "non-finite" marks an image that fell back to its best finite latent
    initial_image: torch.Tensor  # (1, 3, H, W) in [-1, 1], the initial latents decoded in fp32, clamped
    optimized_image: torch.Tensor  # (1, 3, H, W) in [-1, 1], the optimised latents decoded in fp32, clamped


class LatentOptimizer:
    """Minimises loss(D(z), x) over z, by Adam, for each image of a batch on its own.

    Example: `LatentOptimizer(OptimizationConfig(iterations=30)).optimize(vae, vae_latents, image)`.
    """

    def __init__(self, config: OptimizationConfig | None = None):
        self.config = config or OptimizationConfig()

    def optimize(self, vae: object, initial_latents: torch.Tensor, target_image: torch.Tensor) -> OptimizationResult:
        """One image: (1, C, h, w) latents, (1, 3, H, W) target in [-1, 1]. Raises as `optimize_batch`."""
        return self.optimize_batch(vae, initial_latents, target_image)[0]

    def optimize_batch(
        self,
        vae: object,
        latents_batch: torch.Tensor,
        targets_batch: torch.Tensor,
        *,
        check_range: bool = True,
        on_checkpoint: Callable[[int], None] | None = None,
    ) -> list[OptimizationResult]:
        """Optimise B images at once; the arguments are not changed.

        vae: an `Autoencoder` or anything `load_autoencoder` takes. latents_batch: (B, C, h, w), unscaled.
        targets_batch: (B, 3, H, W) in [-1, 1]. check_range: refuse targets that look like [0, 1] or [0, 255]; turn it
        off for pictures known to be without dark pixels. on_checkpoint: called with the iterations done.
        Raises `UsageError` (a ValueError) for shapes, channels or ranges that do not fit.
        """
        autoencoder = load_autoencoder(vae)
        if check_range:
            check_images(targets_batch, "targets")
        check_pair(autoencoder, latents_batch, targets_batch)
        device, home = autoencoder.device, latents_batch.device
        latents = latents_batch.detach().to(device, torch.float32)
        targets = targets_batch.detach().to(device, torch.float32)
        precision = resolve_precision(self.config.precision, device)
        objective = build_objective(self.config.loss_function)

        state = run_loop(
            latents, targets, lambda z: autoencoder.decode(z, precision), objective, self.config, on_checkpoint
        )
        chosen, initial_image, final_image, losses = _choose(autoencoder, state, latents, targets, objective)
        metrics = summarise(
            quality(initial_image, targets), quality(final_image, targets), losses["initial"], losses["final"]
        )
        histories = loss_lists(state)
        codes, stops = state.stop_code.tolist(), state.stop_iteration.tolist()
        return [
            OptimizationResult(
                initial_latents=latents[i : i + 1].to(home),
                optimized_latents=chosen[i : i + 1].to(home),
                losses=histories[i],
                metrics=metrics[i],
                convergence_iteration=stops[i] if stops[i] >= 0 and codes[i] != NON_FINITE else None,
                stop_reason=STOP_REASONS[codes[i]],
                initial_image=initial_image[i : i + 1].to(home),
                optimized_image=final_image[i : i + 1].to(home),
            )
            for i in range(latents.shape[0])
        ]


@torch.no_grad()
def _choose(
    autoencoder: Autoencoder, state: LoopState, start: torch.Tensor, targets: torch.Tensor, objective: Loss
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Of the start, the best seen and the last iterate, each decoded in fp32, the one of lowest loss, per image.

    The loop may have run in lower precision; this comparison is what makes "never worse than the start" exact.
    """
    image = autoencoder.decode(start)
    initial_image, loss = image.clamp(-1, 1), objective(image, targets)
    latents, initial_loss, final_image = start, loss, initial_image
    for candidate in (state.best_latents, state.latents):
        image = autoencoder.decode(candidate)
        candidate_loss = objective(image, targets)
        better = candidate_loss < loss  # False for NaN
        wide = better.view(-1, 1, 1, 1)
        latents = torch.where(wide, candidate, latents)
        final_image = torch.where(wide, image.clamp(-1, 1), final_image)
        loss = torch.where(better, candidate_loss, loss)
    return latents, initial_image, final_image, {"initial": initial_loss, "final": loss}


def summarise(
    initial: dict[str, torch.Tensor],
    final: dict[str, torch.Tensor],
    initial_loss: torch.Tensor,
    final_loss: torch.Tensor,
) -> list[dict[str, float]]:
    """Per image: `initial_<m>`, `final_<m>`, `<m>_improvement` of psnr (dB) and ssim, `*_8bit` of the picture rounded
    to 8 bits, and `loss_reduction`, the fraction of the initial loss that is gone."""
    columns: dict[str, torch.Tensor] = {}
    for name in ("psnr", "ssim"):
        columns[f"initial_{name}"], columns[f"final_{name}"] = initial[name], final[name]
        columns[f"{name}_improvement"] = final[name] - initial[name]
    for name in ("psnr_8bit", "ssim_8bit"):
        columns[f"initial_{name}"], columns[f"final_{name}"] = initial[name], final[name]
    columns["loss_reduction"] = (initial_loss - final_loss) / initial_loss.abs().clamp_min(1e-12)
    table = {name: column.cpu().tolist() for name, column in columns.items()}
    return [{name: values[i] for name, values in table.items()} for i in range(len(initial_loss))]
