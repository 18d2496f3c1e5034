"""The sections by name, in the order in which they are measured; the ceilings are measured again at the end."""

from ..section import Section
from . import attention, captured, ceilings, convolutions, iteration, kernels, layers, race, run

SECTIONS: dict[str, Section] = {
    "ceilings": ceilings,
    "captured": captured,
    "iteration": iteration,
    "convolutions": convolutions,
    "attention": attention,
    "run": run,
    "race": race,
    "kernels": kernels,
    "layers": layers,
}
