"""Whitening: coordinates in which the decoder is about equally sensitive to every direction.

Near a solution the squared error's curvature is H = JᵀJ, J the decoder's derivative. It is far from a multiple of the
identity: some mixtures of channels, at some spatial frequencies, change the picture a thousand times as much as others,
and a gradient method crawls along the weak ones. A convolutional decoder treats all places nearly alike, so averaged
over places H is a convolution, at each spatial frequency a C × C matrix S(f). It is measured once per decoder: JᵀN of
white noise N has the power spectrum S. Then z = origin + P w with P = (S + λ)^-½ makes the curvature in w about the
identity, and Adam runs in w.

The noise of the measurement is averaged over random latents and probes; λ, the mean of S's eigenvalues, keeps directions
that change nothing from being followed far. P's filter is cut to a few taps, so that one measurement on a small latent
serves every size.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..runtime.one_time import one_time
from .cache import cache_folder, read_tensors, write_tensors

logger = logging.getLogger(__name__)

GRID = 16  # side of the latents measured on
LATENTS, PROBES = 4, 8  # random latents, noises for each: 4 decodings and 32 gradients of a small picture, once
TAPS = 15  # side of P's filter
WIDTH = 2.0  # the random latents' spread, in units of the encoder's: as optimised latents, which are wider, or more
SEED = 0
VERSION = 1  # of what is computed here; part of the stored file's name


def whitening_kernel(autoencoder: Autoencoder, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Return the filter (C, C, k, k) fp32 of P for latents of `shape` (C, h, w), on the autoencoder's device.

    None where latents are not of two spatial axes with at least 3 values each. It is kept with the autoencoder, and on disk
    where the autoencoder's weights have a hash (`$XDG_CACHE_HOME/relatent`).
    """
    if len(shape) != 3 or min(shape[1:]) < 3:
        return None
    grid = (min(shape[1], GRID), min(shape[2], GRID))
    kernel: torch.Tensor = autoencoder.cache.get(
        "coordinates", grid, lambda: _load_or_measure(autoencoder, shape, grid)
    )
    return kernel


def _load_or_measure(autoencoder: Autoencoder, shape: tuple[int, ...], grid: tuple[int, int]) -> torch.Tensor:
    path = _path(autoencoder, grid)
    found = _stored(path, shape[0])
    if found is None:
        try:
            found = measure(autoencoder, shape[0], grid)
        except RuntimeError as error:  # a decoder of one size only
            if grid == shape[1:]:
                raise
            logger.info("the decoder does not take latents of %s: %s", grid, error)
            found = measure(autoencoder, shape[0], (shape[1], shape[2]))
        if path is not None:
            write_tensors(path, found)
    return found.to(autoencoder.device)


def measure(autoencoder: Autoencoder, channels: int, grid: tuple[int, int]) -> torch.Tensor:
    """Return the filter (C, C, k, k), on the CPU, measured on latents of `grid` (h, w)."""
    generator = torch.Generator().manual_seed(SEED)
    std = WIDTH * typical_latent_std(autoencoder, grid)
    latents = (
        (torch.randn(1, channels, *grid, generator=generator) * std).to(autoencoder.device) for _ in range(LATENTS)
    )
    with one_time(f"measuring the curvature of {autoencoder.name}", LATENTS * PROBES) as advance:
        return whiten(curvature(autoencoder, latents, PROBES, generator, advance))


@torch.enable_grad()
def curvature(
    autoencoder: Autoencoder,
    latents: Iterable[torch.Tensor],
    probes: int,
    generator: torch.Generator,
    advance: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Return JᵀJ averaged over positions, for each spatial frequency: (h, w, C, C) complex, on the CPU.

    The mean cross-spectrum between channels of Jᵀn for white noise n, whose covariance is JᵀJ; `probes` draws at each
    (1, C, h, w) of `latents`, all of one shape.
    """
    spectra = []
    for each in latents:
        each = each.detach().requires_grad_(True)
        picture = autoencoder.decode(each)
        for probe in range(probes):
            noise = torch.randn(picture.shape, generator=generator).to(picture)
            (pulled,) = torch.autograd.grad(picture, each, noise, retain_graph=probe < probes - 1)
            waves = torch.fft.fft2(pulled[0].float().cpu(), norm="ortho").permute(1, 2, 0)
            spectra.append(waves.unsqueeze(-1) * waves.conj().unsqueeze(-2))
            advance()
    return torch.stack(spectra).mean(0)


def power_filter(spectrum: torch.Tensor, power: float, damping: float = 1.0, taps: int = TAPS) -> torch.Tensor:
    """(h, w, C, C) complex Hermitian spectrum S -> the real filter (C, C, k, k) of (S / mean + damping)^power.

    mean: of S's eigenvalues. k: `taps`, or the odd number that fits.
    """
    values, vectors = torch.linalg.eigh(spectrum)
    scaled = (values.clamp_min(0.0) / values.mean() + damping).pow(power).to(vectors.dtype)
    # the real part: S of a real signal has S(−f) = conj S(f), which sampling keeps; only rounding goes
    impulse = torch.fft.ifft2((vectors * scaled.unsqueeze(-2)) @ vectors.mH, dim=(0, 1)).real
    side = min(taps, *(length - 1 + length % 2 for length in spectrum.shape[:2]))
    impulse = torch.roll(impulse, (side // 2, side // 2), (0, 1))[:side, :side]
    return impulse.permute(2, 3, 0, 1).flip(-1, -2).contiguous()  # conv2d correlates


def whiten(spectrum: torch.Tensor, damping: float = 1.0, taps: int = TAPS) -> torch.Tensor:
    """(h, w, C, C) -> the filter (C, C, k, k) of (S / mean + damping)^-½, scaled so that white noise of variance 1 keeps
    that variance on average. The identity for a spectrum that is zero or not finite."""
    if not (torch.isfinite(spectrum).all() and (spectrum != 0).any()):
        return torch.eye(spectrum.shape[-1]).view(*spectrum.shape[2:], 1, 1)
    found = power_filter(spectrum, -0.5, damping, taps)
    return found / found.square().sum((1, 2, 3)).mean().sqrt()


def typical_latent_std(autoencoder: Autoencoder, grid: tuple[int, int]) -> float:
    """Return about σ of the decoder's latents: that of an encoded random target of the modality, or 1 / scaling factor."""
    factor = autoencoder.downscale_factor or 8
    spatial = tuple(side * factor for side in grid)
    target = autoencoder.modality.typical_target(spatial, torch.Generator().manual_seed(SEED))
    if autoencoder.encoder is None or target is None:
        return 1.0 / autoencoder.scaling_factor
    return autoencoder.encode(target.to(autoencoder.device)).std().item()


def _path(autoencoder: Autoencoder, grid: tuple[int, int]) -> Path | None:
    identity = autoencoder.weights_sha256
    if identity is None:
        return None
    return cache_folder("preconditioners") / f"{identity}-{grid[0]}x{grid[1]}-{VERSION}.pt"


def _stored(path: Path | None, channels: int) -> torch.Tensor | None:
    found = None if path is None else read_tensors(path)
    fits = isinstance(found, torch.Tensor) and found.shape[:2] == (channels, channels) and found.isfinite().all()
    return found if fits else None
