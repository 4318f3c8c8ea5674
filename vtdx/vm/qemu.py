# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU: which one to run, and its command line for a platform."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm import roots
from vtdx.vm.platform import Platform

# The plugin API that vtdx is written for came with this release.
_LEAST_VERSION = (11, 1)

# With more, a kernel that moves itself may come to lie over one of them, and makes System
# RAM of it again (Linux 6.12 arch/x86/boot/compressed/kaslr.c, MAX_MEMMAP_REGIONS).
_MEMMAPS_THAT_KASLR_SEES = 4

# Modules that memory is plugged in as, at most.
_SLOTS = 8


@dataclass(frozen=True)
class Qemu:
    """How to start QEMU: the first words of its command line."""

    command: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """The files that a machine starts from.

    ``plugin`` is None for QEMU alone.
    ``ssh_port`` is a port of the loopback, 0 for a free one, that leads to the guest's port 22.
    ``memory`` are files that keep the machine's memory, one for each node.
    ``plug_bytes`` is room for more to be plugged in.
    ``resumed`` is a machine that goes on with what is there, and changes none of it.
    """

    kernel: Path
    initramfs: Path
    plugin: Path | None
    seam: Path
    platform_file: Path
    console: Path
    control: Path
    log: Path | None
    disk: Path | None = None
    disk_stays: bool = False
    ssh_port: int | None = None
    plug_bytes: int = 0
    memory: tuple[Path, ...] = ()
    resumed: bool = False


def find() -> Qemu:
    """The installed QEMU where it is new enough, otherwise one from a Debian root."""
    installed = shutil.which("qemu-system-x86_64")
    if installed and _version(installed) >= _LEAST_VERSION:
        return Qemu((installed,))
    root = roots.QEMU.path()
    share = root / "usr/share"
    return Qemu(
        (
            *roots.program(root, "qemu-system-x86_64"),
            "-L",
            str(share / "qemu"),
            "-L",
            str(share / "seabios"),
        )
    )


def _version(program: str) -> tuple[int, int]:
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)", text.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def command(
    qemu: Qemu, platform: Platform, parts: Parts, append: str, *, agent_fd: int, monitor_fd: int
) -> list[str]:
    """The whole command line; the agent's port and the monitor are sockets."""
    return [
        *qemu.command,
        *("-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"),
        *("-machine", "q35", "-accel", "tcg,thread=multi"),
        *_processor(platform),
        *_smbios(platform),
        *_memory(platform, parts),
        *_disk(parts),
        *_network(parts),
        *("-serial", f"file:{parts.console}"),
        *("-chardev", f"socket,id=agent,fd={agent_fd}", "-serial", "chardev:agent"),
        *("-chardev", f"socket,id=monitor,fd={monitor_fd}"),
        *("-object", "monitor-qmp,id=qmp,chardev=monitor"),
        *_plugin(parts),
        *("-kernel", str(parts.kernel), "-initrd", str(parts.initramfs)),
        *("-append", _kernel_arguments(platform, parts, append)),
        *(("-S", "-incoming", "defer") if parts.resumed else ()),
    ]


def _value(path: Path | str) -> str:
    """A path or text as the value of a QEMU option, where a comma stands for itself if doubled."""
    return str(path).replace(",", ",,")


def _plugin(parts: Parts) -> list[str]:
    if parts.plugin is None:
        return []
    options = [_value(parts.plugin), f"platform={_value(parts.platform_file)}"]
    options.append(f"seam={_value(parts.seam)}")
    options.append(f"control={_value(parts.control)}")
    if parts.log is not None:
        options.append(f"log={_value(parts.log)}")
    return ["-plugin", ",".join(options)]


def _processor(platform: Platform) -> list[str]:
    hypervisor = "on" if platform.hypervisor else "off"
    model = (
        f"max,vendor={platform.vendor},family={platform.family},model={platform.model},"
        f"stepping={platform.stepping},phys-bits={platform.phys_bits},host-phys-bits=off,"
        # Linux 7.3 takes a CPU with both SVM and VMX for broken (arch/x86/virt/hw.c).
        f"hypervisor={hypervisor},svm=off"
    )
    if platform.brand:
        model += f",model-id={platform.brand}"
    smp = (
        f"{platform.cpus},sockets={platform.sockets},cores={platform.cores},"
        f"threads={platform.threads}"
    )
    return ["-cpu", model, "-smp", smp]


def _smbios(platform: Platform) -> list[str]:
    """What dmidecode and /sys/class/dmi/id show: firmware, system, chassis and processors."""
    system = platform.system
    tables = (
        {
            "type": "0",
            "vendor": system.vendor,
            "version": system.bios_version,
            "date": system.bios_date,
        },
        {"type": "1", "manufacturer": system.vendor, "product": system.product},
        {"type": "3", "manufacturer": system.vendor},
        {"type": "4", "version": platform.brand},
    )
    words: list[str] = []
    for table in tables:
        fields = [f"{name}={_value(text)}" for name, text in table.items() if text]
        if len(fields) > 1:
            words += ["-smbios", ",".join(fields)]
    return words


def _memory(platform: Platform, parts: Parts) -> list[str]:
    memory = f"{platform.memory_bytes >> 20}M"
    if parts.plug_bytes:
        memory += f",slots={_SLOTS},maxmem={platform.memory_bytes + parts.plug_bytes}"
    words = ["-m", memory]
    shared_by = len(platform.nodes) - platform.cpuless
    each = platform.cpus // shared_by
    for number, size in enumerate(platform.nodes):
        first = number * each
        last = platform.cpus - 1 if number + 1 == shared_by else first + each - 1
        words += ["-object", f"{_backend(parts, number)},id=ram{number},size={size}"]
        node = f"node,nodeid={number},memdev=ram{number}"
        words += ["-numa", f"{node},cpus={first}-{last}" if each and number < shared_by else node]
    return words


def _backend(parts: Parts, number: int) -> str:
    if not parts.memory:
        # Not in huge pages, which the host's kernel has to find and to clear as a whole.
        return "memory-backend-memfd"
    file = _value(parts.memory[number])
    return f"memory-backend-file,mem-path={file},share={'off' if parts.resumed else 'on'}"


def _disk(parts: Parts) -> list[str]:
    if parts.disk is None:
        return []
    lost = "off" if parts.disk_stays else "on"
    drive = f"file={_value(parts.disk)},format=raw,if=none,id=disk,snapshot={lost}"
    return ["-drive", drive, "-device", "virtio-blk-pci,drive=disk"]


def _network(parts: Parts) -> list[str]:
    if parts.ssh_port is None:
        return []
    forward = f"hostfwd=tcp:127.0.0.1:{parts.ssh_port}-:22"
    return [
        *("-netdev", f"user,id=net,ipv6=off,restrict=on,{forward}"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
    ]


def _kernel_arguments(platform: Platform, parts: Parts, append: str) -> str:
    reserved = [f"memmap={part.size}${part.base}" for part in platform.reserved]
    kaslr = ["nokaslr"] if len(reserved) > _MEMMAPS_THAT_KASLR_SEES else []
    init = ["rdinit=/usr/lib/vtdx/init-disk"] if parts.disk else []
    network = ["vtdx.net=1"] if parts.ssh_port is not None else []
    # Whether the timer ticks is tried for some milliseconds, which a busy machine may not give.
    words = ["console=ttyS0,115200", "panic=-1", "no_timer_check"]
    words += [*reserved, *kaslr, *init, *network, append]
    return " ".join(words).strip()
