"""A whole training by its configuration."""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path
from ..model.configuration import VQVAEConfig
from ..sections import read_section
from .data_module import VolumeDataModule
from .datasets import build_datasets
from .fold import Fold, train_fold
from .lightning_module import VQVAEModule
from .settings import DatasetSettings, TrainingSettings

CONFIGURATION = "config.yaml"
CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "config"
KEYS = {"model", "dataset", "training", "experiment", "fold_id", "seed", "output_dir"}


def read_config(overrides: Sequence[str] = (), config_name: str = "config") -> dict[str, Any]:
    """The configuration tree with overrides such as `model.num_embeddings=1024`, as the command line takes them.

    Raises `UsageError` for an unknown configuration or key.
    """
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            config = OmegaConf.to_container(compose(config_name, list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from None
    return config  # type: ignore[return-value]


def train(config: Mapping[str, Any]) -> dict[str, Any]:
    """Train one fold, or go on with it. config: as `read_config` gives it.

    Returns the fold's folder, the best checkpoint with its `val/total_loss`, and the number of epochs.
    Raises `UsageError` for values that do not fit, before anything is written.
    """
    if different := sorted(KEYS ^ set(config)):
        raise UsageError(f"the configuration has the keys {', '.join(sorted(KEYS))}; look at {different[0]}")
    if not re.fullmatch(r"[\w.-]*\w", str(config["experiment"])):
        raise UsageError(f"experiment is {config['experiment']!r}; give a name of letters, digits, dots and dashes")
    for name in ("fold_id", "seed"):
        if not isinstance(config[name], int) or config[name] < 0:
            raise UsageError(f"{name} is {config[name]!r}; give a whole number")
    model, settings = VQVAEConfig.of(config["model"]), TrainingSettings.of(config["training"])
    dataset = read_section(DatasetSettings, "dataset", config["dataset"])
    if dataset.volume_size % model.factor:
        raise UsageError(f"dataset.volume_size is {dataset.volume_size}; this model needs a multiple of {model.factor}")
    fold = Fold(Path(config["output_dir"]), str(config["experiment"]), config["fold_id"])
    train_set, val_set = build_datasets(dataset, fold.fold_id, config["seed"])
    data = VolumeDataModule(train_set, val_set, dataset.batch_size, dataset.num_workers, config["seed"])
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its advertisements
    module = VQVAEModule(model, settings, config["seed"])
    with atomic_path(fold.folder / CONFIGURATION) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))), encoding="utf-8")
    trainer = train_fold(fold, module, data, progress=sys.stderr.isatty())
    best = trainer.checkpoint_callback
    return {
        "folder": str(fold.folder),
        "checkpoint": best.best_model_path,  # type: ignore[union-attr]
        "val/total_loss": float(best.best_model_score),  # type: ignore[union-attr]
        "epochs": trainer.current_epoch,
    }
