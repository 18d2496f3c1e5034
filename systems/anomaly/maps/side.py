"""How many voxels a side the volumes of a run have."""

from collections.abc import Iterable
from pathlib import Path

from ....engine.errors import UsageError
from ..data.errors import VolumeError
from ..data.volume import Volume
from ..model.checkpoint import read_checkpoint
from ..model.configuration import VQVAEConfig

CONFIGURATION = "config.yaml"  # in the folder of a fold, which has `checkpoints/` beside it


def choose_side(checkpoint: Path, volumes: Iterable[Volume]) -> int:
    """The side of the training's volumes; where it is not known, the first readable volume's largest, as the model takes it.

    Raises `UsageError` where neither is known.
    """
    side = trained_side(checkpoint)
    if side is not None:
        return side
    factor = VQVAEConfig.of(read_checkpoint(checkpoint)["hyper_parameters"]["model"]).factor
    for volume in volumes:
        try:
            return -(-max(volume.read().shape) // factor) * factor
        except VolumeError:
            continue
    raise UsageError("not one volume can be read; look at them, or give --side to list what is wrong with each")


def trained_side(checkpoint: Path) -> int | None:
    """The side in voxels that the checkpoint, or the config.yaml of its fold, states; None where neither does.

    Raises `UsageError` where the checkpoint cannot be read.
    """
    stated = read_checkpoint(checkpoint)["hyper_parameters"]
    dataset = stated.get("dataset")
    if not isinstance(dataset, dict):
        path = checkpoint.resolve().parents[1] / CONFIGURATION
        if checkpoint.resolve().parent.name != "checkpoints" or not path.is_file():
            return None
        dataset = _read_dataset(path)
    side = dataset.get("volume_size")
    return side if isinstance(side, int) else None


def _read_dataset(path: Path) -> dict[str, object]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, OmegaConfBaseException, YAMLError, ValueError):
        return {}
    dataset = config.get("dataset") if isinstance(config, dict) else None
    return dataset if isinstance(dataset, dict) else {}
