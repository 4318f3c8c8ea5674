# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtdx.vm import platform, qemu
from vtdx.vm.qemu import Parts, Qemu


def command_line(name: str, disk: Path | None = None) -> list[str]:
    """QEMU's command line for a shipped platform."""
    nothing = Path("/nonexistent")
    parts = Parts(
        kernel=nothing,
        initramfs=nothing,
        plugin=nothing,
        seam=nothing,
        platform_file=nothing,
        console=nothing,
        log=None,
        control=nothing,
        disk=disk,
    )
    machine = platform.load(name)
    return qemu.command(Qemu(("qemu",)), machine, parts, "quiet", agent_fd=3, monitor_fd=4)


def kernel_arguments(name: str, disk: Path | None = None) -> list[str]:
    """What the kernel of a shipped platform is told."""
    command = command_line(name, disk)
    return command[command.index("-append") + 1].split()


@pytest.mark.parametrize(("name", "stays"), [("cmr-holes", True), ("spr-2s", False)])
def test_a_kernel_does_not_move_where_it_can_t_see_all_holes(name: str, stays: bool) -> None:
    words = kernel_arguments(name)

    assert ("nokaslr" in words) is stays
    assert words[-1] == "quiet"


def test_a_disk_is_never_written_to_and_is_gone_on_from() -> None:
    command = command_line("spr-2s", Path("/a,b.ext4"))

    drive = command[command.index("-drive") + 1].split(",id=")[0]
    assert drive == "file=/a,,b.ext4,format=raw,if=none"
    assert "snapshot=on" in command[command.index("-drive") + 1]
    assert "rdinit=/usr/lib/vtdx/init-disk" in kernel_arguments("spr-2s", Path("/a.ext4"))


def test_a_machine_without_a_disk_has_no_drive() -> None:
    assert "-drive" not in command_line("spr-2s")
    assert not [word for word in kernel_arguments("spr-2s") if word.startswith("rdinit")]
