"""Seven steps that show whether the system works where it is installed: packages, device, configuration, model, data, training.

Everything is imported where it is used, so that a step reports a package that is missing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "nibabel", "lightning", "hydra-core", "tensorboard", "h5py")
MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}  # releases that ran foreign code
PARAMETERS = 11_602_784
SIDE = 32  # voxels: seconds on one core
SMALL = ("model.hidden_channels=[4,4,8,8]", "model.embedding_dim=8", "model.num_embeddings=16")


@dataclass(frozen=True)
class CheckedStep:
    """What a step found. detail: what there is, or why it failed, in one line."""

    name: str
    ok: bool
    seconds: float
    detail: str


class CheckError(Exception):
    """A step found something that does not hold."""


def check_installation() -> Iterator[CheckedStep]:
    """Run the steps one after the other, all of them, and yield what each found. Nothing is left behind."""
    with TemporaryDirectory(prefix="relatent-check-") as folder:
        for name, step in STEPS.items():
            start = time.perf_counter()
            try:
                ok, detail = True, step(Path(folder))
            except Exception as error:  # whatever goes wrong in a step is what it found
                ok, detail = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield CheckedStep(name, ok, round(time.perf_counter() - start, 3), detail)


def _packages(_: Path) -> str:
    found, missing = {}, []
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise CheckError(f"{', '.join(missing)} missing; install with: pip install 'relatent[anomaly]'")
    for name, bad in MALICIOUS.items():
        if found[name] in bad:
            raise CheckError(f"{name} {found[name]} is a malicious release; install {name} 2.6.4 or later")
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _device(_: Path) -> str:
    import torch

    from ...engine.runtime.device import describe_device, resolve_device

    device = resolve_device()
    square = torch.arange(4.0, device=device).reshape(2, 2)
    if (square @ square).tolist() != [[2, 3], [6, 11]]:
        raise CheckError(f"{device} multiplies matrices wrongly")
    return f"{describe_device(device)['name']}, {device}, {torch.get_num_threads()} threads"


def _configuration(_: Path) -> str:
    from .model.configuration import VQVAEConfig
    from .sections import read_section
    from .training.run import read_config
    from .training.settings import DatasetSettings, TrainingSettings

    epochs = {}
    for name in ("config", "config_debug"):
        config = read_config(config_name=name)
        VQVAEConfig.of(config["model"])
        read_section(DatasetSettings, "dataset", config["dataset"])
        epochs[name] = TrainingSettings.of(config["training"]).epochs
    return ", ".join(f"{name}: {count} epochs" for name, count in epochs.items())


def _model(_: Path) -> str:
    import torch

    from .model.vqvae import build_vqvae_3d

    model = build_vqvae_3d()
    count = sum(each.numel() for each in model.parameters())
    if count != PARAMETERS:
        raise CheckError(f"the model has {count} parameters, expected {PARAMETERS}")
    x = torch.rand(1, 1, SIDE, SIDE, SIDE)
    out = model(x)
    ((out.reconstruction - x).abs().mean() + out.vq_loss).backward()
    if not all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters()):
        raise CheckError("a gradient is missing or not finite")
    return f"{count} parameters, gradients finite at {SIDE}³"


def _quantiser(_: Path) -> str:
    import torch

    from ...engine.vector_quantiser import VectorQuantiser

    z = torch.randn(1, 4, 4, 4, 4, requires_grad=True)
    weights = torch.randn(z.shape)
    quantiser = VectorQuantiser(16, 4, use_ema=True)
    (quantiser(z).quantised * weights).sum().backward()
    if z.grad is None or not torch.equal(z.grad, weights):
        raise CheckError("the gradient does not go straight through")
    before = quantiser.codebook.clone()
    quantiser(z.detach() + 1)
    if quantiser.codebook.grad is not None or not (quantiser.codebook - before).mean() > 0:
        raise CheckError("the codes do not follow their vectors as running means")
    return "straight-through gradient, codes follow by EMA"


def _data(folder: Path) -> str:
    from .data.dataset import VolumeDataset
    from .data.folds import make_folds, read_folds, write_folds
    from .data.procedural import write_procedural
    from .data.volume_folder import read_folder

    paths = write_procedural(folder / "volumes", 10, seed=0, side=SIDE, abnormal_fraction=0.0)
    volumes, failures = read_folder(folder / "volumes")
    if failures or len(volumes) != len(paths):
        raise CheckError(f"{len(volumes)} of {len(paths)} volumes were read: {failures}")
    write_folds(folder / "folds.json", make_folds({volume.patient for volume in volumes}, seed=0, count=2))
    split = read_folds(folder / "folds.json").split(volumes, 1)
    sample = VolumeDataset(split.training, SIDE, training=True)[0]["volume"]
    return f"{len(volumes)} synthetic volumes of {tuple(sample.shape[1:])}, {len(split.training)} to train"


def _training(folder: Path) -> str:
    from .data.volume_folder import read_folder
    from .maps.error_mapper import ErrorMapper
    from .maps.reader import MapReader
    from .maps.run import write_maps
    from .training.run import read_config, train

    files = (
        f"dataset.data_dir={folder}/volumes",
        f"dataset.folds_file={folder}/folds.json",
        f"output_dir={folder}/out",
    )
    overrides = [*files, *SMALL, f"dataset.volume_size={SIDE}", "training.epochs=1"]
    checkpoint = Path(train(read_config(overrides, "config_debug"))["checkpoint"])
    write_maps(folder / "maps", read_folder(folder / "volumes")[0][:1], ErrorMapper(checkpoint), synthetic=True)
    with MapReader(folder / "maps") as maps:
        error = maps.error(0)
    if error.shape != (SIDE,) * 3 or not error.any():
        raise CheckError(f"the error map has the shape {error.shape} and a mean of {error.mean()}")
    return f"{checkpoint.name}, mean error {error.mean():.4f}"


STEPS: dict[str, Callable[[Path], str]] = {
    "packages": _packages,
    "device": _device,
    "configuration": _configuration,
    "model": _model,
    "quantiser": _quantiser,
    "data": _data,
    "training": _training,
}
