"""The sections by name, in the order in which they are measured; the ceilings are measured again at the end."""

from ..section import Section
from . import attention, captured, ceilings, convolutions, iteration, kernels, layers, race, run, without_gradient

SECTIONS: dict[str, Section] = {
    "ceilings": ceilings,
    "captured": captured,
    "iteration": iteration,
    "run": run,
    "race": race,
    "without_gradient": without_gradient,
    "convolutions": convolutions,
    "attention": attention,
    "kernels": kernels,
    "layers": layers,
}
