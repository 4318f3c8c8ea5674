# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that one TDMR a node does not fit: split, or refused with the limit that is in the way."""

from __future__ import annotations

from typing import Any

from tests.vm.hosts import Boot, Host
from tests.vm.test_memory import check_memory, told_tdmrs

GIB = 1 << 30

# Reserved areas that a TDMR can have; sys-fields.yaml, MAX_RESERVED_PER_TDMR.
MAX_RESERVED = 16

FAILED = 1


def step(document: dict[str, Any], name: str) -> dict[str, Any]:
    """What one step came to."""
    found: dict[str, Any]
    (found,) = [entry for entry in document["steps"] if entry["name"] == name]
    return found


def spans(host: Host) -> list[tuple[int, int]]:
    """First and end GiB of the TDMRs that TDH.SYS.CONFIG took."""
    tdmrs = host.witness().tdmrs()
    return [(tdmr.base // GIB, (tdmr.base + tdmr.size) // GIB) for tdmr in tdmrs]


def pamt_bytes_of(gibs: int) -> int:
    """PAMTs of a TDMR: 16 bytes for each page of each size, in whole pages (field-cases)."""
    entries = (gibs << 18, gibs << 9, gibs)
    return sum(-(-16 * count // 4096) * 4096 for count in entries)


def test_a_host_with_many_nodes_has_a_tdmr_for_each(boot: Boot) -> None:
    with boot("emr-8n") as host:
        host.json("enable")
        check_memory(host)
        document = host.json("memory")
        found = spans(host)
        complaints = host.kernel_complaints()

    assert found == [(0, 1), (1, 2), *((gib, gib + 1) for gib in range(4, 10))]
    assert [tdmr["node"] for tdmr in document["tdmrs"]] == list(range(8))
    for tdmr in document["tdmrs"]:
        assert {pamt["node"] for pamt in tdmr["pamts"]} == {tdmr["node"]}
    assert complaints == []


def test_tdmrs_with_too_many_holes_are_split(boot: Boot) -> None:
    """[0, 2G) by its CMRs alone, [4G, 6G) when PAMTs come on top of them."""
    with boot("cmr-holes") as host:
        enabled = host.json("enable")
        check_memory(host)
        document = host.json("memory")
        found = spans(host)
        witness = host.witness()
        complaints = host.kernel_complaints()

    assert enabled["module"]["status"] == "initialized"
    assert found == [(0, 1), (1, 2), (4, 5), (5, 6)]
    assert witness.of("TDH.SYS.CONFIG") == witness.succeeded("TDH.SYS.CONFIG")
    for tdmr in told_tdmrs(document):
        assert len(tdmr.reserved) <= MAX_RESERVED
    # No page more than the four TDMRs need is kept from the kernel.
    assert enabled["pamt_bytes"] == 4 * pamt_bytes_of(1)
    assert complaints == []


def test_pamts_stay_out_of_a_gib_that_has_no_reserved_area_left(boot: Boot) -> None:
    with boot("cmr-full") as host:
        enabled = host.json("enable")
        check_memory(host)
        document = host.json("memory")
        complaints = host.kernel_complaints()

    assert enabled["module"]["status"] == "initialized"
    *low, full = told_tdmrs(document)
    assert (full.base, len(full.reserved)) == (4 * GIB, MAX_RESERVED)
    for tdmr in (*low, full):
        assert all(base < 2 * GIB for base, _ in (tdmr.pamt_1g, tdmr.pamt_2m, tdmr.pamt_4k))
    assert complaints == []


def test_a_gib_with_more_holes_than_reserved_areas_is_named(boot: Boot) -> None:
    with boot("cmr-crowded") as host:
        document = host.json("enable", status=FAILED)
        again = host.json("enable", "--retry", status=FAILED)
        log = host.run("dmesg").stdout
        witness = host.witness()
        complaints = host.kernel_complaints()

    for answer in (document, again):
        layout = step(answer, "tdmr_layout")
        assert layout["code"] == "too_many_reserved"
        assert (layout["base_pa"], layout["bytes"]) == ("0x0000000100000000", GIB)
        assert (layout["needed"], layout["limit"]) == (17, MAX_RESERVED)
        assert answer["pamt_bytes"] == 0
    assert "[0x100000000, 0x140000000) takes 17 reserved areas, and a TDMR has 16" in log
    assert witness.of("TDH.SYS.CONFIG") == []
    assert complaints == []
