# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtdx.vm import platform, qemu
from vtdx.vm.qemu import Parts, Qemu


def kernel_arguments(name: str) -> list[str]:
    """What the kernel of a shipped platform is told."""
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
    )
    machine = platform.load(name)
    command = qemu.command(Qemu(("qemu",)), machine, parts, "quiet", agent_fd=3, monitor_fd=4)
    return command[command.index("-append") + 1].split()


@pytest.mark.parametrize(("name", "stays"), [("cmr-holes", True), ("spr-2s", False)])
def test_a_kernel_does_not_move_where_it_can_t_see_all_holes(name: str, stays: bool) -> None:
    words = kernel_arguments(name)

    assert ("nokaslr" in words) is stays
    assert words[-1] == "quiet"
