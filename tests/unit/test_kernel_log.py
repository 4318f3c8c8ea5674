# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's log says of TDX."""

from pathlib import Path

from tdxhost.bringup import read_memory
from tdxhost.kernel import log_lines, pamt_bytes
from tdxhost.records import Memory
from tests.unit.samples import MEMORY, FakeDriver

# As Linux 7.3 printed it on a host.
SAID = ("virt/tdx: Module version: 1.5.16", "virt/tdx: 16424 KB allocated for PAMT")


def test_the_size_of_pamts_is_what_the_kernel_says() -> None:
    assert pamt_bytes(SAID) == 16424 * 1024
    assert pamt_bytes(SAID[:1]) is None


def test_the_log_is_asked_only_for_what_the_driver_does_not_know() -> None:
    of_kernel = Memory(MEMORY.ranges, None)
    assert read_memory(FakeDriver(memory=of_kernel), lambda: SAID).known_pamt_bytes == 16424 * 1024
    assert read_memory(FakeDriver(memory=of_kernel), lambda: ()).known_pamt_bytes is None
    assert read_memory(FakeDriver(), lambda: SAID) == MEMORY


def test_a_log_that_can_t_be_read_says_nothing(tmp_path: Path) -> None:
    assert list(log_lines(tmp_path / "none")) == []


def test_a_record_is_given_without_prefix_and_dictionary(tmp_path: Path) -> None:
    record = tmp_path / "kmsg"
    record.write_text("6,339,5140900,-;virt/tdx: hello\n SUBSYSTEM=x\n")
    assert list(log_lines(record)) == ["virt/tdx: hello"]
