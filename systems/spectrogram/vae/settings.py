"""The settings of a training of the VAE, and the recipes: named settings to start from. Does not import torch."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from ....engine.errors import UsageError

PRECISIONS = ("no", "bf16", "fp16")
SCHEDULERS = ("constant", "cosine")
VAE = "vae"  # in output_dir: the model


@dataclass(frozen=True)
class VAESettings:
    """The options of `relatent spectrogram train-vae`, under the same names."""

    data_dir: str  # folder with ID_1, ID_2, …
    output_dir: str  # the model, the checkpoint and the logs go here
    resolution: int = 128  # side of the pictures, pixels
    num_users: int = 31
    block_out_channels: tuple[int, ...] = (128, 256, 512)  # each level after the first halves the side
    layers_per_block: int = 1
    latent_channels: int = 4
    batch_size: int = 16  # pictures in memory at once; an update takes gradient_accumulation_steps times as many
    gradient_accumulation_steps: int = 1
    epochs: int = 100
    max_steps: int | None = None  # updates after which the training ends, where that is before the last epoch's end
    learning_rate: float = 1e-4  # of AdamW
    lr_scheduler: str = "constant"
    lr_warmup_steps: int = 100  # updates over which the rate rises; it is above 0 from the first on
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    kl_weight: float = 1e-6  # of the KL divergence in nats per picture
    use_lpips: bool = False  # needs the extra lpips and its weights; about doubles the time of a step
    lpips_weight: float = 0.1
    fft_weight: float = 0.0  # of the squared error of the Fourier magnitudes
    use_ema: bool = False  # evaluate and keep the running mean of the weights
    ema_decay: float = 0.999  # at its largest; it rises to there as (1 + step) / (10 + step)
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False  # less memory for about a third more time
    held_out: float = 0.2  # part of each user's recordings that is not trained on
    eval_images: int = 256  # held-out pictures that are reconstructed after every epoch; all of them at the end
    seed: int = 0
    device: str = "auto"
    num_workers: int = 0  # processes that read pictures
    save_every: int = 200  # updates between checkpoints, beside those of every epoch
    log_every: int = 10  # updates between log entries

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        self._check_numbers()
        if self.mixed_precision not in PRECISIONS:
            raise UsageError(
                f"mixed_precision: expected one of {', '.join(PRECISIONS)}, found {self.mixed_precision!r}"
            )
        if self.lr_scheduler not in SCHEDULERS:
            raise UsageError(f"lr_scheduler: expected one of {', '.join(SCHEDULERS)}, found {self.lr_scheduler!r}")
        if not self.block_out_channels or min(self.block_out_channels) < 1:
            raise UsageError(f"block_out_channels: expected numbers above 0, found {self.block_out_channels}")
        if self.resolution % self.downscale_factor:
            raise UsageError(
                f"resolution: expected a multiple of {self.downscale_factor}, for {len(self.block_out_channels)} "
                f"levels, found {self.resolution}"
            )

    def _check_numbers(self) -> None:
        least = {
            "resolution": 8, "num_users": 1, "layers_per_block": 1, "latent_channels": 1, "batch_size": 1,
            "gradient_accumulation_steps": 1, "epochs": 1, "lr_warmup_steps": 0, "weight_decay": 0.0, "kl_weight": 0.0,
            "lpips_weight": 0.0, "fft_weight": 0.0, "eval_images": 1, "num_workers": 0, "save_every": 1, "log_every": 1,
        }  # fmt: skip
        for name, bound in least.items():
            if not bound <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected at least {bound}, found {getattr(self, name)}")
        if self.max_steps is not None and self.max_steps < 1:
            raise UsageError(f"max_steps: expected at least 1, found {self.max_steps}")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        for name in ("held_out", "ema_decay"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise UsageError(f"{name}: expected a number between 0 and 1, found {getattr(self, name)}")

    @property
    def downscale_factor(self) -> int:
        """Side of a picture over the side of its latents."""
        return int(2 ** (len(self.block_out_channels) - 1))

    def decisive(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to go on: all but folders, machine, length and reports."""
        return {name: value for name, value in asdict(self).items() if name not in _INCIDENTAL}


_INCIDENTAL = {
    "data_dir", "output_dir", "epochs", "max_steps", "device", "num_workers", "save_every", "log_every",
    "gradient_checkpointing",
}  # fmt: skip

# what each recipe has in place of the defaults of `VAESettings`
RECIPES: dict[str, dict[str, Any]] = {
    "standard": {},
    "memory": {
        "batch_size": 4,
        "gradient_accumulation_steps": 4,
        "mixed_precision": "bf16",  # fp16 overflows in autoencoders of this kind
        "gradient_checkpointing": True,
    },
    "quality": {"use_ema": True, "use_lpips": True, "epochs": 200, "lr_scheduler": "cosine"},
    "small": {  # for processors
        "block_out_channels": (16, 32, 64),
        "batch_size": 8,
        "learning_rate": 1e-3,
        "lr_scheduler": "cosine",
        "epochs": 20,
        "save_every": 50,
    },
}


def recipe_settings(recipe: str, **given: Any) -> VAESettings:
    """Return the settings of a recipe, with `given` in place of its own. Raises `UsageError` for an unknown recipe."""
    if recipe not in RECIPES:
        raise UsageError(f"recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
    return VAESettings(**{**RECIPES[recipe], **given})


SETTING_NAMES = tuple(field.name for field in fields(VAESettings))
