"""Small CT scans with masks, as NIfTI, and the names of the real ones."""

import nibabel
import numpy as np
from relatent.systems.anomaly.data.label_tables import TOTALSEGMENTATOR, VERSE

SHAPE = (40, 36, 30)
REAL = {  # scan, mask, table, the levels in it
    "abdomen": (
        "totalsegmentator/abdomen_ct_3mm",
        "totalsegmentator/abdomen_vertebrae_3mm",
        TOTALSEGMENTATOR,
        ["T11", "T12", "L1", "L2", "L3", "L4", "L5"],
    ),
    "thorax": ("totalsegmentator/thorax_ct_1.5mm", "totalsegmentator/thorax_vertebra_T12_1.5mm", {1: "T12"}, ["T12"]),
    "lumbar": ("tptbox/sub-ct_label-22_ct", "tptbox/sub-ct_seg-vert_label-22_msk", VERSE, ["L2", "L3", "L4"]),
}


def rotation(axis, degrees):
    i, j = [k for k in range(3) if k != axis]
    turn = np.eye(3)
    angle = np.deg2rad(degrees)
    turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return turn


def affine_of(case):
    """Voxel indices to millimetres with index (20, 18, 15) at (100, -50, 300)."""
    linear = {
        "canonical": np.eye(3),
        "flipped": np.diag([-1.0, -1.0, 1.0]),
        "anisotropic, axes exchanged": np.array([[0, 0, 1.5], [-0.8, 0, 0], [0, -3.0, 0]]),
        "anisotropic, oblique, flipped": rotation(0, 20) @ rotation(2, -35) @ np.diag([-0.9, 1.3, 2.5]),
    }[case]
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = np.array([100, -50, 300]) - linear @ [20, 18, 15]
    return affine


def ramp(world):
    """Hounsfield units that are linear in the place (..., 3), so that trilinear interpolation is exact."""
    return 900 + (world - [100, -50, 300]) @ [20.0, -11.0, 6.0]


def write_scan(folder, affine, number=22, shape=SHAPE):
    """A scan of the ramp, and a mask whose one vertebra is a box of 5 × 3 × 3 voxels round index (20, 18, 15)."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    world = indices @ affine[:3, :3].T + affine[:3, 3]
    mask = np.zeros(shape, np.uint8)
    mask[18:23, 17:20, 14:17] = number
    nibabel.save(nibabel.Nifti1Image(ramp(world).astype(np.float32), affine), folder / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "mask.nii.gz")
    return folder / "ct.nii.gz", folder / "mask.nii.gz"
