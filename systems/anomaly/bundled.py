"""The bundled models, by name."""

from pathlib import Path

from ...engine.errors import UsageError

WEIGHTS = Path(__file__).resolve().parent / "weights"
VERTEBRAE, ADRENAL = "vertebrae", "adrenal"
BUNDLED = (VERTEBRAE, ADRENAL)


def find_checkpoint(model: str | Path) -> Path:
    """The checkpoint of a bundled model, by its name, or the path that was given. Raises `UsageError` where it is no file."""
    path = WEIGHTS / model / "model.ckpt" if str(model) in BUNDLED else Path(model)
    if not path.is_file():
        raise UsageError(f"{model} is neither a checkpoint nor a bundled model, which are {' and '.join(BUNDLED)}")
    return path
