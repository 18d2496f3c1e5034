"""What a training is: every value that changes its result. No import of torch here, so that the command's help is quick."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError

PRECISIONS = ("fp32", "bf16")
SCHEDULES = ("drops", "cosine")
START_EPOCH = 100  # of the inter-scale penalty where Phase 1 is off


@dataclass(frozen=True)
class TrainingSettings:
    """The options of `relatent codec train`, under the same names."""

    train_dataset: str  # a picture, a folder with its subfolders, or a text file with one path per line
    save_path: str
    test_dataset: str | None = None  # likewise; None: no test, and no best model
    log_dir: str | None = None  # None: save_path
    model_name: str = "small"  # a key of `CONFIGURATIONS`
    lmbda: float = 0.013
    epochs: int = 3000
    batch_size: int = 16
    patch_size: int = 256  # pixels, a multiple of 64
    learning_rate: float = 5e-5
    lr_schedule: str = "drops"
    clip_max_norm: float = 1.0  # of the gradient; 0: not clipped
    seed: int = 0
    spectral_reg: bool = False  # Phase 1
    tau_init: float = 0.05
    tau_final: float = 1.0
    truncation_epochs: int = 100
    ramp_epochs: int = 0
    phase2_reg: bool = False  # Phase 2
    phase2_start: int | None = None  # None: truncation_epochs with Phase 1, else START_EPOCH
    delta: float = 0.1
    distance: str = "mse"
    normalise: bool = False
    precision: str = "fp32"
    device: str = "cpu"
    checkpoint: str | None = None  # to start from, also one of another λ or other phases

    def __post_init__(self) -> None:
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch-size", self.batch_size, 1),
            ("patch-size", self.patch_size, 64),
            ("truncation-epochs", self.truncation_epochs, 0),
        ):
            if value < least:
                raise UsageError(f"{name}: expected at least {least}, found {value}")
        if self.patch_size % 64:
            raise UsageError(f"patch-size: expected a multiple of 64, found {self.patch_size}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise UsageError(f"learning-rate: expected a number above 0, found {self.learning_rate}")
        if self.clip_max_norm < 0.0:
            raise UsageError(f"clip-max-norm: expected at least 0 (0: do not clip), found {self.clip_max_norm}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision: expected one of {', '.join(PRECISIONS)}, found {self.precision!r}")
        if self.lr_schedule not in SCHEDULES:
            raise UsageError(f"lr-schedule: expected one of {', '.join(SCHEDULES)}, found {self.lr_schedule!r}")

    @property
    def name(self) -> str:
        """The name of the run's folders: `<model_name>_lmbda<λ>`."""
        return f"{self.model_name}_lmbda{self.lmbda}"

    @property
    def folder(self) -> Path:
        return Path(self.save_path) / self.name

    @property
    def log_folder(self) -> Path:
        return Path(self.log_dir or self.save_path) / self.name

    @property
    def penalty_start(self) -> int:
        """The first epoch with the inter-scale penalty."""
        if self.phase2_start is not None:
            return self.phase2_start
        return self.truncation_epochs if self.spectral_reg else START_EPOCH

    def decisive(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to go on: all but folders, device and the number of epochs."""
        content = asdict(self)
        for name in ("epochs", "train_dataset", "test_dataset", "save_path", "log_dir", "device", "checkpoint"):
            del content[name]
        return content
