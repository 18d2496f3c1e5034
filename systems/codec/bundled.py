"""The trained models that the package has, by quality, and any other one by its folder."""

from pathlib import Path

from ...engine.errors import UsageError
from .bitstream.container import MODEL_BYTES
from .bitstream.image_codec import ImageCodec
from .bitstream.model_folder import load_model
from .errors import BitstreamError

FOLDER = Path(__file__).parent / "weights"  # a model's folder for each quality: 1, 2, 3 …


def qualities() -> list[int]:
    """The bundled rates, from the fewest bits to the most: 1, 2, 3 …"""
    return sorted(int(path.name) for path in FOLDER.glob("*") if path.name.isdigit())


def load_codec(quality: int = 2, model: str | Path | None = None) -> ImageCodec:
    """The bundled model of a quality, or the one in the folder `model`.

    Raises UsageError for a quality that is not bundled, CodecModelError for a folder that holds no model.
    """
    if model is not None:
        return load_model(model)
    if quality not in qualities():
        raise UsageError(f"quality: expected one of {', '.join(map(str, qualities()))}, found {quality}")
    return load_model(FOLDER / str(quality))


def find_codec(model: bytes) -> tuple[int, ImageCodec]:
    """The quality and the codec of the bundled model whose SHA-256 begins with `model`, as a file states it.

    Raises BitstreamError where none of them is it.
    """
    for quality in qualities():
        codec = load_codec(quality)
        if codec.sha256[:MODEL_BYTES] == model:
            return quality, codec
    raise BitstreamError(
        f"the file was written by the model {model.hex()}, none of the bundled ones; give its folder with --model"
    )
