"""The public optimiser: a batch of latents and targets in, one result per image out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.loading import load_autoencoder
from ..errors import UsageError
from ..loop_decoder import Decoded, LoopDecoder
from ..losses.metrics import psnr
from ..losses.registry import check_loss
from ..losses.regularisers import check_penalty
from ..modality import Modality
from ..runtime.cuda_flags import exact_fp32
from ..runtime.device import resolve_precision
from ..runtime.torch_modes import default_modes
from .checks import check_pair, check_tensors, check_weights
from .config import OptimizationConfig
from .evaluation import total_objective
from .loop import Loop, get_loop, loss_lists, refine_in_fp32
from .presets import resolve_config
from .slots import CONVERGED, NON_FINITE, RUNNING, STOP_REASONS, TARGET_REACHED, Slots
from .warm_start import warm_start


@dataclass
class OptimizationResult:
    """One image's outcome. Tensors are fp32 on the device of the given latents, latents unscaled."""

    initial_latents: torch.Tensor  # (1, C, h, w)
    optimized_latents: torch.Tensor  # (1, C, h, w), the best seen, never worse than the initial ones
    losses: list[float]  # one per iteration, the first where the iterations start
    metrics: dict[str, float]  # initial_psnr, final_psnr, psnr_improvement (dB), …; see `summarise`
    convergence_iteration: int | None  # the iteration at which the image converged or reached its target
    stop_reason: str  # one of STOP_REASONS; "non-finite" marks an image that fell back to its best finite latent
    initial_image: torch.Tensor  # (1, 3, H, W) in [-1, 1], the initial latents decoded in fp32, clamped
    optimized_image: torch.Tensor  # (1, 3, H, W) in [-1, 1], the optimised latents decoded in fp32, clamped
    seam_psnr: float | None = None  # dB between the latents decoded whole and in tiles; None where there are no tiles


