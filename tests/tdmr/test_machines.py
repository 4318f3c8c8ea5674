# SPDX-License-Identifier: GPL-2.0-or-later
"""Large machines of every shape: their layouts, taken by the rules and by the seam library."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.seam import binding
from tests.seam.machine import OK, Host
from tests.seam.machine import Machine as SeamMachine
from tests.seam.machine import Tdmr as TdmrInfo

from .layout import Layout, Library, Limits, Range, Tdmr
from .machines import (
    GIB,
    MIB,
    TIB,
    Machine,
    crumbs,
    scattered,
    shattered,
    slivers,
    sockets,
    sub_numa,
    with_cxl,
)
from .pamts import fit_in_ram
from .rules import config_answer

MACHINES = {
    "2 nodes": sockets(2, 1 * TIB),
    "8 nodes": sockets(8, 512 * GIB),
    "8 nodes apart": sockets(8, 512 * GIB, gap=32 * GIB),
    "SNC, 12 nodes": sub_numa(12),
    "32 nodes": sockets(32, 256 * GIB),
    "64 nodes": sockets(64, 1 * TIB, taken=0),
    "64 nodes apart": sockets(64, 64 * GIB, gap=GIB),
    "CXL": with_cxl(4, 8),
    "Emerald Rapids, 20 slivers": slivers(20),
    "Emerald Rapids, 50 slivers": slivers(50),
    "as many holes as areas": crumbs([4], 15),
    "holes for two TDMRs": crumbs([4, 5], 14),
    "thousands of holes in RAM": shattered(4096, 64, 64 * TIB),
    "thousands of islands": scattered(4096, 64, 64 * TIB),
}


@pytest.fixture(scope="session")
def seam(tmp_path_factory: pytest.TempPathFactory) -> binding.Library:
    out = tmp_path_factory.mktemp("tdmr-seam")
    folder = binding.REPO / "vtdx" / "seam"
    subprocess.run(["make", "-s", "-C", str(folder), f"O={out}"], check=True)
    return binding.Library(Path(out) / "libseam.so")


def tdmr_info(tdmr: Tdmr) -> TdmrInfo:
    """A TDMR as TDH.SYS.CONFIG reads it: reserved areas by offset."""
    pamt_4k, pamt_2m, pamt_1g = ((pamt.base, pamt.size) for pamt in tdmr.pamt)
    reserved = [(area.base - tdmr.base, area.size) for area in tdmr.reserved]
    return TdmrInfo(tdmr.base, tdmr.size, pamt_1g, pamt_2m, pamt_4k, reserved)


def seam_answer(
    seam: binding.Library, tdmrs: Sequence[Tdmr], cmrs: Sequence[Range]
) -> tuple[str, int]:
    """What the seam library's TDH.SYS.CONFIG says."""
    # 64 TiB are 46 address bits: 5 of 52 are left for KeyIDs.
    platform = SeamMachine(keyid_bits=5, num_mktme_kids=15, num_tdx_priv_kids=16)
    host = Host(seam, platform, cmrs=[(cmr.base, cmr.size) for cmr in cmrs])
    host.lp_init_all()
    return host.config([tdmr_info(tdmr) for tdmr in tdmrs], hkid=16)


def laid_out(library: Library, machine: Machine, top_down: bool) -> Layout:
    """The layout, PAMTs and all."""
    layout = library.layout()
    layout.lay_out(machine.regions, machine.cmrs)
    fit_in_ram(layout, machine.regions, top_down)
    return layout


@pytest.mark.parametrize("top_down", [False, True], ids=["bottom up", "top down"])
@pytest.mark.parametrize("name", MACHINES)
def test_config_takes_the_layout(
    library: Library, seam: binding.Library, name: str, top_down: bool
) -> None:
    machine = MACHINES[name]
    tdmrs = laid_out(library, machine, top_down).tdmrs

    assert config_answer(tdmrs, machine.cmrs, Limits()) is None
    assert seam_answer(seam, tdmrs, machine.cmrs) == OK


@pytest.mark.parametrize("name", ["2 nodes", "8 nodes", "8 nodes apart", "32 nodes", "CXL"])
def test_each_node_has_tdmrs_and_pamts_of_its_own(library: Library, name: str) -> None:
    machine = MACHINES[name]
    layout = library.layout()
    layout.lay_out(machine.regions, machine.cmrs)
    natural = layout.tdmrs
    used = fit_in_ram(layout, machine.regions)

    assert {tdmr.node for tdmr in natural} == {region.node for region in machine.regions}
    for tdmr, piece in zip(natural, used, strict=True):
        homes = [r for r in machine.regions if r.base <= piece.base < r.end]
        assert [home.node for home in homes] == [tdmr.node]


def test_slivers_of_ram_cost_no_reserved_area(library: Library) -> None:
    """The firmware that Linux found "reserved areas exhausted" on."""
    machine = MACHINES["Emerald Rapids, 50 slivers"]
    tdmrs = laid_out(library, machine, top_down=True).tdmrs

    low = tdmrs[0]
    assert (low.base, low.size) == (0, 2 * GIB)
    # Below the CMR, and behind it: the PAMTs are in high memory.
    assert low.reserved == (Range(0, MIB), Range(0x6F800000, 2 * GIB - 0x6F800000))


# A tenth of a second for the largest machine; tdx_enable() holds a lock for as long.
SLOWEST_SECONDS = 0.1


@pytest.mark.parametrize("name", ["64 nodes", "thousands of holes in RAM", "thousands of islands"])
def test_the_largest_machines_are_laid_out_at_once(library: Library, name: str) -> None:
    machine = MACHINES[name]
    took: list[float] = []
    for _ in range(5):
        layout = library.layout()
        # CPU time: the machine that tests run on may be busy.
        start = time.process_time()
        layout.lay_out(machine.regions, machine.cmrs)
        fit_in_ram(layout, machine.regions)
        took.append(time.process_time() - start)

    assert min(took) < SLOWEST_SECONDS
