# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the kernel that look at more than one thing of a host."""

from dataclasses import replace

import pytest

from tdxhost.doctor.engine import Outcome, Result
from tdxhost.doctor.kernel import LOOKS
from tdxhost.recording import recorded_host
from tests.unit.doctor.host import HEALTHY, cpuinfo

MIB, GIB = 1 << 20, 1 << 30


def _ram(*parts: tuple[int, int]) -> str:
    """/proc/iomem of RAM by first address and size."""
    return "".join(f"{first:08x}-{first + size - 1:08x} : System RAM\n" for first, size in parts)


def _islands(first: int, number: int) -> list[tuple[int, int]]:
    """RAM with a hole behind each MiB."""
    return [(first + n * 16 * MIB, MIB) for n in range(number)]


#: RAM, and holes in the TDMR that has most, by section 6 of linux-behaviour.md of the reference.
HOLES = {
    "before, between and behind": (_ram(*_islands(16 * MIB, 16)), 17),
    "one less": (_ram(*_islands(16 * MIB, 15)), 16),
    "RAM that touches": (_ram(*((n * MIB, MIB) for n in range(16, 64))), 2),
    "the first MiB is none": (_ram((0x1000, 0x9F000), *_islands(MIB, 16)), 17),
    "in two TDMRs": (_ram(*_islands(16 * MIB, 10), *_islands(GIB + 16 * MIB, 10)), 11),
    "RAM over a GiB makes one TDMR": (_ram((MIB, GIB), *_islands(GIB + 16 * MIB, 16)), 18),
    "what begins in the TDMR before": (_ram((MIB, MIB), (512 * MIB, GIB)), 2),
    "above 4 GiB": (_ram((MIB, 2 * GIB - MIB), *_islands(4 * GIB + 16 * MIB, 16)), 17),
}


def _areas_on_linux_6_8(ram: str) -> Result:
    files = {
        "/proc/sys/kernel/osrelease": "6.8.0-1004-intel",
        "/boot/config-6.8.0-1004-intel": "CONFIG_INTEL_TDX_HOST=y\n",
        "/proc/iomem": ram,
    }
    return HEALTHY.but(files=files).check("kernel.reserved-areas")


@pytest.mark.parametrize("name", HOLES)
def test_linux_6_8_has_room_for_16_holes_in_a_tdmr(name: str) -> None:
    ram, holes = HOLES[name]
    result = _areas_on_linux_6_8(ram)
    assert result.found.read.startswith(f"{holes} holes in ")
    assert result.outcome is (Outcome.FAIL if holes > 16 else Outcome.PASS)


def test_the_tdmr_that_has_no_room_is_named_as_the_kernel_names_it() -> None:
    """TDMR [0x0, 0x80000000) of https://github.com/canonical/tdx/issues/135."""
    result = _areas_on_linux_6_8(_ram((MIB, GIB), *_islands(GIB + 16 * MIB, 16)))
    assert "0x0-0x7fffffff" in result.found.read


#: Models by linux-behaviour.md of the reference: those with X86_BUG_TDX_PW_MCE, and others.
PARTIAL_WRITE = {0x8F: True, 0xCF: True, 0xAD: False, 0xAF: False, 0xDD: False}


@pytest.mark.parametrize("model", PARTIAL_WRITE)
def test_kexec_is_minded_where_partial_writes_do_harm(model: int) -> None:
    files = {"/proc/cpuinfo": cpuinfo(model=model), "/sys/kernel/kexec_loaded": "1"}
    result = HEALTHY.but(files=files).check("kernel.kexec")
    harm = PARTIAL_WRITE[model]
    assert result.outcome is (Outcome.WARN if harm else Outcome.NOT_APPLICABLE)


def test_what_is_not_known_of_kexec_is_no_warning() -> None:
    never_asked = {path: text for path, text in HEALTHY.files.items() if "kexec" not in path}
    old = replace(HEALTHY, files=never_asked)
    assert old.check("kernel.kexec").outcome is Outcome.NOT_CHECKED
    recording = old.recording()
    absent = {"what": "/sys/kernel/kexec_loaded", "why": "absent", "reason": "is not there"}
    recording.answers["data /sys/kernel/kexec_loaded"] = {"not_read": absent}
    facts = replace(HEALTHY.facts(), host=recorded_host(recording))
    assert LOOKS["kernel.kexec"](facts).outcome is Outcome.PASS
