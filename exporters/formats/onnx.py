"""ONNX export of decoder and encoder with a dynamic batch size, verified with onnxruntime before publishing."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.errors import RelatentError, UsageError
from ...engine.runtime.atomic import atomic_path
from ..base.exporter import SCHEMA

TOLERANCE = 1e-3  # largest absolute difference from torch, for outputs of order one


class _Decode(nn.Module):
    """Decode latents (B, C, h, w) into images (B, 3, H, W) in [-1, 1], not clamped."""

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.module = autoencoder.decoder  # registered, so that its weights are exported
        self.autoencoder = autoencoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latents)


class _Encode(nn.Module):
    """Encode images (B, 3, H, W) in [-1, 1] into latents (B, C, h, w), unscaled."""

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.module = autoencoder.encoder
        self.autoencoder = autoencoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode(image)


def export_onnx(autoencoder: Autoencoder, path: str | Path, size: int | None = None) -> dict[str, Any]:
    """Write the decoder to `path`, and the encoder, if there is one, beside it as `<stem>-encoder.onnx`.

    size: side of the image in pixels, fixed in the file; None selects the autoencoder's native size. The batch size is
    dynamic. The metadata of each file holds the identity of the autoencoder.
    Returns the paths and the largest absolute differences from torch. Raises `UsageError` if onnx is not installed or
    the decoder is not a torch module, `RelatentError` if onnxruntime differs from torch by more than 1e-3.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"export-onnx needs {error.name}: pip install 'relatent[onnx]'") from error
    path = Path(path)
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: expected a name that ends in .onnx")
    if not isinstance(autoencoder.decoder, nn.Module):
        raise UsageError("only a decoder that is a torch module can be exported")
    channels, factor = autoencoder.latent_channels, autoencoder.downscale_factor
    if channels is None or factor is None:
        raise UsageError("export-onnx must know latent_channels and downscale_factor: give them to load_autoencoder")
    size = size or autoencoder.native_size
    autoencoder.check_size(size)
    autoencoder.to(torch.device("cpu"))
    latent = (channels, size // factor, size // factor)
    written = {"decoder": _export(_Decode(autoencoder), "latents", "image", latent, path, autoencoder)}
    if isinstance(autoencoder.encoder, nn.Module):
        encoder_path = path.with_name(f"{path.stem}-encoder.onnx")
        picture = (3, size, size)
        written["encoder"] = _export(_Encode(autoencoder), "image", "latents", picture, encoder_path, autoencoder)
    return {"size": size, "vae": autoencoder.identity(), **written}


def _export(
    module: nn.Module, given: str, returned: str, shape: tuple[int, ...], path: Path, autoencoder: Autoencoder
) -> dict[str, Any]:
    """Export one module with an atomic rename, and return its path and its largest absolute difference from torch."""
    import onnx

    module.eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.rand((2, *shape), generator=generator) * 2 - 1
    batch = torch.export.Dim("batch", min=1, max=4096)
    with atomic_path(path) as temporary:
        quiet = logging.getLogger("torch.onnx")
        level = quiet.level
        quiet.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    module,
                    (example,),
                    dynamo=True,
                    input_names=[given],
                    output_names=[returned],
                    dynamic_shapes=({0: batch},),
                    verbose=False,
                )
        finally:
            quiet.setLevel(level)
        assert program is not None  # only the deprecated exporter returns none
        model = program.model_proto
        facts = {"schema": SCHEMA, "vae": json.dumps(autoencoder.identity()), "latents_scaled": "false"}
        onnx.helper.set_model_props(model, {**facts, "value_range": "[-1, 1]"})
        onnx.save(model, str(temporary))
        worst = max(_difference(module, temporary, shape, count) for count in (1, 3))
        if worst > TOLERANCE:
            raise RelatentError(
                f"{path.name}: onnxruntime differs from torch by {worst:.2e}, over {TOLERANCE:g}; not written"
            )
    return {"path": str(path), "largest_difference": worst}


def _difference(module: nn.Module, path: Path, shape: tuple[int, ...], count: int) -> float:
    """Return the largest absolute difference of onnxruntime from torch on a random batch of `count` samples."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    sample = torch.rand((count, *shape), generator=torch.Generator().manual_seed(count)) * 2 - 1
    with torch.no_grad():
        expected = module(sample).numpy()
    (found,) = session.run(None, {session.get_inputs()[0].name: sample.numpy()})
    return float(np.abs(found - expected).max())
