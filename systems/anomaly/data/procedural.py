"""Procedural vertebrae: synthetic volumes, some fractured, with the fracture's voxels known.

They look like vertebrae in CT and are none: figures on them say how well a method finds what was put in, nothing of patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path
from .names import LEVELS, format_name
from .vertebra_shape import FIELD_MM, VertebraShape
from .volume import ABNORMAL, NORMAL
from .volume_folder import MASKS, add_to_index, make_folder

KINDS = ("normal", "wedge", "crack")
PER_PATIENT = 5  # neighbouring levels
DESCRIPTION = "synthetic: procedural vertebrae, no scan of a person"
_SOFT, _DISC, _SPONGIOSA, _CORTICAL = 0.03, 0.05, 0.12, 0.4  # of the window of 0 to 1900 HU
_SHELL_MM = 1.6
_DIFFERENT = 0.025  # a voxel is abnormal where the fracture changed it by more, the texture of the bone left out


@dataclass(frozen=True, eq=False)
class ProceduralVertebra:
    """volume: (side, side, side) float32 in [0, 1]. mask: booleans, the fracture's voxels. label: 0 normal, 1 abnormal."""

    volume: np.ndarray
    mask: np.ndarray
    label: int
    kind: str
    level: str


def make_vertebra(
    seed: int | Sequence[int], side: int = 64, level: str = "L3", kind: str = "normal"
) -> ProceduralVertebra:
    """A synthetic vertebra of a level, in a field of 96 mm, the axes as in prepared volumes.

    kind: `normal`; `wedge`, the body's front collapsed by 25 to 60 % of its height, what is left denser; `crack`, an uneven gap
    through the body with a step of its surface. The same seed and level give the same vertebra but for the fracture; the mask
    has the voxels that the fracture changed by more than 0.025, judged without noise and texture. Raises UsageError for another kind, level or a side below 8.
    """
    if kind not in KINDS or level not in LEVELS or side < 8:
        raise UsageError(
            f"expected a kind of {', '.join(KINDS)}, a level from T4 to L5 and a side from 8 on, found {kind}, {level}, {side}"
        )
    rng = np.random.default_rng(seed)
    shape, density, sigma = (
        VertebraShape.draw(rng, level),
        rng.uniform(0.75, 1.25),
        np.float32(rng.uniform(0.006, 0.014)),
    )
    fracture = int(rng.integers(1 << 32))  # all this is the same at every side
    texture, tissue = pink_noise(rng, side), pink_noise(rng, side, exponent=2.5)
    noise = rng.standard_normal((side,) * 3, np.float32)

    def render(kind: str, texture: np.ndarray) -> np.ndarray:
        return _render(shape, side, density, texture, tissue, kind, np.random.default_rng(fracture))

    volume = render(kind, texture)
    # muscle between fat, whose units are below the window
    volume = np.maximum(volume, _SOFT * np.clip(0.7 + 0.7 * tissue, 0, 1.2))
    mask = np.zeros(volume.shape, bool)
    if kind != "normal":
        smooth = [render(one, np.zeros_like(texture)) for one in (kind, "normal")]
        mask = np.abs(smooth[0] - smooth[1]) > _DIFFERENT
    return ProceduralVertebra(
        np.clip(volume + sigma * noise, 0, 1),
        mask,
        NORMAL if kind == "normal" else ABNORMAL,
        kind,
        level,
    )


def pink_noise(rng: np.random.Generator, side: int, exponent: float = 1.0) -> np.ndarray:
    """Noise whose amplitude falls with the frequency f, as f^-exponent: (side, side, side) float32, mean 0, deviation 1."""
    spectrum = np.fft.rfftn(rng.standard_normal((side,) * 3))
    full, half = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    frequency = np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)
    frequency[0, 0, 0] = np.inf  # no mean
    values = np.fft.irfftn(spectrum / frequency**exponent, (side,) * 3, axes=(0, 1, 2))
    return (values / values.std()).astype(np.float32)


