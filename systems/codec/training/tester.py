"""The test after an epoch: whole pictures, rounded latents, the loss without the inter-scale penalty."""

from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from ....engine.inputs.images import load_image
from ....engine.inputs.sources import discover
from ..bitstream.image_codec import padded
from ..model.network import HierarchicalCodec
from ..model.quantisers import hard_round
from ..rate_distortion import RateDistortionLoss

NAMES = ("loss", "bpp_loss", "mse_loss", "psnr", "y_bpp", "z_bpp")


def load_test_pictures(given: str) -> list[Tensor]:
    """(3, H, W) uint8 of each picture that `given`, as in `CropDataset`, has."""
    return [
        torch.from_numpy(load_image(source.path, None, cell=1).pixels).permute(2, 0, 1) for source in discover(given)
    ]


@torch.no_grad()
def test(model: HierarchicalCodec, criterion: RateDistortionLoss, pictures: Sequence[Tensor]) -> dict[str, float]:
    """Return the means over the pictures as `test/{loss,bpp_loss,mse_loss,psnr,y_bpp,z_bpp}`; the rate is estimated."""
    device = next(model.parameters()).device
    model.eval()
    results = []
    for picture in pictures:
        height, width = picture.shape[1:]
        output = model(padded(picture).to(device), hard_round)
        reconstruction = output.reconstruction[..., :height, :width].clamp(0.0, 1.0)
        target = picture[None].to(device, torch.float32) / 255
        terms = criterion(reconstruction, target, {"y": output.y_bits, "z": output.z_bits})
        results.append([float(terms[name]) for name in NAMES])
    model.train()
    return {f"test/{name}": fmean(column) for name, column in zip(NAMES, zip(*results, strict=True), strict=True)}
