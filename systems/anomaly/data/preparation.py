"""CT scans with masks of vertebrae to volumes, one for each vertebra."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, file_sha256
from .errors import VolumeError
from .label_tables import VERSE
from .names import format_name
from .nifti import Nifti, read_nifti
from .volume_folder import add_to_index, make_folder

_ZYX = np.eye(3)[::-1]  # from a volume's axes (D, H, W) to x, y, z, and back
_FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Field:
    """What a volume shows of a scan.

    side: voxels. spacing: millimetres per voxel. window: the Hounsfield units that become 0 and 1.
    """

    side: int = 128
    spacing: float = 1.0
    window: tuple[float, float] = (0.0, 1900.0)

    def __post_init__(self) -> None:
        if self.side < 1 or not self.spacing > 0 or not self.window[0] < self.window[1]:
            raise UsageError(f"expected a side and a spacing above 0 and a window (low, high), found {self}")


def prepare_scan(
    scan: str | Path,
    mask: str | Path,
    patient: str,
    folder: str | Path,
    labels: Mapping[int, str] = VERSE,
    field: Field | None = None,
    known: int | Mapping[str, int] | None = None,
) -> list[Path]:
    """Write a volume `vol_{patient}_{level}.npy` into `folder` for each vertebra that the mask has, and list them in `volumes.json`.

    scan: NIfTI in Hounsfield units. mask: NIfTI of integers, in the same world; its grid may differ. labels: the mask's number of
    each level, such as `TABLES["totalsegmentator"]`; numbers that are not in it are left out. field: None is 128 voxels of 1 mm.
    known: the label, 0 (normal) or 1 (abnormal), of all its volumes or by level; in `volumes.json` that of others is null.
    `cut_off` there says whether the vertebra reaches the edge of the mask's grid, and `made_from` is the `source_digest`.
    Returns the files written. Raises VolumeError for a scan or mask that cannot be used, one that has no vertebra in common, and a
    mask without a level that is `known`.
    """
    field, folder = field or Field(), Path(folder)
    for number, level in labels.items():
        format_name(patient, level)  # before any work
        if number < 1:
            raise UsageError(f"labels: expected numbers from 1 on, found {number} for {level}")
    image, numbers = read_nifti(scan, np.float32), read_nifti(mask, np.int32)
    centroids = find_centroids(numbers, labels)
    if not centroids:
        present = ", ".join(map(str, np.unique(numbers.values)[:20]))
        raise VolumeError(
            f"{mask} has none of the labels {sorted(labels)}, only {present}: name the table of its numbers"
        )
    if isinstance(known, Mapping) and (absent := sorted(known.keys() - centroids.keys())):
        raise VolumeError(
            f"{mask} has no {absent[0]}, whose label is given: take the label out, or name the other mask"
        )
    digest = source_digest(scan, mask, labels, field)
    make_folder(folder, synthetic=False)
    paths, entries = [], {}
    for level, (centroid, cut_off) in centroids.items():
        if not _inside(image, centroid):
            _log.warning("%s: %s lies outside the scan %s and is left out", mask, level, scan)
            continue
        path = folder / format_name(patient, level)
        with atomic_path(path) as temporary:
            np.save(temporary, cut_volume(image, centroid, field))
        paths.append(path)
        entries[path.name] = {
            "label": known.get(level) if isinstance(known, Mapping) else known,
            "scan": Path(scan).name,
            "centroid_mm": centroid.tolist(),
            "cut_off": cut_off,
            "made_from": digest,
        }
    if not paths:
        raise VolumeError(f"{mask} and {scan} have no place in common: give the mask of this scan")
    add_to_index(folder, entries, synthetic=False)
    return paths


def source_digest(scan: str | Path, mask: str | Path, labels: Mapping[int, str], field: Field) -> str:
    """SHA-256, in hexadecimal, of all that the volumes of a scan depend on: both files' content, the labels, the field.

    Raises VolumeError for a file that cannot be read.
    """
    try:
        files = [file_sha256(Path(path)) for path in (scan, mask)]
    except OSError as error:
        raise VolumeError(f"{error.filename} cannot be read: {error.strerror}") from error
    content = json.dumps([files, sorted(labels.items()), asdict(field)])
    return hashlib.sha256(content.encode()).hexdigest()


def find_centroids(mask: Nifti, labels: Mapping[int, str]) -> dict[str, tuple[np.ndarray, bool]]:
    """Each level's centroid, (3,) millimetres in RAS+, and whether the vertebra reaches the edge of the mask's grid."""
    from scipy import ndimage

    found = {}
    highest = max(labels, default=0)
    boxes = ndimage.find_objects(np.where(mask.values <= highest, mask.values, 0), highest)
    for number, level in labels.items():
        box = boxes[number - 1]
        if box is None:
            continue
        start = np.array([one.start for one in box])
        indices = np.argwhere(mask.values[box] == number) + start
        edge = (indices == 0) | (indices == np.array(mask.values.shape) - 1)
        found[level] = (mask.affine[:3, :3] @ indices.mean(axis=0) + mask.affine[:3, 3], bool(edge.any()))
    return found


def cut_volume(scan: Nifti, centre: np.ndarray, field: Field) -> np.ndarray:
    """The window of a scan round a point as (side, side, side) float32 in [0, 1]; zero where the scan has no data.

    centre: (3,) millimetres in RAS+, the middle of the volume.
    """
    low, high = field.window
    above = Nifti(
        np.nan_to_num(scan.values, nan=low) - np.float32(low), scan.affine
    )  # so that padding is 0 after the window
    return np.clip(resample(above, centre, field) / np.float32(high - low), 0, 1)


def resample(image: Nifti, centre: np.ndarray, field: Field, order: int = 1) -> np.ndarray:
    """An image on a cubic grid whose axes D, H, W run to the head, to the front and to the patient's right; zero outside.

    Whatever the order, direction and obliqueness of the image's own axes. order: 1 trilinear, after a low-pass along the axes whose
    voxels are finer than the grid's; 0 nearest. Returns (side, side, side) float32.
    """
    from scipy import ndimage

    inverse = np.linalg.inv(image.affine[:3, :3])
    matrix = inverse @ _ZYX * field.spacing
    corner = centre - (field.side - 1) / 2 * field.spacing  # the world's place of index (0, 0, 0)
    offset = inverse @ (corner - image.affine[:3, 3])
    values, shape = image.values, (field.side,) * 3
    sigmas = low_pass_sigmas(image.affine, field.spacing)
    if order and sigmas.any():
        values, start = _around(values, matrix, offset, field.side, np.ceil(4 * sigmas) + 1)
        values = ndimage.gaussian_filter(values, sigmas, mode="nearest", output=np.float32)
        offset = offset - start
    return ndimage.affine_transform(values, matrix, offset, shape, np.float32, order, mode="constant", prefilter=False)


def low_pass_sigmas(affine: np.ndarray, spacing: float) -> np.ndarray:
    """Standard deviations of the Gaussian, (3,) voxels of the image, that is due before sampling at `spacing` mm; 0: none.

    A voxel is taken to show a Gaussian neighbourhood whose full width at half maximum is the voxel's size. What turns that of the
    image into that of the grid is a Gaussian too, of the variance by which they differ (Cardoso et al., "Scale factor point spread
    function matching", MICCAI 2015). The grid's is the same in all directions, so the axes may stand at any angle.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return np.sqrt(np.maximum(spacing**2 - sizes**2, 0)) / _FWHM / sizes


def _around(
    values: np.ndarray, matrix: np.ndarray, offset: np.ndarray, side: int, margin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image that a grid of `side` samples, with a margin, and the index where it begins: not all of a scan is filtered."""
    corners = np.stack(np.meshgrid(*[(0, side - 1)] * 3), -1).reshape(-1, 3) @ matrix.T + offset
    sizes = np.array(values.shape)
    start = np.clip(np.floor(corners.min(axis=0) - margin), 0, sizes - 1).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0) + margin) + 1, start + 1, sizes).astype(int)
    return values[tuple(slice(*each) for each in zip(start, stop, strict=True))], start


def _inside(image: Nifti, point: np.ndarray) -> bool:
    """Whether a point, in millimetres, lies within the image's voxels."""
    index = np.linalg.solve(image.affine[:3, :3], point - image.affine[:3, 3])
    return bool(((index >= -0.5) & (index <= np.array(image.values.shape) - 0.5)).all())
