"""The shape of a procedural vertebra: how far each place lies from its surface."""

from dataclasses import dataclass

import numpy as np

from .names import LEVELS

FIELD_MM = 96.0  # the side of a procedural volume: one vertebra whole, and parts of its neighbours
_SMALLEST, _LARGEST = (28.0, 24.0, 19.0), (50.0, 36.0, 28.0)  # T4 and L5: width, depth and height of the body, mm


@dataclass(frozen=True)
class VertebraShape:
    """Sizes in mm of one vertebra and its place in the volume.

    width, depth, height: of the body. waist: by which part its middle is narrower than its endplates. disc: the space between
    two bodies. turn: (3, 3), from the volume's x, y, z to the vertebra's. centre: (3,), of the body in the volume.
    """

    width: float
    depth: float
    height: float
    waist: float
    disc: float
    turn: np.ndarray
    centre: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, level: str) -> "VertebraShape":
        """Sizes of a level, from T4's to L5's, each 6 % larger or smaller at most; turned by up to 6°, shifted by up to 2 mm."""
        part = LEVELS.index(level) / (len(LEVELS) - 1)
        sizes = [(1 - part) * low + part * high for low, high in zip(_SMALLEST, _LARGEST, strict=True)]
        width, depth, height = (size * rng.uniform(0.94, 1.06) for size in sizes)
        turn = np.eye(3)
        for axis, angle in enumerate(np.deg2rad(rng.uniform(-6, 6, 3))):
            i, j = (k for k in range(3) if k != axis)
            one = np.eye(3)
            one[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            turn = turn @ one
        centre = np.array([0, 0.45 * depth, 0]) + rng.uniform(
            -2, 2, 3
        )  # so that body and arch are in the volume's middle
        return cls(width, depth, height, rng.uniform(0.06, 0.14), height * rng.uniform(0.22, 0.34), turn, centre)

    def places(self, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x (to the right), y (to the front), z (to the head) of each voxel from the body's centre: three (D, H, W) float32, mm."""
        line = (np.arange(side) + 0.5) * (FIELD_MM / side) - FIELD_MM / 2
        z, y, x = np.meshgrid(line, line, line, indexing="ij")
        moved = np.tensordot(self.turn, np.stack([x, y, z]) - self.centre[:, None, None, None], 1).astype(np.float32)
        return moved[0], moved[1], moved[2]

    def column(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Where a place lies between the body's axis, 0, and its edge, 1, seen from above."""
        return np.hypot(x / (self.width / 2), y / (self.depth / 2))

    def body(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, lowered: np.ndarray | float = 0.0) -> np.ndarray:
        """mm from the body's surface, below 0 inside: a waisted cylinder, hollowed by the canal and at its endplates.

        lowered: by how many mm the upper endplate is lower than it was.
        """
        half, radius = self.height / 2, self.column(x, y)
        waist = 1 - self.waist * np.clip(1 - (z / half) ** 2, 0, 1)
        side = (radius / waist - 1) * (self.depth / 2)
        end = np.maximum(z + lowered, -z) - half * (1 - 0.1 * np.clip(1 - radius**2, 0, 1))
        canal = 0.2 * self.width - np.hypot(x, y - self._canal)
        return np.maximum(np.maximum(side, end), canal)

    def arch(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """mm from the surface of the posterior arch: a ring round the canal, the spinous, transverse and articular processes."""
        unit, canal = self.width / 45, self._canal
        ring = np.abs(np.hypot(x, y - canal) - 0.27 * self.width) - 0.07 * self.width
        aside = np.abs(x)  # left and right are alike
        parts = [
            np.maximum(ring, np.abs(z - 2 * unit) - 7 * unit),
            _capsule((x, y, z), (0, canal - 13 * unit, 0), (0, canal - 33 * unit, -9 * unit), 3.2 * unit),
            _capsule((aside, y, z), (11 * unit, canal, 2), (34 * unit, canal - 5 * unit, 3 * unit), 3.2 * unit),
            _capsule(
                (aside, y, z),
                (14 * unit, canal - 5 * unit, -0.55 * self.height),
                (14 * unit, canal - 5 * unit, 0.55 * self.height),
                3.6 * unit,
            ),
        ]
        return np.minimum.reduce(parts)

    @property
    def _canal(self) -> float:
        """y of the canal's axis."""
        return -self.depth / 2 - 0.14 * self.width


def _capsule(
    place: tuple[np.ndarray, np.ndarray, np.ndarray], start: tuple[float, ...], end: tuple[float, ...], radius: float
) -> np.ndarray:
    """mm from the surface of a rod with round ends."""
    along = np.subtract(end, start)
    part = np.clip(sum((p - s) * a for p, s, a in zip(place, start, along, strict=True)) / (along @ along), 0, 1)
    return np.sqrt(sum((p - s - part * a) ** 2 for p, s, a in zip(place, start, along, strict=True))) - radius