class LatentOptimizer:
    """Minimises loss(D(z), x) over z, by Adam, for each image of a batch on its own.

    config: the settings, or a preset's name.
    Example: `LatentOptimizer(OptimizationConfig(iterations=30)).optimize(vae, vae_latents, image)`.
    """

    def __init__(self, config: OptimizationConfig | str | None = None):
        self.config = resolve_config(config)

    def optimize(
        self,
        vae: object,
        initial_latents: torch.Tensor,
        target_image: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> OptimizationResult:
        """Optimise one image: (1, C, h, w) latents, (1, 3, H, W) target in [-1, 1]. Raises what `optimize_batch` raises, and
        `UsageError` for more images than one."""
        if len(initial_latents) != 1:
            raise UsageError(f"optimize takes one image, found {len(initial_latents)}; use optimize_batch")
        return self.optimize_batch(vae, initial_latents, target_image, weights=weight)[0]

    def optimize_batch(
        self,
        vae: object,
        latents_batch: torch.Tensor,
        targets_batch: torch.Tensor,
        *,
        weights: torch.Tensor | None = None,
        encoded: torch.Tensor | None = None,
        check_range: bool = True,
        on_checkpoint: Callable[[int], None] | None = None,
    ) -> list[OptimizationResult]:
        """Optimise B images at once; the arguments are not changed.

        vae: an `Autoencoder` or anything `load_autoencoder` takes. latents_batch: (B, C, h, w), unscaled.
        targets_batch: (B, 3, H, W) in [-1, 1]. weights: (B, 1, H, W) ≥ 0, how much each pixel counts, in the loss, the
        target gain and the metrics; only ratios within an image matter; a bool mask will do. encoded: E(targets)
        (B, C, h, w) where it is known, which saves a warm start one encoding. check_range: refuse targets that look like
        [0, 1] or [0, 255]; turn it off for pictures known to be without dark pixels.
        on_checkpoint: called with the iterations done.
        The caller's inference mode, autocast and default type do not count. Raises `UsageError` (a ValueError) for shapes,
        channels or ranges that do not fit, or an image whose weights are all 0, and `WeightsUnavailableError` where the loss
        needs a network that is not here.
        """
        autoencoder = load_autoencoder(vae)
        check_tensors(latents=latents_batch, targets=targets_batch)
        if check_range:
            autoencoder.modality.check_targets(targets_batch, "targets")
        check_pair(autoencoder, latents_batch, targets_batch)
        with default_modes(autoencoder.device):
            return self._optimize(autoencoder, latents_batch, targets_batch, weights, encoded, on_checkpoint)

    def _optimize(
        self, autoencoder: Autoencoder, latents_batch: torch.Tensor, targets_batch: torch.Tensor,
        weights: torch.Tensor | None, encoded: torch.Tensor | None, on_checkpoint: Callable[[int], None] | None,
    ) -> list[OptimizationResult]:  # fmt: skip
        """`optimize_batch` of latents and targets that were checked."""
        device, home = autoencoder.device, latents_batch.device
        check_loss(self.config.loss_function, tuple(targets_batch.shape[1:]), device)
        latents = latents_batch.detach().to(device, torch.float32)
        check_penalty(self.config.regularisers, latents)
        targets = targets_batch.detach().to(device, torch.float32)
        if weights is not None:
            weights = check_weights(weights, targets)
        loop = start_loop(autoencoder, self.config, latents, targets, bucket=True, weighted=weights is not None)
        everything = list(range(latents.shape[0]))
        warm = warm_start(autoencoder, self.config, latents, targets, weights, encoded)
        loop.load(everything, latents, targets, weights, warm)
        loop.complete(on_checkpoint)
        return finish(autoencoder, loop, everything, home)


def start_loop(
    autoencoder: Autoencoder, config: OptimizationConfig, latents: torch.Tensor, targets: torch.Tensor,
    *, bucket: bool = False, weighted: bool = False,
) -> Loop:  # fmt: skip
    """Return a loop with free slots for batches shaped like these, in the configuration's precision; see `get_loop`."""
    precision = resolve_precision(config.precision, autoencoder.device)
    return get_loop(autoencoder, config, precision, latents, targets, bucket=bucket, weighted=weighted)


@torch.no_grad()
@exact_fp32()
def finish(autoencoder: Autoencoder, loop: Loop, where: list[int], home: torch.device) -> list[OptimizationResult]:
    """Take the images out of the slots `where`, refine them in fp32, and return the best of each, measured in fp32."""
    decoder, modality = autoencoder.loop_decoder("fp32"), autoencoder.modality
    start, slots = loop.start(where), loop.unload(where)
    start = decoder.evaluate(slots.initial, slots.step) if start is None else start
    in_loop, tile = decoder, loop.config.tile
    if tile is not None:
        in_loop = autoencoder.loop_decoder("fp32", recompute=True, tile=tile)
    slots, last = _refine(decoder, in_loop, loop, slots, start.output.float())
    slots = slots.in_latent_space()
    objective = total_objective(loop.config, slots)
    latents, output, initial_loss, final_loss = _choose(decoder, slots, start, last, objective)
    initial_output = modality.clamp(start.output.float())
    seams = [None] * len(where) if tile is None else psnr(modality.clamp(in_loop(latents)), output).tolist()
    before, after = (modality.measure(each, slots.targets, slots.weights) for each in (initial_output, output))
    metrics = summarise(modality, before, after, initial_loss, final_loss)
    codes, stops, histories = slots.stop_code.tolist(), slots.stop_iteration.tolist(), loss_lists(slots)
    return [
        OptimizationResult(
            initial_latents=slots.initial[i : i + 1].to(home),
            optimized_latents=latents[i : i + 1].to(home),
            losses=histories[i],
            metrics=metrics[i],
            convergence_iteration=stops[i] if stops[i] >= 0 and codes[i] != NON_FINITE else None,
            stop_reason=STOP_REASONS[codes[i]],
            initial_image=initial_output[i : i + 1].to(home),
            optimized_image=output[i : i + 1].to(home),
            seam_psnr=seams[i],
        )
        for i in range(len(where))
    ]


def _refine(
    decoder: LoopDecoder, in_loop: LoopDecoder, loop: Loop, slots: Slots, start: torch.Tensor
) -> tuple[Slots, Decoded | None]:
    """Run the fp32 refinement after a loop in lower precision or with approximate gradients, and, for an image whose
    target is not met in fp32, the iterations that it has left. in_loop: what is differentiated. start: (B, C, *spatial) fp32, the initial latents decoded.

    Returns the slots, and what their latents decode to where that was computed and still holds.
    """
    last = None
    if loop.exact:
        return slots, last
    config, modality = loop.config, decoder.modality
    which = ((slots.stop_code == RUNNING) | (slots.stop_code == CONVERGED)) & (loop.refinement_iterations > 0)
    max_steps = (slots.step + loop.refinement_iterations).clamp_max(config.iterations)
    if config.has_target:
        error = modality.squared_error(start, slots.targets, slots.weights)
        goal = modality.target_error(error, config.target_gain, config.target_psnr)
        slots.target_error.copy_(goal)
        claimed = slots.stop_code == TARGET_REACHED
        if bool(claimed.any()):
            last = decoder.evaluate(slots.to_latents(slots.latents), slots.step)
            short = claimed & (modality.squared_error(last.output, slots.targets, slots.weights) > goal)
            which, max_steps = which | short, torch.where(short, config.iterations, max_steps)
    which = which & (slots.step < max_steps)
    if not bool(which.any()):
        return slots, last
    return refine_in_fp32(in_loop, slots, config, which, max_steps), None


def _choose(
    decoder: LoopDecoder,
    slots: Slots,
    start: Decoded,
    last: Decoded | None,
    objective: Callable[[Decoded, torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose, per image, the latents of lowest loss among the start, the last iterate and the best one, decoded in fp32.
    start: the initial latents, decoded. last: the last iterate, where it was decoded already.

    Returns the latents, their output clamped, the start's loss and the loss of the chosen latents. The loop may have run in lower precision;
    this comparison is what makes "never worse than the start" exact.
    """
    initial_loss = loss = objective(start, slots.initial)
    latents, output = slots.initial, start.output.float()
    for candidate in (slots.latents, slots.best_latents):
        # the best seen is decoded only where, by the loop's own and perhaps less exact figure, it may be better
        if candidate is slots.best_latents and bool((slots.best_loss > loss + 0.02 * loss.abs()).all()):
            break
        if candidate is slots.best_latents and torch.equal(candidate, slots.latents):
            break  # the last iterate was the best, and is decoded already
        known = last if candidate is slots.latents else None
        decoded = decoder.evaluate(candidate, slots.step) if known is None else known
        candidate_loss = objective(decoded, candidate)
        better = candidate_loss < loss  # False for NaN
        wide = better.view((-1,) + (1,) * (output.ndim - 1))
        latents = torch.where(better.view((-1,) + (1,) * (latents.ndim - 1)), candidate, latents)
        output, loss = torch.where(wide, decoded.output.float(), output), torch.where(better, candidate_loss, loss)
    return latents, decoder.modality.clamp(output), initial_loss, loss


def summarise(
    modality: Modality,
    initial: dict[str, torch.Tensor],
    final: dict[str, torch.Tensor],
    initial_loss: torch.Tensor,
    final_loss: torch.Tensor,
) -> list[dict[str, float]]:
    """Per image: `initial_<m>` and `final_<m>` of the modality's metrics m, `<m>_improvement` of some, and
    `loss_reduction`, the fraction of the initial loss that is gone."""
    columns: dict[str, torch.Tensor] = {}
    for name in modality.metric_names:
        columns[f"initial_{name}"], columns[f"final_{name}"] = initial[name], final[name]
        if name in modality.improvement_names:
            columns[f"{name}_improvement"] = final[name] - initial[name]
    columns["loss_reduction"] = (initial_loss - final_loss) / initial_loss.abs().clamp_min(1e-12)
    rows = torch.stack([column.float() for column in columns.values()], 1).tolist()  # one copy from the device
    return [dict(zip(columns, row, strict=True)) for row in rows]
