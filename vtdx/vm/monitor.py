# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor (QMP): stops a machine, writes its devices to a file and reads them back."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vtdx.vm.errors import SnapshotFailed, VmError

_ANSWER_SECONDS = 60
_MIGRATION_SECONDS = 120
_POLL_SECONDS = 0.01


class Monitor:
    """The monitor of one QEMU.

    All raise SnapshotFailed when QEMU refuses, and what ``lost`` makes when it is gone.
    """

    def __init__(self, connection: socket.socket, lost: Callable[[], VmError]) -> None:
        connection.settimeout(_ANSWER_SECONDS)
        self._connection = connection
        self._lost = lost
        self._lines = connection.makefile("rb")
        self._ready = False

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._connection.close()

    def stop(self) -> None:
        """Stop the machine: no CPU runs and no clock of its goes on."""
        self.execute("stop")

    def resume(self) -> None:
        """Let the machine run."""
        self.execute("cont")

    def plug_memory(self, name: str, size: int, address: int, node: int = 0) -> None:
        """Plug in memory, at a guest-physical address; Spec.plug_bytes makes the room."""
        backend = {"qom-type": "memory-backend-ram", "id": f"{name}-ram", "size": size}
        self.execute("object-add", **backend)
        module = {"driver": "pc-dimm", "id": name, "memdev": f"{name}-ram"}
        self.execute("device_add", **module, addr=address, node=node)

    def forwarded_port(self) -> int:
        """The port of the loopback that leads into the machine; Spec.ssh_port makes it."""
        said = self.execute("human-monitor-command", **{"command-line": "info usernet"})
        found = re.search(r"TCP\[HOST_FORWARD\] +\d+ +127\.0\.0\.1 +(\d+)", said)
        if found is None:
            raise VmError(f"No port leads into the machine: {said.strip()}")
        return int(found[1])

    def write_devices(self, file: Path) -> None:
        """Write all state but that of memory which is in files already."""
        self._leave_out_files()
        self.execute("migrate", uri=f"file:{file}")
        self._await_migration()

    def read_devices(self, file: Path) -> None:
        """Take over what write_devices() wrote; QEMU waits for it."""
        self._leave_out_files()
        self.execute("migrate-incoming", uri=f"file:{file}")
        self._await_migration()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command; what it returns."""
        if not self._ready:
            self._ready = True
            self._read()  # the greeting
            self.execute("qmp_capabilities")
        self._send({"execute": command, "arguments": arguments})
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise SnapshotFailed(f"QEMU refused {command}: {answer['error']['desc']}")

    def _leave_out_files(self) -> None:
        capability = {"capability": "x-ignore-shared", "state": True}
        self.execute("migrate-set-capabilities", capabilities=[capability])

    def _await_migration(self) -> None:
        until = time.monotonic() + _MIGRATION_SECONDS
        while (state := self.execute("query-migrate")).get("status") != "completed":
            if state.get("status") == "failed" or time.monotonic() > until:
                why = state.get("error-desc", "no reason given")
                raise SnapshotFailed(f"QEMU could not move the machine: {why}")
            time.sleep(_POLL_SECONDS)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise self._lost() from None

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError:
            line = b""
        if not line:
            raise self._lost()
        document: dict[str, Any] = json.loads(line)
        return document
