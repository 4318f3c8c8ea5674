# SPDX-License-Identifier: GPL-2.0-or-later
"""Processors whose generation has TDX; Linux 7.3 arch/x86/include/asm/intel-family.h."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A generation; partial_write: it has the partial-write machine check erratum.

    Source of that: Linux 7.3 arch/x86/kernel/cpu/intel.c, check_tdx_erratum().
    """

    name: str
    partial_write: bool = False


#: Family and model to generation.
MODELS = {
    (6, 0x8F): Model("Sapphire Rapids", partial_write=True),
    (6, 0xCF): Model("Emerald Rapids", partial_write=True),
    (6, 0xAD): Model("Granite Rapids"),
    (6, 0xAE): Model("Granite Rapids-D"),
    (6, 0xAF): Model("Sierra Forest"),
    (6, 0xDD): Model("Clearwater Forest"),
    (19, 0x01): Model("Diamond Rapids"),
}


def model_of(family: int, model: int) -> Model | None:
    """The generation; None for one that has no TDX, or that is newer than this package."""
    return MODELS.get((family, model))
