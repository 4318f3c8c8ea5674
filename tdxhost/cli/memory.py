# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost memory: CMRs, System RAM, TDX memory, TDMRs and PAMTs."""

import argparse
from collections.abc import Iterable

from tdxhost.cli.context import Context, add_from
from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.documents import NODE_SUMS, PAMTS, memory_document, node_sums
from tdxhost.errors import ExitCode
from tdxhost.findings import combine
from tdxhost.kernel import complete
from tdxhost.records import Memory, Range, RangeKind, Status
from tdxhost.wording import outside_memory, pamt_after_failure
from tdxhost.words import count, size, span

DESCRIPTION = """\
Shows System RAM, the convertible memory ranges (CMRs) that the TDX module lists, TDX memory,
and the TDMRs with their reserved areas and page metadata (PAMTs), by NUMA node. What
tdx_enable() did not get to yet is not there."""

NODE_COLUMNS = (
    Column("NODE", right=True),
    Column("SYSTEM RAM", right=True),
    Column("TDX MEMORY", right=True),
    Column("PAMT", right=True),
)
RANGE_COLUMNS = (
    Column("NODE", right=True, rank=1),
    Column("SIZE", right=True),
    Column("RANGE"),
)
TDMR_COLUMNS = (
    Column("TDMR", right=True),
    Column("KIND"),
    Column("NODE", right=True, rank=1),
    Column("SIZE", right=True),
    Column("RANGE"),
)
TITLES = {
    RangeKind.RAM: "System RAM",
    RangeKind.CMR: "Convertible memory (CMRs)",
    RangeKind.OUTSIDE: "System RAM outside every CMR",
    RangeKind.TDX: "TDX memory",
}
KINDS = {RangeKind.TDMR: "TDMR", RangeKind.RESERVED: "reserved"} | {
    kind: f"PAMT {page}" for kind, page in PAMTS.items()
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --from."""
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Shows memory."""
    with context.open_source() as driver:
        info = driver.get_info()
        status = driver.get_status()
        memory = complete(driver.get_memory(), context.host)
    verdict = combine(context.judge.host(info))
    return context.finish(
        verdict,
        lambda: memory_document(info, status, memory, verdict),
        lambda: _blocks(status, memory),
    )


def _blocks(status: Status, memory: Memory) -> list[Block]:
    blocks: list[Block] = [_summary(memory), *_notes(status, memory), "", _node_table(memory)]
    for kind, title in TITLES.items():
        if ranges := memory.of_kind(kind):
            rows = tuple(
                Row(_range_cells(found), bad=kind is RangeKind.OUTSIDE) for found in ranges
            )
            blocks += ["", Table(title, RANGE_COLUMNS, rows)]
    if memory.of_kind(RangeKind.TDMR):
        blocks += ["", _tdmr_table(memory)]
    return blocks


def _summary(memory: Memory) -> str:
    ram = size(memory.bytes_of(RangeKind.RAM))
    tdmrs = memory.of_kind(RangeKind.TDMR)
    if memory.pamt_bytes is None:
        return f"System RAM {ram}; TDMRs are known to the kernel alone{_kernel_pamts(memory)}"
    if not tdmrs:
        return f"System RAM {ram}; no TDMRs yet (tdxhost enable makes them)"
    return (
        f"TDX memory {size(memory.bytes_of(RangeKind.TDX))} of {ram} RAM; "
        f"{count(len(tdmrs), 'TDMR')}; PAMT {size(memory.pamt_bytes)}"
    )


def _kernel_pamts(memory: Memory) -> str:
    held = memory.kernel_pamt_bytes
    return "" if held is None else f"; PAMT {size(held)}, says its log"


def _notes(status: Status, memory: Memory) -> list[str]:
    lines = [outside_memory(memory), pamt_after_failure(status)]
    return [line for line in lines if line]


def _node(number: int | None) -> str:
    return "-" if number is None else str(number)


def _size(bytes_: int | None) -> str:
    return "-" if bytes_ is None else size(bytes_)


def _total(amounts: Iterable[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _node_table(memory: Memory) -> Table:
    sums = node_sums(memory)
    rows = [Row((_node(row["node"]), *(_size(row[name]) for name in NODE_SUMS))) for row in sums]
    total = [_size(_total(row[name] for row in sums)) for name in NODE_SUMS]
    return Table("By NUMA node", NODE_COLUMNS, (*rows, Row(("all", *total))))


def _range_cells(found: Range) -> tuple[str, str, str]:
    return (_node(found.node), size(found.bytes), span(found.base_pa, found.bytes))


def _tdmr_table(memory: Memory) -> Table:
    rows: list[Row] = []
    for tdmr in memory.of_kind(RangeKind.TDMR):
        members = [found for found in memory.of_kind(*KINDS) if found.tdmr == tdmr.tdmr]
        for found in sorted(members, key=lambda found: (found.kind, found.base_pa)):
            number = _node(found.tdmr) if found.kind is RangeKind.TDMR else ""
            rows.append(Row((number, KINDS[found.kind], *_range_cells(found))))
    return Table("TDMRs, their reserved areas and PAMTs", TDMR_COLUMNS, tuple(rows))