def write_procedural(
    folder: str | Path, count: int, seed: int, side: int = 64, abnormal_fraction: float = 0.5
) -> list[Path]:
    """Write `count` synthetic vertebrae as `vol_{patient}_{level}.npy`, masks of the same names in `masks/`, and `volumes.json`.

    Each synthetic patient has five neighbouring levels, the last one perhaps fewer. round(count · abnormal_fraction) volumes are
    abnormal, wedges and cracks by turns, at random places. The same arguments give the same files. Raises UsageError for a count
    below 1 or a fraction outside 0 to 1, VolumeError where the folder holds real volumes.
    """
    folder = Path(folder)
    if count < 1 or not 0 <= abnormal_fraction <= 1:
        raise UsageError(
            f"expected a count from 1 on and a fraction from 0 to 1, found {count} and {abnormal_fraction}"
        )
    rng = np.random.default_rng(seed)
    kinds = ["normal"] * count
    for n, i in enumerate(rng.permutation(count)[: round(count * abnormal_fraction)]):
        kinds[i] = KINDS[1 + n % 2]
    first = rng.integers(0, len(LEVELS) - PER_PATIENT + 1, -(-count // PER_PATIENT))  # each patient's highest level
    make_folder(folder, synthetic=True)
    paths, entries = [], {}
    for i, kind in enumerate(kinds):
        patient, place = divmod(i, PER_PATIENT)
        made = make_vertebra((seed, i), side, LEVELS[first[patient] + place], kind)
        path = folder / format_name(f"synthetic{seed}-{patient:04d}", made.level)
        for target, values in ((folder / MASKS / path.name, made.mask), (path, made.volume)):
            with atomic_path(target) as temporary:
                np.save(temporary, values)
        paths.append(path)
        entries[path.name] = {
            "label": made.label,
            "kind": kind,
            "level": made.level,
            "seed": [seed, i],
            "synthetic": True,
        }
    add_to_index(folder, entries, synthetic=True, description=DESCRIPTION)
    return paths


def _render(
    shape: VertebraShape,
    side: int,
    density: float,
    texture: np.ndarray,
    uneven: np.ndarray,
    kind: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """The bones and discs without the scan's noise, (side, side, side) float32. texture: of the
    spongiosa, uneven: of a crack's surface, in mm; both like `pink_noise`. rng: draws the fracture.
    """
    voxel = np.float32(FIELD_MM / side)
    x, y, z = shape.places(side)
    period = shape.height + shape.disc
    wrapped = (z + period / 2) % period - period / 2  # above and below are vertebrae of the same shape
    middle = np.abs(z) < period / 2
    spongiosa = density * (_SPONGIOSA + np.float32(0.03) * texture)
    body, gap = shape.body(x, y, wrapped), np.zeros_like(x)
    if kind == "wedge":
        lost = rng.uniform(0.25, 0.6) * np.clip(
            y / shape.depth + 0.5, 0, 1
        )  # which part of the height, none at the back
        body = np.where(middle, shape.body(x, y, z, lost * shape.height), body)
        spongiosa = np.where(middle, spongiosa / (1 - lost), spongiosa)  # the same bone in less space
    elif kind == "crack":
        normal = rng.normal(size=3) * (0.6, 0.6, 1)
        normal /= np.linalg.norm(normal)
        off = normal[0] * x + normal[1] * y + normal[2] * (z - rng.uniform(-0.2, 0.2) * shape.height) + 1.5 * uneven
        body = np.where(middle, shape.body(x, y + rng.uniform(1, 2.5) * (off > 0), z), body)
        half = max(rng.uniform(2, 3.5), float(voxel)) / 2
        gap = np.where(middle & (body < voxel / 2), _part((np.abs(off) - half) / voxel), 0)
    arch = shape.arch(x, y, wrapped)
    distance = np.minimum(body, arch)
    whole = np.where(arch < body, 1, 1 - gap)  # a crack goes through the body alone
    bone, core = _part(distance / voxel) * whole, _part((distance + _SHELL_MM) / voxel) * whole
    disc = _DISC * _part((shape.column(x, y) - 1) * (shape.depth / 2) / voxel)
    return (disc * (1 - bone) + density * _CORTICAL * (bone - core) + spongiosa * core).astype(np.float32)


def _part(distance: np.ndarray) -> np.ndarray:
    """Which part of a voxel lies inside a surface that is `distance` voxels away."""
    return np.clip(0.5 - distance, 0, 1)
