# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vtdx.vm import platform, qemu
from vtdx.vm.qemu import Parts, Qemu


def command_line(name: str, disk: Path | None = None, **more: Any) -> list[str]:
    """QEMU's command line for a shipped platform; ``more`` as for Parts."""
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
        **more,
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


def test_a_disk_is_not_written_to_unless_it_is_the_machines_own() -> None:
    (drive,) = words_of("-drive", command_line("spr-2s", Path("/a.ext4"), disk_stays=True))

    assert drive.endswith(",snapshot=off")


def test_a_network_is_there_when_asked_for_and_leads_nowhere_but_in() -> None:
    command = command_line("spr-2s", ssh_port=2222)

    (network,) = words_of("-netdev", command)
    assert {"restrict=on", "hostfwd=tcp:127.0.0.1:2222-:22"} <= set(network.split(","))
    assert "vtdx.net=1" in words_of("-append", command)[0].split()
    assert not words_of("-netdev", command_line("spr-2s"))


def test_a_disk_is_never_written_to_and_is_gone_on_from() -> None:
    command = command_line("spr-2s", Path("/a,b.ext4"))

    drive = command[command.index("-drive") + 1].split(",id=")[0]
    assert drive == "file=/a,,b.ext4,format=raw,if=none"
    assert "snapshot=on" in command[command.index("-drive") + 1]
    assert "rdinit=/usr/lib/vtdx/init-disk" in kernel_arguments("spr-2s", Path("/a.ext4"))


def words_of(option: str, command: list[str]) -> list[str]:
    """What an option of a command line is given, each time that it is there."""
    return [command[at + 1] for at, word in enumerate(command) if word == option]


def test_a_machine_is_called_what_its_platform_says() -> None:
    command = command_line("spr-2s")
    bios, system, chassis, processor = words_of("-smbios", command)

    assert bios.startswith("type=0,vendor=Intel Corporation,version=")
    assert system == "type=1,manufacturer=Intel Corporation,product=M50FCP2SBSTD"
    assert chassis == "type=3,manufacturer=Intel Corporation"
    assert processor == "type=4,version=Intel(R) Xeon(R) Platinum 8480+"
    (cpu,) = words_of("-cpu", command)
    assert cpu.startswith("max,vendor=GenuineIntel,family=6,model=143,stepping=8,phys-bits=52,")
    assert cpu.endswith(",model-id=Intel(R) Xeon(R) Platinum 8480+")


@pytest.mark.parametrize(("name", "says"), [("spr-2s", "off"), ("virtual-machine", "on")])
def test_only_a_virtual_machine_says_that_it_is_one(name: str, says: str) -> None:
    (cpu,) = words_of("-cpu", command_line(name))

    assert f",hypervisor={says}," in cpu


def test_a_comma_in_a_name_is_no_option(tmp_path: Path) -> None:
    path = tmp_path / "comma.ini"
    path.write_text("[platform]\nbase = spr-2s\n[system]\nproduct = X, version=1\n")

    assert "type=1,manufacturer=Intel Corporation,product=X,, version=1" in words_of(
        "-smbios", command_line(str(path))
    )


def test_a_node_without_cpus_has_none() -> None:
    """Two nodes for the two sockets' four CPUs, and one more for memory alone."""
    assert words_of("-numa", command_line("cmr-missing-memory")) == [
        "node,nodeid=0,memdev=ram0,cpus=0-1",
        "node,nodeid=1,memdev=ram1,cpus=2-3",
        "node,nodeid=2,memdev=ram2",
    ]


def test_a_machine_without_a_disk_has_no_drive() -> None:
    assert "-drive" not in command_line("spr-2s")
    assert not [word for word in kernel_arguments("spr-2s") if word.startswith("rdinit")]
