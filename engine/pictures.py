"""The modality of RGB pictures in [-1, 1]: PSNR and SSIM, also of the picture rounded to 8 bits."""

from collections.abc import Iterator

import torch

from .errors import UsageError
from .losses.metrics import from_uint8, psnr, ssim, to_uint8
from .modality import Modality

TOLERANCE = 1e-3  # resampling and 16-bit storage overshoot by this much


class Pictures(Modality):
    """Pictures (B, 3, H, W) in [-1, 1]."""

    metric_names = ("psnr", "ssim", "psnr_8bit", "ssim_8bit")
    improvement_names = ("psnr", "ssim")

    def __init__(self) -> None:
        super().__init__(-1.0, 1.0, name="pictures", native_size=512)

    def measure(
        self, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """`psnr`, `ssim` and, of the picture rounded to 8 bits, `psnr_8bit`, `ssim_8bit`; each (B,) fp32.

        weight: (B, 1, H, W) of mean 1 per picture; the metrics are then of what counts.
        """
        clamped, rounded = self.clamp(output.float()), from_uint8(to_uint8(output))
        return {
            "psnr": psnr(clamped, target, weight),
            "ssim": ssim(clamped, target, weight),
            "psnr_8bit": psnr(rounded, target, weight),
            "ssim_8bit": ssim(rounded, target, weight),
        }

    def check_targets(self, targets: torch.Tensor, what: str = "targets") -> None:
        """Raise `UsageError` unless `targets` are (B, 3, H, W) floating point in [-1, 1]; what looks like [0, 1] or
        [0, 255] is refused with the remedy."""
        if targets.ndim != 4 or targets.shape[1] != 3:
            remedy = (
                "; permute(0, 3, 1, 2) puts the channels there" if targets.ndim == 4 and targets.shape[3] == 3 else ""
            )
            raise UsageError(f"{what}: expected shape (B, 3, H, W), found {tuple(targets.shape)}{remedy}")
        if not targets.is_floating_point():
            raise UsageError(
                f"{what}: expected floating point in [-1, 1], found {targets.dtype}; use x / 127.5 - 1 for 0…255"
            )
        if not torch.isfinite(targets).all():
            raise UsageError(f"{what}: holds NaN or infinity; expected finite values in [-1, 1]")
        low, high = targets.min().item(), targets.max().item()
        if low >= -TOLERANCE and high > 1.0 + TOLERANCE:
            raise UsageError(
                f"{what}: values from {low:.3g} to {high:.3g} look like [0, 255]; use x / 127.5 - 1 for [-1, 1]"
            )
        if low < -1.0 - TOLERANCE or high > 1.0 + TOLERANCE:
            raise UsageError(
                f"{what}: values from {low:.3g} to {high:.3g} are outside [-1, 1]; scale them, or clamp overshoot"
            )
        # A picture in [-1, 1] without anything below mid-grey is very rare; one in [0, 1] always looks like that.
        if low >= 0.0 and high > low:
            raise UsageError(f"{what}: values from {low:.3g} to {high:.3g} look like [0, 1]; use 2 * x - 1 for [-1, 1]")

    def typical_target(self, spatial: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """(1, 3, H, W): noise with a photograph's spectrum, power inversely proportional to the squared frequency."""
        height, width = spatial
        waves = torch.fft.fft2(torch.randn(1, 3, height, width, generator=generator))
        frequency = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.fftfreq(width).unsqueeze(0))
        picture = torch.fft.ifft2(waves / frequency.clamp_min(1.0 / max(height, width))).real
        return (picture * (0.45 / picture.std())).clamp(-1.0, 1.0)

    def calibration_targets(self, spatial: tuple[int, ...]) -> Iterator[torch.Tensor]:
        """Three corners of each photograph in scikit-image's wheel, (1, 3, H, W)."""
        from .inputs.images import load_image  # Pillow, which only the first calibration of a decoder needs
        from .inputs.sample_photographs import photographs

        height, width = spatial
        for path in photographs():
            whole = load_image(path, 2 * max(height, width), colour="as-is").tensor()
            yield whole[..., :height, :width]
            yield whole[..., -height:, :width]
            yield whole[..., -height:, -width:]


PICTURES = Pictures()
