"""Pictures of the spectrum of each of the latent's nested scales."""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..bitstream.image_codec import ImageCodec, padded
from ..transforms.dct import dct_2d

SCALES = ("s1", "s2", "s3")
LEAST = 1e-6  # a magnitude below it counts as it: a logarithm of 0 would take the whole mean
BANDS = 16  # of the profile over the radius, at most


@torch.inference_mode()
def scale_spectra(codec: ImageCodec, images: Iterable[Tensor]) -> list[Tensor]:
    """Return of s1, s2, s3 the mean of log10 |DCT-II| over channels and pictures, (h, w) fp32, [0, 0] being frequency 0.

    images: (3, H, W) uint8, of any sizes. Where they differ, larger spectra are averaged to the least height and width that
    occur, so that entries of one relative frequency meet.
    """
    found: list[list[Tensor]] = [[] for _ in SCALES]
    for image in images:
        for own, latent in zip(found, codec.model.collect_latents(padded(image)), strict=True):
            own.append(dct_2d(latent).abs().clamp_min(LEAST).log10().mean(1)[0])
    result = []
    for own in found:
        height, width = (min(spectrum.shape[side] for spectrum in own) for side in (0, 1))
        result.append(torch.stack([functional.adaptive_avg_pool2d(s[None], (height, width))[0] for s in own]).mean(0))
    return result


def spectrum_plot(spectra: list[Tensor], title: str, path: Path) -> None:
    """Save a PNG: the spectra of s1, s2, s3 in one colour scale, and their means over the direction.

    spectra: as `scale_spectra` returns them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    *panels, profile = figure.subplots(1, len(spectra) + 1, width_ratios=[1] * len(spectra) + [1.35])
    inner = torch.cat(
        [spectrum.flatten()[1:] for spectrum in spectra if spectrum.numel() > 1] or [spectra[0].flatten()]
    )
    low, high = float(inner.quantile(0.01)), float(inner.max())  # frequency 0 is far above the rest
    for axes, name, spectrum in zip(panels, SCALES, spectra, strict=True):
        drawn = axes.imshow(spectrum.numpy(), vmin=low, vmax=high, extent=(0, 1, 1, 0), aspect="equal", cmap="magma")
        height, width = spectrum.shape
        axes.set_title(f"{name}, {width}×{height} coefficients", fontsize=10, loc="left")
        axes.set_xlabel("horizontal frequency")
        axes.set_xticks((0, 0.5, 1))
        axes.set_yticks((0, 0.5, 1))
    panels[0].set_ylabel("vertical frequency")
    figure.colorbar(drawn, ax=panels, shrink=0.75, label="mean of log10 |DCT|", pad=0.01)
    for name, spectrum in zip(SCALES, spectra, strict=True):
        radii, means = radial_profile(spectrum)
        profile.plot(radii, means, marker="o", markersize=3.5, label=name)
    profile.set_title("mean of log10 |DCT| over directions", fontsize=10, loc="left")
    profile.set_xlabel("√(horizontal² + vertical²)")
    profile.grid(True, alpha=0.25)
    profile.spines[["top", "right"]].set_visible(False)
    profile.legend(frameon=False)
    figure.suptitle(f"{title}; frequencies relative to the scale's highest", fontsize=12, x=0.01, ha="left")
    figure.savefig(path, dpi=110)


def radial_profile(spectrum: Tensor) -> tuple[list[float], list[float]]:
    """Return radii √((u/h)² + (v/w)²) and the means of the entries around them, in bands; bands without an entry are left out."""
    height, width = spectrum.shape
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    radius = (rows.square() + columns.square()).sqrt()
    radii, means = [], []
    bands = min(BANDS, height, width)
    for low, high in pairwise(torch.linspace(0, math.sqrt(2), bands + 1).tolist()):
        inside = (radius >= low) & (radius < high)
        if inside.any():
            radii.append(float(radius[inside].mean()))
            means.append(float(spectrum[inside].mean()))
    return radii, means
