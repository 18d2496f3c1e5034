"""Pictures to bytes and back with a frozen model."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ....engine.errors import UsageError
from ..errors import BitstreamError
from ..model.hierarchy import STEPS, Step, mask, scale_of
from ..model.network import MULTIPLE, HierarchicalCodec
from ..model.scale_table import FIRST, GAIN, LEVELS
from .container import LARGEST_SIDE, MAX_PIXELS, MODEL_BYTES, STREAMS, Container, read_container
from .fingerprint import model_sha256
from .fixed_point import LARGEST_ACTIVATION, UNIT, FixedNetwork
from .streams import LARGEST, Integers, StreamReader, StreamWriter, TableModels, finish_all
from .tables import TableSet, build_tables

FACTOR = 16  # of the picture's height to y's
HALO = 4  # rows of y: those that a row of pixels depends on lie at most 3.625 rows away
LEAST_STRIP = 16  # rows of y
STRIP_PIXELS = 1 << 19


@dataclass(frozen=True)
class Encoded:
    """A compressed picture and what the encoder knows about it."""

    data: bytes
    reconstruction: Tensor  # (3, H, W) uint8: what the decoder will return
    ideal_bits: dict[str, float]  # of each stream, z, s1, s2, s3, under the tables
    stream_bytes: dict[str, int]

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * len(self.data) / (self.reconstruction.shape[1] * self.reconstruction.shape[2])


class ImageCodec:
    """Coder and decoder of one model, on the CPU. The model's weights must not change while it is in use.

    tables: those stored with the model; None computes them from its prior. lmbda: λ that the model was trained by, which
    weighs distortion against bits where a picture's latents are refined or its cost is stated.
    """

    def __init__(self, model: HierarchicalCodec, tables: TableSet | None = None, lmbda: float = 0.013) -> None:
        self.lmbda = lmbda
        self.model = model.cpu().eval()
        self.tables = build_tables(model.prior) if tables is None else tables
        self.sha256 = model_sha256(self.model, self.tables)
        self._hyper = FixedNetwork("hyper_synthesis", model.hyper_synthesis)
        self._parameters = [
            FixedNetwork(f"scale_parameters.{i}", network)  # type: ignore[arg-type]  # a ModuleList has no type for its items
            for i, network in enumerate(model.scale_parameters)
        ]
        self._synthesis = FixedNetwork("synthesis", model.synthesis)
        self.strip_pixels = STRIP_PIXELS  # of the picture that are synthesised at once
        self._gaussian = TableModels(self.tables.gaussian)
        self._z = TableModels(self.tables.z)

    def compress(self, image: Tensor) -> bytes:
        """(3, H, W) uint8, any size from 1×1, to a file's bytes."""
        return self.encode(image).data

    def encode(self, image: Tensor) -> Encoded:
        """As compress, with the reconstruction and the bits."""
        with torch.inference_mode():
            y, z = self.model.analyse(padded(image))
        return self.encode_latents(y, z, image.shape[1], image.shape[2])

    def encode_latents(self, y: Tensor, z: Tensor, height: int, width: int) -> Encoded:
        """Latents of one padded picture, y (1, C, h, w) and z (1, D, h/4, w/4), as `HierarchicalCodec.analyse` gives them."""
        if not (y.isfinite().all() and z.isfinite().all()):
            raise UsageError(
                "the latents are not finite: the model's weights or the refinement's learning rate are unusable"
            )
        writers = {name: StreamWriter() for name in STREAMS}
        z_values = torch.floor(z.detach().to("cpu", torch.float64) + 0.5).clamp_(-LARGEST, LARGEST)
        writers["z"].put(self._z, _integers(z_values), self._z_indices(z.shape))
        y = y.detach().to("cpu", torch.float64)
        decoded, features = self._start(z_values)
        for step in STEPS:
            mean, levels, coded = self._predict(step, decoded, features)
            own = scale_of(y, step.scale)
            values = torch.floor(own - mean * UNIT + 0.5).clamp_(-LARGEST, LARGEST)
            writers[STREAMS[1 + step.scale]].put(self._gaussian, _integers(values[coded]), _integers(levels[coded]))
            _fill(step, decoded, values, mean, coded)
        streams = dict(zip(STREAMS, finish_all(list(writers.values()), self._gaussian), strict=True))
        container = Container(self.sha256[:MODEL_BYTES], height, width, tuple(streams.values()))
        return Encoded(
            container.to_bytes(),
            self._picture(decoded, height, width),
            {name: writer.bits for name, writer in writers.items()},
            {name: len(stream) for name, stream in streams.items()},
        )

    def decompress(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
        """A file's bytes to (3, H, W) uint8: the encoder's reconstruction, bit for bit.

        max_pixels: of the largest picture that is accepted, counted as the networks take it, padded to multiples of 64: memory
        and time are in proportion to that, and a picture of one row counts as 64 rows.
        Raises BitstreamError where the file is damaged, of another model or version, or its picture larger than max_pixels.
        """
        file = read_container(data, self.sha256[:MODEL_BYTES])
        height, width = (-(-size // MULTIPLE) for size in (file.height, file.width))  # of z
        pixels = height * width * MULTIPLE**2
        if pixels > max_pixels:
            raise BitstreamError(
                f"the file claims a picture of {file.width}×{file.height} pixels, {pixels} when padded; at most {max_pixels} are "
                f"accepted; if you trust the file, give --max-pixels {pixels}"
            )
        shape = torch.Size((1, self.model.configuration.hyper_channels, height, width))
        reader = StreamReader(self._z, file.streams[0], STREAMS[0])
        z_values = reader.get(self._z, self._z_indices(shape))
        reader.finish()  # a hostile size is mostly found here, before the larger latent
        decoded, features = self._start(torch.from_numpy(z_values).to(torch.float64).view(shape))
        for step in STEPS:
            stream = 1 + step.scale
            if reader.name != STREAMS[stream]:
                reader = StreamReader(self._gaussian, file.streams[stream], STREAMS[stream], reader.finish())
            mean, levels, coded = self._predict(step, decoded, features)
            values = torch.zeros_like(mean)
            values[coded] = torch.from_numpy(reader.get(self._gaussian, _integers(levels[coded]))).to(torch.float64)
            _fill(step, decoded, values, mean, coded)
        reader.finish(last=True)
        return self._picture(decoded, file.height, file.width)

    def _z_indices(self, shape: torch.Size) -> Integers:
        channels = np.arange(shape[1], dtype=np.int32)
        return np.repeat(channels, shape[2] * shape[3])

    def _start(self, z_values: Tensor) -> tuple[Tensor, Tensor]:
        """A y of which nothing is decoded, and z's features; both in units."""
        features = self._hyper(z_values / UNIT)
        y_shape = (1, self.model.configuration.latent_channels, *features.shape[2:])
        return torch.zeros(y_shape, dtype=torch.float64), features

    def _predict(self, step: Step, decoded: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one scale's grid: the means in units, the levels 0 … 63, and which positions this step codes."""
        inputs = scale_of(features, step.scale)
        height, width = inputs.shape[2:]
        if step.known:
            known = mask(step.known, height, width, like=decoded) / UNIT
            inputs = torch.cat([inputs, scale_of(decoded, step.scale), known], 1)
        mean, raw = self._parameters[step.scale](inputs).chunk(2, 1)
        levels = torch.floor(raw * (UNIT * GAIN) + (FIRST + 0.5)).clamp_(0, LEVELS - 1)
        coded = mask(step.coded, height, width, like=decoded).bool().expand_as(mean)
        return mean, levels, coded

    def _picture(self, decoded: Tensor, height: int, width: int) -> Tensor:
        """In strips of rows with enough around them that the picture is the same as in one piece, in bounded memory."""
        result = torch.empty(3, height, width, dtype=torch.uint8)
        rows = max(LEAST_STRIP, self.strip_pixels // (FACTOR**2 * decoded.shape[3]))
        for first in range(0, decoded.shape[2], rows):
            above = min(first, HALO)
            part = self._synthesis(decoded[:, :, first - above : first + rows + HALO])[0, :, above * FACTOR :]
            strip = result[:, first * FACTOR : (first + rows) * FACTOR]
            values = part[:, : strip.shape[1], :width]
            strip.copy_(torch.floor((values * UNIT + 0.5) * 255 + 0.5).clamp_(0, 255))
        return result


def padded(image: Tensor) -> Tensor:
    """(3, H, W) uint8 to (1, 3, H', W') float32 in [0, 1], H' and W' the next multiples of 64.

    The last row and column are repeated below and to the right.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise UsageError(f"expected a picture of uint8, (3, height, width), got {image.dtype}, {tuple(image.shape)}")
    height, width = image.shape[1:]
    if height > LARGEST_SIDE or width > LARGEST_SIDE or height * width > MAX_PIXELS:
        raise UsageError(f"the picture has {width}×{height} pixels, a file holds at most {MAX_PIXELS}; scale it down")
    added = [0, -width % MULTIPLE, 0, -height % MULTIPLE]
    return functional.pad(image.to(torch.float32)[None] / 255, added, mode="replicate")


def _integers(x: Tensor) -> Integers:
    return x.reshape(-1).to(torch.int32).numpy()


def _fill(step: Step, decoded: Tensor, values: Tensor, mean: Tensor, coded: Tensor) -> None:
    """Writes a step's values into y, in units."""
    result = (values / UNIT + mean).clamp_(-LARGEST_ACTIVATION, LARGEST_ACTIVATION)
    scale_of(decoded, step.scale)[coded] = result[coded]
