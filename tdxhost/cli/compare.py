# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost compare: what differs between two hosts."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from tdxhost.cli.context import Context, add_from, write_document
from tdxhost.cli.tables import Block, show
from tdxhost.documents import SCHEMA, Document
from tdxhost.errors import BadData, ExitCode, Usage
from tdxhost.recording import Recording
from tdxhost.report.collect import replay, take
from tdxhost.report.compare import Comparison, Difference, Group, compare
from tdxhost.report.document import about_document
from tdxhost.report.model import Report
from tdxhost.wording import cpus_named
from tdxhost.words import count

DESCRIPTION = """\
Compares two bundles (tdxhost report --bundle), or one with this host: checks, processors,
firmware, every MSR on every CPU, memory, kernel, TDX module, results of CPUs. Exits with 0
where nothing differs, with 1 where something does."""

THIS_HOST = "this host"
TITLES = {
    Group.VERDICT: "Verdict and checks",
    Group.PROCESSOR: "Processors",
    Group.FIRMWARE: "Firmware",
    Group.MEMORY: "Memory",
    Group.KERNEL: "Kernel",
    Group.MODULE: "TDX module",
    Group.CPUS: "Results of CPUs",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds both sides, and --from."""
    parser.add_argument("a", metavar="A", type=Path, help="a bundle or recording")
    parser.add_argument(
        "b", metavar="B", type=Path, nargs="?", help=f"another one (default: {THIS_HOST})"
    )
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Compares."""
    given = context.arguments
    other = given.b or given.recording
    names = str(given.a), str(other) if other else THIS_HOST
    a = _recorded(context, given.a)
    b = _recorded(context, other) if other else _live(context)
    found = compare(a, b)
    if context.for_people:
        show(_blocks(names, a, b, found))
    else:
        write_document(_document(names, a, b, found), context.arguments.format)
    sys.stdout.flush()
    return ExitCode.FAILED if found.differences else ExitCode.OK


def _recorded(context: Context, path: Path) -> Report:
    try:
        return replay(Recording.load(path), context.judge)
    except BadData as error:
        # 1 says that hosts differ, so that it can't say that there was nothing to compare.
        raise Usage(error.message, error.hint) from error


def _live(context: Context) -> Report:
    report, _ = take(context.host, context.open_driver, context.judge)
    return report


def _document(names: tuple[str, str], a: Report, b: Report, found: Comparison) -> Document:
    return {
        "schema": SCHEMA,
        "a": _side(names[0], a),
        "b": _side(names[1], b),
        "differences": [_difference(one) for one in found.differences],
        "not_compared": [{"what": one.what, "not_in": one.side} for one in found.uncompared],
    }


def _side(name: str, report: Report) -> Document:
    return {"name": name, "taken_at": report.taken_at, "host": about_document(report.about)}


def _difference(one: Difference) -> Document:
    return asdict(one) | {
        "group": str(one.group),
        "cpus": list(one.cpus),
        "bits": [asdict(bits) for bits in one.bits],
    }


def _blocks(names: tuple[str, str], a: Report, b: Report, found: Comparison) -> list[Block]:
    made: list[Block] = [
        f"A: {names[0]}, {a.taken_at}",
        f"B: {names[1]}, {b.taken_at}",
    ]
    for group, members in groupby(found.differences, key=lambda one: one.group):
        made += ["", TITLES[group]]
        for one in members:
            made += _lines(one)
    for side, name in (("a", "A"), ("b", "B")):
        if whats := [one.what for one in found.uncompared if one.side == side]:
            made += ["", f"Not compared, because {name} lacks it: {', '.join(whats)}"]
    number = len(found.differences)
    return [*made, "", count(number, "difference") if number else "No difference"]


def _lines(one: Difference) -> Iterator[str]:
    about = f", {cpus_named(one.cpus)}" if one.cpus else ""
    yield f"  {one.what}{about}"
    yield f"    A: {one.a}"
    yield f"    B: {one.b}"
    for bits in one.bits:
        name = "" if bits.name == bits.label else f", {bits.name}"
        yield f"    {bits.label}{name}: A {bits.a:#x}, B {bits.b:#x}"
