"""LPIPS: distance between the features of an image-classification network, calibrated on human judgements."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from ..errors import UsageError, WeightsUnavailableError
from .weighting import blend

# Smallest side in pixels; on smaller images the last pooling layer of the backbone has an empty output.
LEAST_SIDE = {"alex": 31, "vgg": 16}
_EPS = 1e-10  # ε of the normalisation, as published.

_networks: dict[tuple[str, str], nn.Module] = {}  # Networks by backbone and device: loaded once, frozen, in fp32.


def lpips(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, *, net: str = "alex"
) -> torch.Tensor:
    """Return LPIPS 0.1, (B,), of images (B, 3, H, W) in [-1, 1].

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018. net: the backbone,
    alex or vgg. A weight map is applied by `blend`. Call `require_network` first to load the network before the loop.
    """
    key = (net, str(decoded.device))
    if key not in _networks:
        require_network(tuple(decoded.shape[2:]), decoded.device, net=net)
    return distance(_networks[key], blend(decoded, target, weight), target)


def distance(network: nn.Module, decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the distance, (B,): equal to the forward pass of the package lpips, in the dtype of the network, but with
    a finite gradient where features vanish.
    """
    with torch.no_grad():
        wanted = [_normalise(x) for x in network.net(network.scaling_layer(target))]  # type: ignore[operator]
    found = [_normalise(x) for x in network.net(network.scaling_layer(decoded))]  # type: ignore[operator]
    layers = zip(network.lins, found, wanted, strict=True)  # type: ignore[arg-type]
    return torch.stack([lin((x - t).square()).flatten(1).mean(1) for lin, x, t in layers]).sum(0)


def _normalise(features: torch.Tensor) -> torch.Tensor:
    """Normalise features to length 1 over channels.

    Unlike the published form, ε² is added under the square root, whose derivative at 0 would be infinite.
    """
    return features / ((features.square().sum(1, keepdim=True) + _EPS**2).sqrt() + _EPS)


def require_network(size: tuple[int, ...], device: torch.device, *, net: str = "alex", **_: object) -> None:
    """Load the network to `device`, once. Nothing is downloaded.

    Raises `UsageError` where the package lpips is not installed or the image is too small, and
    `WeightsUnavailableError` where torch hub's folder does not hold the backbone's weights.
    """
    if net not in LEAST_SIDE:
        raise UsageError(f"loss_function: lpips(net={net}): expected one of {', '.join(LEAST_SIDE)}")
    if len(size) != 2 or min(size) < LEAST_SIDE[net]:
        found = "×".join(map(str, size))
        raise UsageError(f"loss_function: lpips(net={net}) needs sides of {LEAST_SIDE[net]} pixels, found {found}")
    key = (net, str(device))
    if key not in _networks:
        _networks[key] = _build(net).to(device)


def _build(net: str) -> nn.Module:
    if find_spec("lpips") is None:
        raise UsageError("loss_function: lpips needs the package lpips: pip install 'relatent[lpips]'")
    import lpips as package
    from torchvision import models

    published: dict[str, tuple[Callable[..., nn.Module], str]] = {
        "alex": (models.alexnet, models.AlexNet_Weights.IMAGENET1K_V1.url),
        "vgg": (models.vgg16, models.VGG16_Weights.IMAGENET1K_V1.url),
    }
    url = published[net][1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.is_file():
        raise WeightsUnavailableError(
            f"loss_function: lpips needs torchvision's weights of {net} in {file}; with a network: curl --create-dirs -o {file} {url}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision through deprecated arguments.
            network: nn.Module = package.LPIPS(net=net, verbose=False)
    except Exception as error:  # torch.load raises errors of many types.
        raise WeightsUnavailableError(
            f"loss_function: the weights of {net} in {file} do not load ({type(error).__name__}); fetch them again: {url}"
        ) from error
    return network.float().eval().requires_grad_(False)
