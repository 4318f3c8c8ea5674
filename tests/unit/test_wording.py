# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of memory: which, how much, of how much."""

from dataclasses import replace

import pytest

from tdxhost.findings import Judge
from tdxhost.records import Code, Memory, ModuleStatus, Range, RangeKind, Status, Step
from tdxhost.state import Outcome
from tdxhost.wording import NAMED_RANGES, named, outside_memory, pamt_after_failure, progress
from tests.unit.samples import GIB, MEMORY, MIB, STATUS

JUDGE = Judge()


def _outside(base: int, length: int) -> Range:
    return Range(base_pa=base, bytes=length, kind=RangeKind.OUTSIDE, node=0, tdmr=None)


def _message(code: Code, memory: Memory, **told: int) -> str:
    outcome = replace(Outcome(code=code, error=28), **told)  # type: ignore[arg-type]
    return JUDGE.explain(outcome, memory=memory).message


#: Limits are those of TDX module 1.5: 64 TDMRs, 16 reserved areas in each.
TDMR = {"base_pa": 4 * GIB, "bytes": 2 * GIB}


@pytest.mark.parametrize(
    ("code", "told", "message"),
    [
        (
            Code.TOO_MANY_RESERVED,
            TDMR | {"needed": 20, "limit": 16},
            "memory at 0x100000000-0x17fffffff (2.0 GiB) needs 20 reserved areas, "
            "and a TDMR has 16",
        ),
        (
            Code.TOO_MANY_RESERVED,
            {"needed": 17, "limit": 0},
            "a TDMR needs 17 reserved areas",
        ),
        (
            Code.TOO_MANY_TDMRS,
            {"needed": 70, "limit": 64},
            "memory needs 70 TDMRs at least, and the TDX module has 64",
        ),
        (
            Code.TOO_MANY_TDMRS,
            TDMR | {"needed": 65, "limit": 64},
            "the TDMR 0x100000000-0x17fffffff (2.0 GiB) has too many holes for one, "
            "and all 64 TDMRs are in use",
        ),
        (
            Code.NO_MEMORY,
            TDMR | {"needed": 8 * MIB},
            "no room for 8.0 MiB of page metadata (PAMT) in one piece, "
            "for the TDMR 0x100000000-0x17fffffff (2.0 GiB) on node 1",
        ),
        (
            Code.NO_MEMORY,
            {"base_pa": 0, "bytes": 8 * GIB, "needed": 33 * MIB, "limit": MIB},
            "no room for 33.0 MiB of page metadata (PAMT) in one piece (at most 1.0 MiB), "
            "for the TDMR 0x0-0x1ffffffff (8.0 GiB) on nodes 0 and 1",
        ),
        (
            Code.RAM_OUTSIDE_CMR,
            {"base_pa": 8 * GIB, "bytes": GIB},
            "there is System RAM outside all convertible memory, "
            "the first at 0x200000000-0x23fffffff",
        ),
    ],
)
def test_a_shortage_says_what_was_needed_where(
    code: Code, told: dict[str, int], message: str
) -> None:
    assert _message(code, MEMORY, **told) == message


@pytest.mark.parametrize(
    "code", [Code.TOO_MANY_RESERVED, Code.TOO_MANY_TDMRS, Code.NO_MEMORY, Code.RAM_OUTSIDE_CMR]
)
def test_a_shortage_that_the_driver_did_not_measure_is_told_in_general(code: Code) -> None:
    message = _message(code, MEMORY)
    assert message
    assert not any(character.isdigit() for character in message)


def test_every_range_outside_cmrs_is_named() -> None:
    ranges = (_outside(8 * GIB, GIB), _outside(16 * GIB, 512 * MIB))
    memory = replace(MEMORY, ranges=(*MEMORY.ranges, *ranges))
    assert _message(Code.RAM_OUTSIDE_CMR, memory, base_pa=8 * GIB, bytes=GIB) == (
        "1.5 GiB of System RAM outside all convertible memory: "
        "0x200000000-0x23fffffff (1.0 GiB), 0x400000000-0x41fffffff (512.0 MiB)"
    )
    assert outside_memory(memory) == (
        "1.5 GiB of System RAM outside all convertible memory stays with the kernel and can't be "
        "given to a TD: 0x200000000-0x23fffffff (1.0 GiB), 0x400000000-0x41fffffff (512.0 MiB)"
    )


def test_more_ranges_than_a_message_holds_are_counted() -> None:
    ranges = [_outside(n * GIB, MIB) for n in range(NAMED_RANGES + 3)]
    told = named(ranges)
    assert told.count("-0x") == NAMED_RANGES
    assert told.endswith("and 3 more (tdxhost memory lists all)")
    assert "more" not in named(ranges[:NAMED_RANGES])


def test_a_machine_whose_ram_is_all_convertible_has_nothing_to_say() -> None:
    assert outside_memory(MEMORY) == ""


HELD = "PAMT: 16.0 MiB, which belong to the TDX module since TDH.SYS.CONFIG, and stay with it"
GIVEN_BACK = "PAMT: 0 B; what was allocated was given back"


@pytest.mark.parametrize(
    ("module", "at", "held", "said"),
    [
        (ModuleStatus.ERROR, Step.TDMR_INIT, 16 * MIB, HELD),
        (ModuleStatus.ERROR, Step.KEY_CONFIG, 16 * MIB, HELD),
        (ModuleStatus.UNKNOWN, Step.CACHE_FLUSH, 16 * MIB, HELD),
        (ModuleStatus.ERROR, Step.CONFIG, 0, GIVEN_BACK),
        (ModuleStatus.ERROR, Step.PAMT_ALLOC, 0, GIVEN_BACK),
        (ModuleStatus.ERROR, Step.MEMORY, 0, ""),
        (ModuleStatus.UNKNOWN, Step.NONE, 0, ""),
        (ModuleStatus.INITIALIZED, Step.TDMR_INIT, 16 * MIB, ""),
    ],
)
def test_whose_the_pamts_are_is_said_after_a_failure(
    module: ModuleStatus, at: Step, held: int, said: str
) -> None:
    status = replace(STATUS, module_status=module, step=at, pamt_bytes=held)
    assert pamt_after_failure(status) == said
    assert pamt_after_failure(replace(status, running=1)) == ""


@pytest.mark.parametrize(
    ("at", "done", "total", "said"),
    [
        (Step.PLATFORM, 1, 4, "1 of 4 CPUs"),
        (Step.CPUS, 0, 0, "4 of 4 CPUs"),
        (Step.PAMT_ALLOC, 1, 2, "1 of 2 TDMRs"),
        (Step.KEY_CONFIG, 1, 2, "1 of 2 packages"),
        (Step.TDMR_INIT, 3, 8, "3 of 8 GiB"),
        (Step.TDMR_INIT, 0, 0, ""),
        (Step.CONFIG, 0, 0, ""),
    ],
)
def test_progress_is_told_in_the_units_of_the_step(
    at: Step, done: int, total: int, said: str
) -> None:
    status: Status = replace(STATUS, step=at, progress=done, progress_total=total)
    assert progress(status) == said
