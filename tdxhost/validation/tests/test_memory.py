# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of an initialised TDX module: CMRs, TDX memory, TDMRs, reserved areas and PAMTs."""

from collections.abc import Callable

from tdxhost.device import Driver
from tdxhost.fields import FieldTable
from tdxhost.host import Host
from tdxhost.records import Memory, RangeKind
from tdxhost.validation import Stage, Unit, could_not_run, requirement
from tdxhost.validation.layout import (
    PAGE,
    PAMT_PAGES,
    TdmrLimits,
    cmr_problems,
    far_pamts,
    pamt_problems,
    ram_problems,
    tdmr_problems,
    tdx_memory_problems,
)
from tdxhost.validation.metadata import Metadata
from tdxhost.validation.problems import none_of
from tdxhost.validation.ranges import Span, spans, system_ram

#: The first MiB belongs to real-mode code and firmware, and is never TDX memory.
LOW_MEMORY_END = 1 << 20
FIRMWARE = "CMRs come from firmware: update the BIOS, and look at its memory and TDX settings."
DRIVER = "The layout is the driver's work: report it with 'tdxhost report'."


@requirement(
    "memory.cmrs",
    holds="CMRs are sorted and disjoint, and TDX memory is the System RAM that lies in them",
    source="TDX module ABI spec, TDH.SYS.INIT (CMR table); uapi/linux/tdxhost.h, GET_MEMORY",
    needs=Stage.INITIALIZED,
)
def test_cmrs(driver: Driver, host: Host, fields: FieldTable) -> None:
    """CMRs, System RAM as the kernel has it, and TDX memory fit together."""
    memory = driver.get_memory()
    ram = system_ram(host.text("/proc/iomem"), LOW_MEMORY_END, PAGE)
    if not ram:
        could_not_run("/proc/iomem shows no addresses: run it as root, on the host itself")
    cmrs = spans(memory.of_kind(RangeKind.CMR))
    problems = [*cmr_problems(cmrs, _cmrs_told(Metadata.read(driver, fields)))]
    problems += ram_problems(memory, ram)
    if not memory.of_kernel:
        problems += tdx_memory_problems(memory, ram)
    none_of(problems, FIRMWARE)


def _cmrs_told(metadata: Metadata) -> list[Span] | None:
    """The CMRs that the metadata has, without its empty entries."""
    values = metadata.values
    if "CMR_BASE" not in values or "CMR_SIZE" not in values:
        return None
    pairs = zip(values["CMR_BASE"], values["CMR_SIZE"], strict=True)
    told = [Span(base, base + size) for base, size in pairs if size]
    return told[: metadata.get("NUM_CMRS")]


@requirement(
    "memory.tdmrs",
    holds="TDMRs and reserved areas are what TDH.SYS.CONFIG asks for, and cover all TDX memory",
    source="TDX module ABI spec, TDH.SYS.CONFIG and TDMR_INFO",
    needs=Stage.INITIALIZED,
)
def test_tdmrs(driver: Driver, fields: FieldTable) -> None:
    """TDMRs are held against the rules and against the limits in the metadata."""
    memory = _layout_of(driver)
    none_of(tdmr_problems(memory, _limits(driver, fields)), DRIVER)


@requirement(
    "memory.pamts",
    holds="each PAMT has the size of the formula, lies in a CMR and in no memory of TDs",
    source="TDX module ABI spec, TDH.SYS.CONFIG and TDMR_INFO; PAMT_*_ENTRY_SIZE",
    needs=Stage.INITIALIZED,
)
def test_pamts(
    driver: Driver,
    fields: FieldTable,
    progress: Callable[[str], None],
    measure: Callable[..., None],
) -> None:
    """PAMTs are held against the formula, the rules, and what GET_STATUS says of them."""
    memory = _layout_of(driver)
    held = driver.get_status().pamt_bytes
    problems = [*pamt_problems(memory, _limits(driver, fields))]
    sums = {
        "the PAMTs of GET_MEMORY add up to": memory.bytes_of(*PAMT_PAGES),
        "GET_MEMORY says": memory.pamt_bytes,
        "GET_STATUS says": held,
    }
    if len(set(sums.values())) > 1:
        told = ", ".join(f"{who} {count} bytes" for who, count in sums.items())
        problems.append(f"the memory held for PAMTs is not told alike: {told}")
    for remark in far_pamts(memory):
        progress(remark)
    measure("pamt", Unit.BYTES, held)
    none_of(problems, DRIVER)


def _layout_of(driver: Driver) -> Memory:
    memory = driver.get_memory()
    if memory.of_kernel:
        could_not_run("the kernel initialises TDX here, and keeps TDMRs and PAMTs to itself")
    return memory


def _limits(driver: Driver, fields: FieldTable) -> TdmrLimits:
    metadata = Metadata.read(driver, fields)
    sizes = metadata.must("PAMT_4K_ENTRY_SIZE", "PAMT_2M_ENTRY_SIZE", "PAMT_1G_ENTRY_SIZE")
    max_tdmrs, max_reserved = metadata.must("MAX_TDMRS", "MAX_RESERVED_PER_TDMR")
    return TdmrLimits(
        max_tdmrs=max_tdmrs,
        max_reserved=max_reserved,
        entry_bytes=dict(zip(PAMT_PAGES, sizes, strict=True)),
    )
