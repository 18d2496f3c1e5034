"""What the two trainings are: every value that changes their results. Imports no torch."""

from dataclasses import asdict, dataclass
from typing import Any

from ....engine.errors import UsageError
from ..vae.settings import SCHEDULERS

_INCIDENTAL = {"device", "save_every", "eval_every", "log_every", "eval_images"}


@dataclass(frozen=True)
class TrainingSettings:
    """What both trainings have. Raises `UsageError` for values that make none."""

    max_steps: int = 50_000  # updates of the weights
    batch_size: int = 16  # pictures of an update
    learning_rate: float = 1e-4  # of AdamW
    lr_scheduler: str = "cosine"  # down to 1 % at the last update; or constant
    lr_warmup_steps: int = 100  # updates over which the rate rises; it is above 0 from the first on
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    seed: int = 0
    device: str = "auto"
    save_every: int = 200  # updates between checkpoints
    eval_every: int = 1_000  # updates between evaluations on held-out recordings, by which the best weights are kept
    eval_images: int = 256  # held-out pictures of an evaluation; all of them at the end
    log_every: int = 10  # updates between log entries

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is int and value < (0 if name == "seed" else 1):
                raise UsageError(f"{name}: expected a whole number from {0 if name == 'seed' else 1} on, found {value}")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        if self.lr_scheduler not in SCHEDULERS:
            raise UsageError(f"lr_scheduler: expected one of {', '.join(SCHEDULERS)}, found {self.lr_scheduler!r}")

    def decisive(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to go on: all but the machine and the reports."""
        return {name: value for name, value in asdict(self).items() if name not in _INCIDENTAL}


@dataclass(frozen=True)
class VQVAESettings(TrainingSettings):
    """The autoencoder, whose latents are codes."""

    resolution: int = 128  # side of the pictures, pixels
    block_out_channels: tuple[int, ...] = (128, 128, 256, 512)  # each level after the first halves the side
    layers_per_block: int = 1
    num_embeddings: int = 1024  # codes in the codebook
    embedding_dim: int = 64  # values of a code
    commitment_cost: float = 0.1  # of the distance between latents, of variance 1, and their codes
    ema_decay: float = 0.99  # of the codes, running means of the latents that they stand for

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))  # JSON has lists
        if not self.block_out_channels or min(self.block_out_channels) < 1 or self.resolution % self.downscale_factor:
            raise UsageError(
                f"block_out_channels: expected numbers above 0, of levels that halve {self.resolution} pixels evenly, found "
                f"{self.block_out_channels}"
            )
        if not 0.0 <= self.commitment_cost < float("inf") or not 0.0 < self.ema_decay < 1.0:
            raise UsageError("expected a commitment_cost from 0 on and an ema_decay between 0 and 1")

    @property
    def downscale_factor(self) -> int:
        """Side of a picture over the side of its codes."""
        return int(2 ** (len(self.block_out_channels) - 1))


@dataclass(frozen=True)
class TransformerSettings(TrainingSettings):
    """The transformer that draws codes, one after the other."""

    num_users: int = 31
    layers: int = 8
    heads: int = 8
    width: int = 512
    dropout: float = 0.1
    condition_dropout: float = 0.1  # probability, per picture, that the null token takes its user's place

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise UsageError(f"width: expected a multiple of heads {self.heads}, found {self.width}")
        if not 0.0 <= self.dropout < 1.0 or not 0.0 <= self.condition_dropout < 1.0:
            raise UsageError("expected a dropout and a condition_dropout from 0 on, below 1")


# what each recipe has in place of the defaults: of the VQ-VAE, of the transformer
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "standard": ({}, {}),
    "small": (  # for processors: 256 codes of a picture of 64²
        {
            "block_out_channels": (16, 32, 64),
            "num_embeddings": 512,
            "embedding_dim": 32,
            "max_steps": 800,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "save_every": 50,
            "eval_every": 250,
        },
        {
            "layers": 4,
            "heads": 4,
            "width": 128,
            "max_steps": 500,
            "batch_size": 16,
            "learning_rate": 2e-3,
            "save_every": 50,
            "eval_every": 100,
        },
    ),
}


def recipe_settings(
    recipe: str, vqvae: dict[str, Any] | None = None, transformer: dict[str, Any] | None = None
) -> tuple[VQVAESettings, TransformerSettings]:
    """The settings of a recipe, with those given in place of its own. Raises `UsageError` for an unknown recipe."""
    if recipe not in RECIPES:
        raise UsageError(f"recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
    first, second = RECIPES[recipe]
    return VQVAESettings(**{**first, **(vqvae or {})}), TransformerSettings(**{**second, **(transformer or {})})
