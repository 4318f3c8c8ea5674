# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost info: the TDX module, its features and its metadata."""

import argparse

from tdxhost.bringup import Metadata, read_metadata
from tdxhost.cli.context import Context, add_from
from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.documents import build_date, info_document
from tdxhost.errors import ExitCode
from tdxhost.fields import FieldTable, Reading
from tdxhost.findings import combine
from tdxhost.records import Info
from tdxhost.words import count

DESCRIPTION = """\
Shows the TDX module's version, its features by name, the KeyIDs, and the metadata fields
that the module tells (TDH.SYS.RD), which needs one enabled CPU. With -v, arrays in full."""

COLUMNS = (
    Column("FIELD"),
    Column("VALUE"),
    Column("MEANING", rank=1),
)
PADDING = (0, (1 << 64) - 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --from."""
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Shows the information."""
    table = FieldTable.load()
    with context.open_source() as driver:
        info = driver.get_info()
        metadata = read_metadata(driver, table)
        cpus = driver.get_cpus() if metadata.not_read else ()
    verdict = combine(context.judge.host(info), context.judge.cpus(cpus))
    return context.finish(
        verdict,
        lambda: info_document(info, table, metadata, verdict),
        lambda: _blocks(info, table, metadata, whole=context.verbose),
    )


def _blocks(info: Info, table: FieldTable, metadata: Metadata, *, whole: bool) -> list[Block]:
    machine = f"{count(info.nr_cpus, 'CPU')} in {count(info.nr_packages, 'package')}"
    blocks: list[Block] = [_summary(info), f"{machine}; provider {info.provider.label}"]
    if info.has_keyids:
        last = info.keyid_first + info.nr_keyids - 1
        blocks.append(
            f"KeyIDs: {info.nr_keyids} private ({info.keyid_first}-{last}), "
            f"global KeyID {info.keyid_global}"
        )
    if info.has_module:
        blocks.append(f"Features: {', '.join(table.feature_names(info.tdx_features0))}")
    if metadata.not_read:
        return [*blocks, "", f"Metadata was not read. {metadata.not_read.hint}"]
    rows = tuple(_row(reading, whole=whole) for reading in metadata.readings if reading.known)
    missing = [reading.field.name for reading in metadata.readings if not reading.known]
    blocks += ["", Table("Metadata", COLUMNS, rows)]
    if missing:
        blocks += ["", f"Not in this TDX module: {', '.join(missing)}"]
    return blocks


def _summary(info: Info) -> str:
    if not info.has_module:
        return "TDX module: not known yet"
    built = build_date(info.module_build_date)
    return f"TDX module {info.module_version}, built {built}, build {info.module_build_num}"


def _row(reading: Reading, *, whole: bool) -> Row:
    name = reading.field.name
    values = [value.value for value in reading.values]
    if len(values) > 1:
        name += f"[{len(values)}]"
        while not whole and len(values) > 1 and values[-1] in PADDING:
            values.pop()
    shown = [f"{value:#x}" for value in values]
    if not whole and len(shown) > 1:
        shown = [shown[0], f"(+{len(shown) - 1})"]
    elif len(values) == 1 and reading.field.size < 8:
        shown.append(f"({values[0]})")
    return Row((name, " ".join(shown), reading.field.meaning))
