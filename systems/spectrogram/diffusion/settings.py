"""What a training of the diffusion is: every value that changes its result. Imports no torch, so that help is quick."""

from dataclasses import asdict, dataclass
from typing import Any

from ....engine.errors import UsageError

PRECISIONS = ("no", "bf16", "fp16")
SCHEDULERS = ("constant", "cosine")
PREDICTIONS = ("epsilon", "v_prediction")
_INTERVALS = ("save_every", "eval_every", "log_every")


@dataclass(frozen=True)
class DiffusionSettings:
    """The network, its training, and what is sampled while it trains. Raises `UsageError` for values that make none."""

    num_users: int = 31
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)  # one level each; all but the last halve the side
    attention: tuple[bool, ...] = (True, True, True, False)  # by level: the condition enters where there is attention
    layers_per_block: int = 2
    heads: int = 8  # of the attention
    cross_attention_dim: int = 512  # width of the condition's token
    max_steps: int = 50_000  # updates of the weights
    batch_size: int = 16  # latents in memory at once; an update takes gradient_accumulation_steps times as many
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-4  # of AdamW
    lr_scheduler: str = "constant"  # cosine: down to 1 % at the last update
    lr_warmup_steps: int = 500  # updates over which the rate rises; it is above 0 from the first on
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    prediction_type: str = "epsilon"  # of the network: the noise ε, or v = √ᾱ ε − √(1 − ᾱ) z (Salimans & Ho 2022)
    condition_dropout: float = 0.1  # probability, per latent, that the null token takes its user's place
    mixed_precision: str = "no"  # bf16 and fp16: autocast of the network; fp16 needs a GPU
    gradient_checkpointing: bool = False  # activations are computed twice: less memory, more time
    use_ema: bool = False  # keep an exponential moving average of the weights and sample from it
    ema_decay: float = 0.9999  # at most; it rises from 0 by 1 − (1 + step)^(−3/4)
    subtract_mean: bool = False  # latents are divided by their σ; also subtract their channels' means first
    condition_scale: float = 1.5  # of the guidance in the sample grids, and the default of `generate`
    seed: int = 0
    device: str = "auto"
    save_every: int = 500  # updates between checkpoints
    eval_every: int = 1_000  # updates between validations, each with a grid of samples
    log_every: int = 10  # updates between log entries

    def __post_init__(self) -> None:
        for name in ("block_out_channels", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        self._check_numbers()
        for name, choices in (
            ("mixed_precision", PRECISIONS),
            ("lr_scheduler", SCHEDULERS),
            ("prediction_type", PREDICTIONS),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name}: expected one of {', '.join(choices)}, found {getattr(self, name)!r}")
        if len(self.attention) != len(self.block_out_channels) or not any(self.attention):
            raise UsageError(
                f"attention: expected {len(self.block_out_channels)} values, one true at least, found {self.attention}"
            )
        for channels in self.block_out_channels:
            if channels < 1 or channels % self.heads:
                raise UsageError(f"block_out_channels: expected multiples of heads {self.heads}, found {channels}")

    def _check_numbers(self) -> None:
        whole = ("num_users", "layers_per_block", "heads", "cross_attention_dim", "max_steps")
        for name in (*whole, "batch_size", "gradient_accumulation_steps", "lr_warmup_steps", *_INTERVALS):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, found {getattr(self, name)}")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        for name, most in (
            ("weight_decay", 1.0),
            ("condition_dropout", 1.0),
            ("ema_decay", 1.0),
            ("condition_scale", 1e3),
        ):
            if not 0.0 <= getattr(self, name) <= most:
                raise UsageError(f"{name}: expected 0 to {most:g}, found {getattr(self, name)}")

    @property
    def update_size(self) -> int:
        """Latents per update."""
        return self.batch_size * self.gradient_accumulation_steps

    def decisive(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to go on: all but the machine, and the length where the rate does not follow it."""
        free = {"device", "gradient_checkpointing", "condition_scale", *_INTERVALS}
        free |= {"max_steps"} if self.lr_scheduler == "constant" else set()
        return {name: value for name, value in asdict(self).items() if name not in free}


# configurations of the one trainer; values that are not here are the class's own
RECIPES: dict[str, dict[str, Any]] = {
    "standard": {},
    "memory": {
        "batch_size": 2,
        "gradient_accumulation_steps": 8,
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
    },
    "quality": {"use_ema": True, "max_steps": 150_000, "lr_scheduler": "cosine"},
    # for processors: 0.8 M parameters on latents of 4 channels, attention at half of their side only
    "small": {
        "block_out_channels": (32, 56),
        "attention": (False, True),
        "layers_per_block": 1,
        "heads": 2,
        "cross_attention_dim": 64,
        "max_steps": 4_000,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "lr_warmup_steps": 100,
        "lr_scheduler": "cosine",
        "prediction_type": "v_prediction",  # better samples than epsilon after few updates
        "use_ema": True,
        "ema_decay": 0.999,
    },
}


def recipe_settings(recipe: str, **given: Any) -> DiffusionSettings:
    """Return the settings of a recipe, with `given` in place of its own. Raises `UsageError` for an unknown recipe."""
    if recipe not in RECIPES:
        raise UsageError(f"recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
    return DiffusionSettings(**{**RECIPES[recipe], **given})
