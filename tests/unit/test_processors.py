# SPDX-License-Identifier: GPL-2.0-or-later
"""Processors that firmware enabled and Linux did not bring up: which, and what to do.

Tables are laid out as in ACPI 6.5, 5.2.12; one is QEMU's own, of a machine with 8 CPUs.
"""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.findings import Judge
from tdxhost.host import LiveHost
from tdxhost.processors import Processors, enabled_apic_ids, missing, read_processors
from tdxhost.records import Code, CpuResult, CpuState, ModuleStatus, Step
from tdxhost.state import State
from tests.unit.samples import ENABLED, INFO, MEMORY, STATUS, cpu, step, untried_cpu

QEMU_MADT = bytes.fromhex(
    "41504943b000000003d9424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000"
    "0100000000080101010000000008020201000000000803030100000000080404010000000008050501000000000806"
    "06010000000008070701000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a"
    "0009090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"
)
HEADER = b"APIC" + bytes(40)
CONFIG_NOT_PENDING = 0xC000050C00000000
SAYS = "step config: TDH.SYS.CONFIG: TDX_SYS_CONFIG_NOT_PENDING (0xc000050c00000000): "
WAITS = "; the TDX module waits for every processor that firmware enabled"


def apic(number: int, flags: int = 1) -> bytes:
    """A Processor Local APIC entry."""
    return struct.pack("<BBBBI", 0, 8, number, number, flags)


def x2apic(number: int, flags: int = 1) -> bytes:
    """A Processor Local x2APIC entry."""
    return struct.pack("<BBHIII", 9, 16, 0, number, flags, number)


def offline_cpu(number: int) -> CpuResult:
    """A CPU that was never online."""
    return replace(untried_cpu(number), state=CpuState.OFFLINE, package=None)


def test_a_real_table_is_read() -> None:
    assert set(enabled_apic_ids(QEMU_MADT)) == set(range(8))


def test_both_kinds_of_entry_count_and_disabled_ones_do_not() -> None:
    # 2: online capable, which is no processor yet.
    table = HEADER + apic(0) + apic(1, flags=0) + apic(2, flags=2) + x2apic(300) + x2apic(301, 0)
    assert list(enabled_apic_ids(table)) == [0, 300]


@given(st.binary(max_size=80), st.booleans())
def test_a_damaged_table_is_read_to_where_it_makes_sense(rest: bytes, whole: bool) -> None:
    table = HEADER + apic(7) + rest if whole else rest
    found = list(enabled_apic_ids(table))
    assert found[:1] == [7] if whole else isinstance(found, list)


def test_a_host_tells_what_limits_it(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/smt/control": b"off\n",
        "proc/cmdline": b"quiet nr_cpus=2 maxcpus=4 nosmt possible_cpus=2\n",
        "sys/firmware/acpi/tables/APIC": HEADER + apic(3),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    assert read_processors(LiveHost(tmp_path)) == Processors(
        frozenset({3}), "off", ("nr_cpus=2", "possible_cpus=2")
    )


def test_a_host_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    assert read_processors(LiveHost(tmp_path)) == Processors()


def test_a_cpu_that_was_enabled_and_went_is_not_missing() -> None:
    went = replace(cpu(2), state=CpuState.OFFLINE)
    found = missing((cpu(0), cpu(1), went, offline_cpu(3)), Processors())
    assert (found.cpus, found.offline, found.apic_ids) == ((3,), (3,), None)


#: CPUs of samples.cpu() have APIC ids 0, 2, 4, 6.
ALL = frozenset({0, 2, 4, 6})
ONLINE = tuple(cpu(number) for number in range(4))
HALF = (*ONLINE[:2], offline_cpu(2), offline_cpu(3))
ONE = (*ONLINE[:3], offline_cpu(3))


def stopped(cpus: tuple[CpuResult, ...], processors: Processors) -> State:
    """TDH.SYS.CONFIG was refused for want of CPUs."""
    told = {"error": 5, "code": Code.SEAMCALL, "leaf": 0x2D, "seam_status": CONFIG_NOT_PENDING}
    answer = replace(
        ENABLED,
        module_status=ModuleStatus.ERROR,
        step=Step.CONFIG,
        cpu=1,
        **told,  # type: ignore[arg-type]
    )
    failed = step(Step.CONFIG, cpu=1, **told)
    return State(INFO, STATUS, cpus, (failed,), MEMORY, answer, processors)


@pytest.mark.parametrize(
    ("cpus", "processors", "why", "advice"),
    [
        (
            HALF,
            Processors(ALL, "on"),
            f"CPUs 2-3 are offline and were never enabled{WAITS}",
            "Bring them online: sudo chcpu --enable 2-3",
        ),
        (
            ONE,
            Processors(None, "notsupported"),
            f"CPU 3 is offline and was never enabled{WAITS}",
            "Bring it online: sudo chcpu --enable 3",
        ),
        (
            HALF,
            Processors(ALL, "off"),
            f"CPUs 2-3 are offline and were never enabled{WAITS}",
            "Turn hyperthreads on: echo on | sudo tee /sys/devices/system/cpu/smt/control",
        ),
        (
            HALF,
            Processors(ALL, "forceoff"),
            f"CPUs 2-3 are offline and were never enabled{WAITS}",
            "Boot without nosmt=force: until then, hyperthreads can't be turned on.",
        ),
        (
            (*ONE[:3], untried_cpu(3)),
            Processors(ALL, "on"),
            f"not enabled: CPU 3{WAITS}",
            "",
        ),
        (
            ONLINE,
            Processors(ALL | {8, 9}, "on", ("nr_cpus=4",)),
            f"Linux has no CPU for APIC ids 8-9{WAITS}",
            "Boot without nr_cpus=4",
        ),
        (
            ONE,
            Processors(ALL | {8}, "on"),
            f"CPU 3 is offline and was never enabled, and Linux has no CPU for APIC id 8{WAITS}",
            "Bring it online: sudo chcpu --enable 3; Boot with every processor; why some were "
            "passed over: sudo dmesg | grep -i apic",
        ),
        (
            ONLINE,
            Processors(ALL, "on"),
            "every processor in ACPI's list (MADT) is enabled: firmware enabled more than it "
            "lists, or the TDX module was configured meanwhile",
            "Reboot; if it is so again, update the BIOS.",
        ),
    ],
)
def test_the_first_line_says_who_is_missing(
    cpus: tuple[CpuResult, ...], processors: Processors, why: str, advice: str
) -> None:
    (found,) = Judge().state(stopped(cpus, processors)).findings
    assert (found.message, found.hint) == (SAYS + why, advice)
    assert found.left == (
        "Once the cause is gone, go on at step config: sudo tdxhost enable --retry",
    )


def test_where_nobody_knows_the_reference_has_the_word() -> None:
    (found,) = Judge().state(stopped(ONLINE, Processors())).findings
    assert found.message.startswith("step config, CPU 1: TDH.SYS.CONFIG: TDX_SYS_CONFIG_NOT_PEND")
    assert "nosmt" in found.hint


def test_an_initialised_module_waits_for_nobody() -> None:
    state = State(INFO, STATUS, HALF, (), MEMORY, ENABLED, Processors(ALL | {8}))
    assert (state.missing.cpus, state.missing.apic_ids) == ((), ())
