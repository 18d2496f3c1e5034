"""What a training step logs, under the names that dashboards of the codec's users already have."""

from collections.abc import Mapping

import torch

from .spectral_truncation import BASELINE, SpectralTruncation


def train_values(
    terms: Mapping[str, torch.Tensor], learning_rate: float, epoch: float, truncation: SpectralTruncation | None = None
) -> dict[str, float | str]:
    """Return `train/{loss,bpp_loss,mse_loss,psnr,y_bpp,z_bpp,lr}` and `spectral/{tau,phase,inter_scale_reg}`.

    terms: what `RateDistortionLoss` returned. truncation: None without Phase 1: `spectral/tau` is then 1.0 and
    `spectral/phase` "baseline". Device tensors are read in one transfer.
    """
    device = terms["loss"].device
    numbers = torch.stack([value.detach().to(device, torch.float32) for value in terms.values()]).tolist()
    values: dict[str, float | str] = {
        "spectral/inter_scale_reg" if name == "inter_scale_reg" else f"train/{name}": number
        for name, number in zip(terms, numbers, strict=True)
    }
    values["train/lr"] = learning_rate
    values["spectral/tau"] = 1.0 if truncation is None else truncation.tau(epoch)
    values["spectral/phase"] = BASELINE if truncation is None else truncation.phase(epoch)
    return values
