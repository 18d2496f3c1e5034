"""The loss that the codec is trained by: λ · 255² · MSE + bits per pixel, and from epoch T on the inter-scale penalty."""

import math
from collections.abc import Mapping, Sequence

import torch

from ...engine.errors import UsageError
from ...engine.losses.metrics import PSNR_CEILING
from .inter_scale import InterScaleRegularizer
from .precision import wide

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483)  # λ of the qualities 1 to 6


class RateDistortionLoss(torch.nn.Module):
    """The loss and its terms, by their names.

    lmbda: λ, above 0; `LAMBDAS` has the usual ones. regularizer: the inter-scale penalty, or None. Its alignments are
    then parameters of this module: optimise and save them. start_epoch: T, the first epoch that has the penalty.
    """

    def __init__(self, lmbda: float = 0.013, regularizer: InterScaleRegularizer | None = None, start_epoch: int = 100):
        super().__init__()
        if not 0.0 < lmbda < math.inf:
            raise UsageError(f"lambda: expected a number above 0, such as one of {LAMBDAS}, found {lmbda}")
        self.lmbda, self.regularizer, self.start_epoch = lmbda, regularizer, start_epoch

    def forward(
        self,
        reconstruction: torch.Tensor,
        target: torch.Tensor,
        bits: Mapping[str, torch.Tensor],
        latents_hierarchy: Sequence[torch.Tensor | None] | None = None,
        epoch: float | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return scalars: `loss`, `bpp_loss`, `mse_loss`, `psnr` (dB), `<part>_bpp` per part, `inter_scale_reg`.

        reconstruction, target: (B, 3, H, W), target in [0, 1]. bits: what each part costs ("y", "z"), of any shape; its
        sum over `B · H · W` is the rate. latents_hierarchy: coarse to fine, needed from `start_epoch` on. epoch: counted
        from 0; None for evaluation, which leaves the penalty out. `psnr` is that of the batch's mean squared error.
        Raises `UsageError` where the penalty is due and there are no latents.
        """
        pixels = target.shape[0] * target.shape[-2] * target.shape[-1]
        rates = {f"{part}_bpp": wide(cost).sum() / pixels for part, cost in bits.items()}
        mse = (wide(reconstruction) - target).square().mean()
        bpp = torch.stack(list(rates.values())).sum()
        penalty = self._penalty(latents_hierarchy, epoch).to(mse.device)
        loss = self.lmbda * 255.0**2 * mse + bpp + penalty
        psnr = (-10.0 * mse.detach().log10()).clamp_max(PSNR_CEILING)
        return {"loss": loss, "bpp_loss": bpp, "mse_loss": mse, "psnr": psnr, **rates, "inter_scale_reg": penalty}

    def _penalty(self, latents_hierarchy: Sequence[torch.Tensor | None] | None, epoch: float | None) -> torch.Tensor:
        if self.regularizer is None or epoch is None or epoch < self.start_epoch:
            return torch.zeros(())
        if latents_hierarchy is None:
            raise UsageError(
                f"inter-scale penalty: epoch {epoch} has it (from {self.start_epoch} on), but latents_hierarchy is None; "
                "pass the model's latents, coarse to fine"
            )
        penalty: torch.Tensor = self.regularizer(latents_hierarchy)
        return penalty
