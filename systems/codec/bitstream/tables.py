"""Probabilities as integers out of 2²⁴, the total of constriction's coder.

They are computed once, when a model is frozen, and stored with its weights: no coder or decoder evaluates an exponential. Each
table covers the integers 0, -1, 1, -2, 2 … -reach, reach in this order and, last, the escape that announces any other value.
The likeliest stands first because the coder starts from the state 0, where a symbol with nothing before it costs nothing: else
each stream would lose up to three bytes.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..errors import CodecModelError
from ..model.rates import MixturePrior
from ..model.scale_table import scales

PRECISION = 24
TOTAL = 1 << PRECISION
Z_REACH = 63

Table = npt.NDArray[np.int32]  # (2 * reach + 2,)


def gaussian_reach(sigma: float) -> int:
    """How far the table of N(0, σ²) goes: six σ and fifteen more."""
    return 15 + math.ceil(6 * sigma)


def values_in_order(reach: int) -> npt.NDArray[np.int32]:
    """0, -1, 1, -2, 2 … -reach, reach."""
    symbols = np.arange(2 * reach + 1, dtype=np.int32)
    return np.where(symbols % 2, -(symbols + 1) // 2, symbols // 2).astype(np.int32)


@dataclass(frozen=True)
class TableSet:
    """All tables of one model."""

    gaussian: list[Table]  # one for each of the 64 scales, by increasing σ
    z: list[Table]  # one for each channel of z

    def arrays(self) -> dict[str, npt.NDArray[np.int32]]:
        """For storage: the Gaussian tables one after the other, and z's as rows."""
        return {"tables.gaussian": np.concatenate(self.gaussian), "tables.z": np.stack(self.z)}

    @classmethod
    def from_arrays(cls, gaussian: npt.NDArray[np.int32], z: npt.NDArray[np.int32], z_channels: int) -> "TableSet":
        """Checked: the lengths, that each entry is at least 1 and that each table sums to 2²⁴."""
        lengths = [2 * gaussian_reach(sigma) + 2 for sigma in scales()]
        if gaussian.shape != (sum(lengths),) or z.shape != (z_channels, 2 * Z_REACH + 2):
            raise CodecModelError("the model's tables are of another size than its configuration says; copy it again")
        result = cls(np.split(gaussian, np.cumsum(lengths)[:-1]), list(z))
        for table in [*result.gaussian, *result.z]:
            if table.min() < 1 or int(table.sum(dtype=np.int64)) != TOTAL:
                raise CodecModelError(f"a table of the model does not sum to {TOTAL} in positive parts; copy it again")
        return result


def build_tables(prior: MixturePrior) -> TableSet:
    """The tables of a trained network, in float64."""
    return TableSet([_gaussian_table(sigma) for sigma in scales()], _z_tables(prior))


def _gaussian_table(sigma: float) -> Table:
    values = torch.from_numpy(values_in_order(gaussian_reach(sigma))).to(torch.float64).abs()  # accurate in both tails
    mass = torch.special.ndtr((0.5 - values) / sigma) - torch.special.ndtr((-0.5 - values) / sigma)
    return integer_table(mass.numpy())


def _z_tables(prior: MixturePrior) -> list[Table]:
    exact = MixturePrior(*prior.logits.shape).to(torch.float64)
    exact.load_state_dict(prior.state_dict())
    exact.requires_grad_(False)
    values = torch.from_numpy(values_in_order(Z_REACH)).to(torch.float64)
    mass = exact.probability(values.view(1, 1, 1, -1).repeat(1, len(prior.logits), 1, 1))[0, :, 0]
    return [integer_table(row) for row in mass.numpy()]


def integer_table(mass: npt.NDArray[np.float64]) -> Table:
    """(n,) probabilities of the values to (n + 1,) integers >= 1 that sum to 2²⁴; the last is the escape.

    What rounding leaves over goes to the likeliest value.
    """
    if not np.isfinite(mass).all() or mass.sum() <= 0:
        raise CodecModelError("the prior of z is not finite; the model's weights are unusable: train it again")
    escape = max(1.0 - float(mass.sum()), 0.0)
    weights = np.append(mass, escape)
    free = TOTAL - len(weights)
    table = 1 + np.floor(weights / weights.sum() * free).astype(np.int64)
    table[int(np.argmax(table))] += TOTAL - int(table.sum())
    return table.astype(np.int32)
