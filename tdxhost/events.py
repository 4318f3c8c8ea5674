# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes on this host that TDX depends on, from the kernel's events, by pyudev.

The driver's events carry TDXHOST_STATUS, TDXHOST_STEP and TDXHOST_CPUS_ENABLED (kmod/status.c).
"""

import errno
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tdxhost.errors import NotRead, TdxHostError
from tdxhost.host import Host
from tdxhost.kernel import public_state
from tdxhost.records import Step
from tdxhost.topology import parse_cpu_list

DRIVER = "tdxhost"
#: Modules that come and go with TDX.
MODULES = (DRIVER, "kvm_intel")
SUBSYSTEMS = ("misc", "module", "cpu", "memory")

#: The driver's word for a version that it has not read (kmod/status.c).
NOT_KNOWN = "unknown"

#: There while udevd runs; libudev itself looks for it.
UDEVD = "/run/udev/control"

#: Room for the events of some thousand blocks of memory; it takes CAP_NET_ADMIN.
RECEIVE_BYTES = 16 << 20

MEMORY = "/sys/devices/system/memory"

NUMBERED = re.compile(r"[a-z]+(\d+)")


class Subject(StrEnum):
    """What a change is about."""

    #: Where things stand when the watch begins.
    START = "start"
    DRIVER = "driver"
    MODULE = "module"
    CPU = "cpu"
    MEMORY = "memory"
    #: Events came faster than they could be read.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Change:
    """One change; state is what is known of its subject, and when is in UTC.

    action is the kernel's: add, remove, change, online, offline.
    """

    when: datetime
    subject: Subject
    action: str
    name: str = ""
    state: dict[str, Any] = field(default_factory=dict)


class MonitorMissing(TdxHostError):
    """There is no pyudev, or no libudev below it."""


class Monitor:
    """Receives the kernel's events; source is udev (after its rules) or kernel."""

    def __init__(self, host: Host) -> None:
        """Begins to receive; MonitorMissing where that takes more than there is."""
        try:
            import pyudev

            context = pyudev.Context()
        except ImportError as error:
            raise MonitorMissing(
                f"changes can't be followed: {error}",
                "Install it with 'sudo apt-get install python3-pyudev libudev1', or 'pip install "
                "pyudev' in the environment of tdxhost.",
            ) from error
        self._host = host
        self.source = "udev" if host.has(UDEVD) else "kernel"
        self._monitor = pyudev.Monitor.from_netlink(context, source=self.source)
        for name in SUBSYSTEMS:
            self._monitor.filter_by(name)
        with suppress(OSError):
            self._monitor.set_receive_buffer_size(RECEIVE_BYTES)
        self._monitor.start()

    def fileno(self) -> int:
        """For poll() and select()."""
        return int(self._monitor.fileno())

    def start(self) -> Change:
        """Where things stand now; what changes from now on is received."""
        return Change(_now(), Subject.START, "start", state=standing(self.source, self._host))

    def changes(self) -> Iterator[Change]:
        """The changes that came since it was last asked; waits for none."""
        while True:
            try:
                device = self._monitor.poll(0)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield Change(_now(), Subject.LOST, "lost")
                continue
            if device is None:
                return
            change = change_of(device, self._host)
            if change is not None:
                yield change


def _now() -> datetime:
    return datetime.now(UTC)


def change_of(device: Any, host: Host) -> Change | None:
    """Reads an event of pyudev's; None for one that has nothing to do with TDX."""
    name, action = device.sys_name, device.action or ""
    match device.subsystem:
        case "misc" if name == DRIVER:
            return Change(_now(), Subject.DRIVER, action, name, _driver(device, host))
        case "module" if name in MODULES:
            return Change(_now(), Subject.MODULE, action, name)
        case "cpu" if NUMBERED.fullmatch(name):
            return Change(_now(), Subject.CPU, action, name, {"cpu": _number(name)})
        case "memory" if NUMBERED.fullmatch(name):
            return Change(_now(), Subject.MEMORY, action, name, _block(_number(name), host))
        case _:
            return None


def _number(name: str) -> int:
    return int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))


def attributes(host: Host) -> dict[str, Any]:
    """What everyone may see of the driver; None for a version that nobody has asked for yet."""
    state: dict[str, Any] = dict(public_state(host))
    if state.get("module_version") == NOT_KNOWN:
        state["module_version"] = None
    return state


def _driver(device: Any, host: Host) -> dict[str, Any]:
    """What the event itself says, which may have changed since, before what sysfs says now."""
    state = attributes(host) if device.action != "remove" else {}
    told = device.properties
    if "TDXHOST_STATUS" in told:
        step = Step(int(told["TDXHOST_STEP"]))
        state["status"] = told["TDXHOST_STATUS"]
        state["step"] = None if step is Step.NONE else step.label
        state["cpus_enabled"] = int(told["TDXHOST_CPUS_ENABLED"])
    return state


def _block(number: int, host: Host) -> dict[str, Any]:
    """The range of a block of memory; empty where the kernel does not say how large they are."""
    try:
        size = int(host.text(f"{MEMORY}/block_size_bytes"), 16)
    except (NotRead, ValueError):
        return {}
    return {"base_pa": number * size, "bytes": size}


def standing(source: str, host: Host) -> dict[str, Any]:
    """Where things stand: the driver, modules, CPUs and memory; null is not known."""
    return {
        "source": source,
        "driver": attributes(host) or None,
        "modules": [name for name in MODULES if host.has(f"/sys/module/{name}")],
        "cpus_online": _cpus(host, "online"),
        "cpus_present": _cpus(host, "present"),
        "memory_online_bytes": _memory_online(host),
    }


def _cpus(host: Host, which: str) -> int | None:
    try:
        return len(parse_cpu_list(host.text(f"/sys/devices/system/cpu/{which}")))
    except (NotRead, ValueError):
        return None


def _memory_online(host: Host) -> int | None:
    try:
        blocks = [name for name in host.names(MEMORY) if NUMBERED.fullmatch(name)]
    except NotRead:
        return None
    online = [name for name in blocks if host.text_or(f"{MEMORY}/{name}/online") == "1"]
    size = _block(0, host).get("bytes")
    return len(online) * size if online and size else None
