# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's log says of TDX."""

from pathlib import Path

import pytest

from tdxhost.errors import NotRead, Why
from tdxhost.host import LiveHost
from tdxhost.kernel import complete, pamt_bytes
from tdxhost.recording import NothingKnown, Recording, recorded_host
from tdxhost.records import Memory
from tests.unit.samples import MEMORY

# As Linux 7.3 printed it on a host.
SAID = ("virt/tdx: Module version: 1.5.16", "virt/tdx: 16424 KB allocated for PAMT")


def test_the_size_of_pamts_is_what_the_kernel_says() -> None:
    assert pamt_bytes(SAID) == 16424 * 1024
    assert pamt_bytes(SAID[:1]) is None


def test_the_log_is_asked_only_for_what_the_driver_does_not_know() -> None:
    of_kernel = Memory(MEMORY.ranges, None)
    said = recorded_host(Recording(answers={"log": {"lines": list(SAID)}}))
    assert complete(of_kernel, said).known_pamt_bytes == 16424 * 1024
    assert complete(of_kernel, NothingKnown()).known_pamt_bytes is None
    assert complete(MEMORY, said) == MEMORY


def _log(root: Path, text: str) -> tuple[str, ...]:
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_text(text)
    return LiveHost(root).log()


def test_a_log_that_can_t_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotRead) as caught:
        LiveHost(tmp_path).log()
    assert caught.value.why is Why.ABSENT


def test_a_record_is_given_as_dmesg_prints_it(tmp_path: Path) -> None:
    told = _log(tmp_path, "6,339,5140900,-;virt/tdx: hello\n SUBSYSTEM=x\n")
    assert told == ("[    5.140900] virt/tdx: hello",)


def test_of_the_log_only_what_bears_on_tdx_is_taken_and_nothing_private(tmp_path: Path) -> None:
    line = "Command line: BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro nohibernate kvm_intel.tdx=1"
    told = _log(tmp_path, f"5,0,0,-;{line}\n")
    assert told == ("[    0.000000] Command line: nohibernate kvm_intel.tdx=1",)
