# SPDX-License-Identifier: GPL-2.0-or-later
"""``tdxhost memory`` against vtdx's log and the kernel's own memory map."""

from __future__ import annotations

import re
from typing import Any

from tests.vm.hosts import Boot, BroughtUp, Host
from tests.vm.witness import Tdmr
from vtdx.vm import platform

MIB = 1 << 20
Ranges = list[tuple[int, int]]


def ranges(entries: list[dict[str, Any]]) -> Ranges:
    """Base and length of each range of a document."""
    return [(int(entry["base_pa"], 16), entry["bytes"]) for entry in entries]


def system_ram(host: Host) -> Ranges:
    """System RAM above 1 MiB, as /proc/iomem has it, touching ranges taken together."""
    found: Ranges = []
    for line in host.run("cat", "/proc/iomem").stdout.splitlines():
        match = re.fullmatch(r"([0-9a-f]+)-([0-9a-f]+) : System RAM", line)
        if match and int(match[2], 16) >= MIB:
            first, last = max(int(match[1], 16), MIB), int(match[2], 16)
            found.append((first, last - first + 1))
    return merged(found)


def merged(parts: Ranges) -> Ranges:
    """Ascending ranges with those that touch taken together."""
    out: Ranges = []
    for base, size in sorted(parts):
        if out and sum(out[-1]) == base:
            out[-1] = (out[-1][0], out[-1][1] + size)
        else:
            out.append((base, size))
    return out


def told_tdmrs(document: dict[str, Any]) -> list[Tdmr]:
    """The TDMRs of the document in the form of vtdx's log."""

    def one(entry: dict[str, Any]) -> Tdmr:
        pamt = {part["page"]: (int(part["base_pa"], 16), part["bytes"]) for part in entry["pamts"]}
        ((base, size),) = ranges([entry])
        reserved = tuple((start - base, length) for start, length in ranges(entry["reserved"]))
        return Tdmr(base, size, pamt["1G"], pamt["2M"], pamt["4K"], reserved)

    return [one(entry) for entry in document["tdmrs"]]


def used(tdmr: Tdmr) -> Tdmr:
    """The TDMR without its unused reserved areas, which have no size."""
    reserved = tuple(area for area in tdmr.reserved if area[1])
    return Tdmr(tdmr.base, tdmr.size, tdmr.pamt_1g, tdmr.pamt_2m, tdmr.pamt_4k, reserved)


def holds(outer: Ranges, part: tuple[int, int]) -> bool:
    """Whether a range lies inside one of others."""
    return any(base <= part[0] and sum(part) <= base + size for base, size in outer)


def check_memory(host: Host) -> None:
    """What ``tdxhost memory`` says, held against the log and /proc/iomem."""
    document = host.json("memory")
    tdmrs = [used(tdmr) for tdmr in host.witness().tdmrs()]

    assert told_tdmrs(document) == tdmrs
    assert merged(ranges(document["system_ram"])) == system_ram(host)
    assert merged(ranges(document["tdx_memory"])) == system_ram(host)
    pamts = [area for tdmr in tdmrs for area in (tdmr.pamt_1g, tdmr.pamt_2m, tdmr.pamt_4k)]
    assert document["pamt_bytes"] == sum(size for _, size in pamts)
    assert all(holds(system_ram(host), area) for area in pamts)
    assert document["outside_cmrs"] == []


def test_memory_agrees_with_the_log_and_with_iomem(brought_up: BroughtUp) -> None:
    check_memory(brought_up.host)


def test_cmrs_are_those_of_the_platform(brought_up: BroughtUp) -> None:
    spr = platform.load("spr-2s")
    document = brought_up.host.json("memory")

    assert ranges(document["cmrs"]) == [(cmr.base, cmr.size) for cmr in spr.cmrs]


def test_pamts_lie_on_the_node_that_they_describe(brought_up: BroughtUp) -> None:
    document = brought_up.host.json("memory")

    for tdmr in document["tdmrs"]:
        assert {pamt["node"] for pamt in tdmr["pamts"]} == {tdmr["node"]}


def test_sums_by_node_add_up_to_the_total(brought_up: BroughtUp) -> None:
    document = brought_up.host.json("memory")

    assert sum(node["pamt_bytes"] for node in document["nodes"]) == document["pamt_bytes"]
    assert document["pamt_bytes"] > 0


def test_memory_with_holes_and_several_cmrs_comes_up(boot: Boot) -> None:
    with boot("gnr-2s") as host:
        gnr = platform.load("gnr-2s")
        assert len(gnr.cmrs) > 2
        assert gnr.reserved
        enabled = host.json("enable")
        assert enabled["module"]["status"] == "initialized"
        check_memory(host)
        for hole in gnr.reserved:
            assert not holds(system_ram(host), (hole.base, hole.size))
        assert host.kernel_complaints() == []
