# SPDX-License-Identifier: GPL-2.0-or-later
"""``tdxhost memory`` against vtdx's log and the kernel's own memory map."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

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


GIB = 1 << 30

HOLES = """
[platform]
summary = firmware made only part of memory convertible
base = spr-1s
[memory]
node0 = 2G
[cmr]
"""
#: CMRs of a platform with 2 GiB, and what of its memory is in none.
BELOW = (
    "0 = 0x100000+511M\n1 = 0x30000000+256M\n2 = 0x50000000+768M\n",
    [(512 * MIB, 256 * MIB), (GIB, 256 * MIB)],
)
ABOVE = ("0 = 0x100000+1279M\n", [(1280 * MIB, 768 * MIB)])


def without(parts: Ranges, holes: Ranges) -> Ranges:
    """Ranges less what lies in holes."""
    for hole in holes:
        end = sum(hole)
        below = [(base, min(base + size, hole[0]) - base) for base, size in parts]
        above = [(max(base, end), base + size - max(base, end)) for base, size in parts]
        parts = [part for part in below + above if part[1] > 0]
    return sorted(parts)


def check_refused(host: Host, holes: Ranges) -> None:
    """RAM outside CMRs stops enable, which names it whole and says how to leave it out."""
    plain = host.run("tdxhost", "enable")
    assert plain.status == 1
    message, *advice = plain.stderr.splitlines()
    assert message.startswith("tdxhost: step memory: ")
    assert "of System RAM outside all convertible memory: " in message
    ram = system_ram(host)
    told = re.findall(r"(0x[0-9a-f]+)-(0x[0-9a-f]+)", message)
    named = [(int(first, 16), int(last, 16) + 1 - int(first, 16)) for first, last in told]
    assert merged(named) == without(ram, without(ram, holes))
    assert advice[-1].endswith("sudo tdxhost enable --retry --skip-non-cmr")
    for base, _ in named:
        assert f"{base:#x}" in host.run("dmesg").stdout
    assert host.witness().of("TDH.SYS.CONFIG") == []


def check_left_out(host: Host, holes: Ranges) -> None:
    """TDX has what is convertible and no byte more, and every command says what it has not."""
    ram, witness = system_ram(host), host.witness()
    memory, state = host.json("memory"), host.json("status")
    outside = without(ram, without(ram, holes))
    assert merged(ranges(memory["outside_cmrs"])) == outside
    assert memory["outside_cmrs"] == state["outside_cmrs"]
    assert memory["outside_cmrs_bytes"] == sum(size for _, size in outside)
    assert merged(ranges(memory["tdx_memory"])) == without(ram, holes)
    for tdmr in witness.tdmrs():
        areas = [(tdmr.base + offset, size) for offset, size in tdmr.reserved]
        usable = without([(tdmr.base, tdmr.size)], areas)
        assert without(usable, holes) == merged(usable)
    for command in ("status", "memory"):
        said = " ".join(host.run("tdxhost", command).stdout.split())
        assert f"stays with the kernel and can't be given to a TD: {outside[0][0]:#x}-" in said


@pytest.mark.parametrize(
    ("cmrs", "holes"),
    [
        pytest.param(*BELOW, id="below"),
        pytest.param(*ABOVE, id="above", marks=pytest.mark.slow),
    ],
)
def test_ram_outside_cmrs_stops_enable_and_can_be_left_out(
    boot: Boot, tmp_path: Path, cmrs: str, holes: Ranges
) -> None:
    partial = tmp_path / "partial.ini"
    partial.write_text(HOLES + cmrs)
    with boot(str(partial)) as host:
        check_refused(host, holes)
        done = host.run("tdxhost", "enable", "--retry", "--skip-non-cmr")
        assert done.status == 0, done.stderr
        assert done.stderr == ""
        assert "can't be given to a TD" in " ".join(done.stdout.split())
        check_left_out(host, holes)
        assert host.kernel_complaints() == []
