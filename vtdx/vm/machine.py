# SPDX-License-Identifier: GPL-2.0-or-later
"""A running virtual TDX host: boots, runs commands, and is gone afterwards."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vtdx.vm import build, image, kernels, qemu
from vtdx.vm.control import Control
from vtdx.vm.errors import DeadlinePassed, MachineLost, SnapshotFailed
from vtdx.vm.monitor import Monitor
from vtdx.vm.platform import Platform
from vtdx.vm.port import Port
from vtdx.vm.session import Session

# A QEMU must not outlive the process that watches it, however that ends.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
_BOOT_SECONDS = 120
_BOOT_SECONDS_PER_CPU = 8
_POLL_SECONDS = 0.2

# An orderly end: devices and the kernel's own shutdown callbacks have their turn.
_POWER_OFF = "echo o >/proc/sysrq-trigger"

Output = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Result:
    """How a command in the machine ended."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Spec:
    """What machine to boot.

    ``log`` takes the plugin's log, ``console`` the kernel's; ``extra`` adds
    files (path in the guest to file here). ``driver`` is False to leave the
    driver out, ``driver_args`` are its parameters. There is room for
    ``plug_bytes`` of memory to be plugged in. ``disk`` is an ext4 image to go on
    from, with files, commands and udev of its own; what the machine writes is
    lost, unless ``disk_stays``. ``ssh_port``, with 0 any free one, is a port of this
    machine's loopback that leads to the guest's port 22; nothing leads out of there. A
    boot that says nothing on its console for ``silence_seconds`` hangs. ``plugin`` is
    False for the machine that QEMU alone makes, without TDX, to compare with.
    """

    platform: Platform
    kernel: str | kernels.Kernel = field(default_factory=kernels.default)
    driver: bool = True
    driver_args: Sequence[str] = ()
    append: str = ""
    seam: Path | None = None
    log: Path | None = None
    console: Path | None = None
    extra: Mapping[str, Path] = field(default_factory=dict)
    disk: Path | None = None
    disk_stays: bool = False
    ssh_port: int | None = None
    plug_bytes: int = 0
    silence_seconds: float = 60
    plugin: bool = True


@dataclass(frozen=True)
class Snapshot:
    """A machine that was stopped, for others to start from; snapshot.py takes it.

    ``devices`` is a file with all but its memory, ``carried`` what its plugin has
    to tell theirs.
    """

    spec: Spec
    devices: Path
    parts: qemu.Parts
    hello: dict[str, Any]
    carried: str

    def check_fits(self, spec: Spec) -> None:
        """SnapshotFailed for a machine that could not have booted so."""
        theirs, ours = _booted_as(spec), _booted_as(self.spec)
        differing = [name for name in ours if ours[name] != theirs[name]]
        if differing:
            raise SnapshotFailed(
                f"The snapshot is of another machine: {', '.join(differing)} not as asked for.",
                "Faults, latencies, the seam library and where logs go may differ.",
            )


def _booted_as(spec: Spec) -> dict[str, Any]:
    """What a boot makes its machine from."""
    return {
        "hardware": spec.platform.hardware,
        "kernel": spec.kernel,
        "driver": spec.driver,
        "driver_args": tuple(spec.driver_args),
        "append": spec.append,
        "extra": dict(spec.extra),
        "disk": spec.disk,
        "ssh_port": spec.ssh_port,
        "plug_bytes": spec.plug_bytes,
        "plugin": spec.plugin,
    }


class Machine:
    """A context manager: the machine is up inside, and gone outside.

    It boots, or goes on from ``start``. ``keep`` are files that its memory
    is kept in, for snapshot(). Raises MachineLost when it does not come up or goes
    away, DeadlinePassed when it runs for more than ``timeout`` seconds, counted
    from the boot.
    """

    def __init__(
        self,
        spec: Spec,
        timeout: float | None = None,
        *,
        start: Snapshot | None = None,
        keep: tuple[Path, ...] = (),
    ) -> None:
        if start is not None:
            start.check_fits(spec)
        self.spec = spec
        self.timeout = timeout
        self._origin = start
        self._keep = keep
        self.deadline: float | None = None
        self.hello: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: Port | None = None
        self._monitor: Monitor | None = None
        self._parts: qemu.Parts | None = None
        self._session_numbers = itertools.count(1)
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Machine:
        self._folder = tempfile.TemporaryDirectory(prefix="tdxhost-vm-")
        try:
            self._parts = self._prepare(Path(self._folder.name))
            if self.timeout is not None:
                self.deadline = time.monotonic() + self.timeout
            if self._origin is None:
                self._boot(self._parts)
            else:
                self._go_on(self._parts, self._origin)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End QEMU and drop what belongs to the run."""
        self._stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def console(self) -> Path:
        """Where the kernel's console goes."""
        assert self.spec.console is not None or self._folder is not None
        if self.spec.console is not None:
            return self.spec.console
        assert self._folder is not None
        return Path(self._folder.name) / "console"

    @property
    def process(self) -> int:
        """The number of QEMU's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def parts(self) -> qemu.Parts:
        """What the machine was started from."""
        assert self._parts is not None
        return self._parts

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor."""
        assert self._monitor is not None
        return self._monitor

    @property
    def ssh_port(self) -> int:
        """The port of the loopback that leads to the guest's port 22."""
        return self.monitor.forwarded_port()

    @property
    def control(self) -> Control:
        """The plugin's control channel."""
        assert self._folder is not None
        return Control(Path(self._folder.name) / "control")

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        terminal: tuple[int, int] | None = None,
        output: Output | None = None,
    ) -> Result:
        """Run a command as root in the machine and wait for its end.

        ``terminal`` (columns, lines) gives it one, and all its output is then
        standard output. ``output`` gets the pieces of output as they come, with
        their frame kind ("O" or "E"); without it they are in the result.
        """
        until = None if timeout is None else time.monotonic() + timeout
        request = {"op": "run", "argv": list(argv), "env": dict(env or {}), "tty": terminal}
        port = self._port
        port.send(request)
        pieces: dict[str, list[bytes]] = {"O": [], "E": []}
        while True:
            kind, payload = port.frame(until)
            if kind == "X":
                break
            if output is not None:
                output(kind, payload)
            else:
                pieces[kind].append(payload)
        status = int(json.loads(payload)["status"])
        texts = {key: b"".join(value).decode(errors="replace") for key, value in pieces.items()}
        return Result(status, texts["O"], texts["E"])

    def shell(self, script: str, timeout: float | None = None) -> Result:
        """Run a shell script in the machine."""
        return self.run(["/bin/sh", "-c", script], timeout=timeout)

    def power_off(self, timeout: float = 60) -> None:
        """Let the guest's kernel shut down, and wait until the machine is gone.

        DeadlinePassed when it is not after ``timeout`` seconds. Its logs stay.
        """
        process = self._process
        assert process is not None
        with suppress(MachineLost):
            self.run(["/bin/sh", "-c", f"{_POWER_OFF}; sleep {timeout:.0f}"], timeout=timeout)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DeadlinePassed("The machine did not shut down in time.") from None

    def is_gone(self, timeout: float = 0) -> bool:
        """Whether the machine has ended, rebooted or not, ``timeout`` seconds from now."""
        assert self._process is not None
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kexec(self, argv: Sequence[str], timeout: float | None = None) -> None:
        """Run a command that lets another kernel take over, and wait for the agent there.

        MachineLost when the command ends instead.
        """
        until = None if timeout is None else time.monotonic() + timeout
        self._port.send({"op": "run", "argv": list(argv), "env": {}, "tty": None})
        said = b""
        while True:
            kind, payload = self._port.frame(until)
            if kind == "H":
                self.hello = json.loads(payload)
                return
            if kind == "X":
                raise self._lost(f"No other kernel took over: {said.decode(errors='replace')}")
            said += payload

    def signal(self, number: int) -> None:
        """Send a signal to the command that runs."""
        self._port.send({"op": "signal", "number": number})

    def session(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Session:
        """Start a process in the machine that stays, to ask it things.

        A ``name`` is for those who attach() to it later. That the process can't be
        started shows when it is asked.
        """
        name = name or f"session {next(self._session_numbers)}"
        request = {"op": "open", "session": name, "argv": list(argv), "env": dict(env or {})}
        self._port.send(request)
        return Session(self._port, name)

    def attach(self, name: str) -> Session:
        """The session of that name, which was in the snapshot that the machine came from."""
        return Session(self._port, name)

    # Boot

    def _prepare(self, folder: Path) -> qemu.Parts:
        spec = self.spec
        vtdx = build.vtdx_folder()
        platform_file = folder / f"{spec.platform.name}.ini"
        platform_file.write_text(spec.platform.text, encoding="utf-8")
        kernel, initramfs = self._find_kernel()
        return qemu.Parts(
            kernel=kernel,
            initramfs=initramfs,
            plugin=vtdx / "vtdx.so" if spec.plugin else None,
            seam=spec.seam or vtdx / "libseam.so",
            platform_file=platform_file,
            control=folder / "control",
            console=self.console,
            log=spec.log,
            disk=spec.disk,
            disk_stays=spec.disk_stays,
            ssh_port=spec.ssh_port,
            plug_bytes=spec.plug_bytes,
            memory=self._origin.parts.memory if self._origin is not None else self._keep,
            resumed=self._origin is not None,
        )

    def _find_kernel(self) -> tuple[Path, Path]:
        """Kernel and initramfs: what a snapshot booted, or built from this checkout."""
        if self._origin is not None:
            return self._origin.parts.kernel, self._origin.parts.initramfs
        named = self.spec.kernel
        kernel = kernels.find(named) if isinstance(named, str) else named
        driver = build.driver(kernel) if self.spec.driver else None
        modules = image.MODULES
        modules += image.DISK_MODULES if self.spec.disk else ()
        modules += image.NET_MODULES if self.spec.ssh_port is not None else ()
        return kernel.image, image.initramfs(kernel, driver, self.spec.extra, modules)

    def _boot(self, parts: qemu.Parts) -> None:
        """Start, and once more if the kernel hangs: an emulator's fault, not the test's."""
        for attempt in (1, 2):
            self._forget_memory()
            self._start(parts)
            try:
                self._await_agent()
            except _BootHung as hung:
                self._stop()
                if attempt == 2:
                    raise self._lost(f"The machine hung twice at boot ({hung}).") from None
            else:
                return

    def _forget_memory(self) -> None:
        """A boot finds its memory empty, the second one too."""
        for file in self._keep:
            os.truncate(file, 0)

    def _go_on(self, parts: qemu.Parts, origin: Snapshot) -> None:
        """Start from a snapshot; the agent in it waits for requests."""
        self._start(parts)
        self.monitor.read_devices(origin.devices)
        self.control.restore(origin.carried)
        self.monitor.resume()
        self.hello = origin.hello

    def _start(self, parts: qemu.Parts) -> None:
        agent, monitor = socket.socketpair(), socket.socketpair()
        arguments = [*self.spec.append.split(), *self._driver_arguments()]
        command = qemu.command(
            qemu.find(),
            self.spec.platform,
            parts,
            " ".join(arguments),
            agent_fd=agent[1].fileno(),
            monitor_fd=monitor[1].fileno(),
        )
        self.console.write_bytes(b"")
        assert self._folder is not None
        with (Path(self._folder.name) / "qemu").open("wb") as messages:
            self._process = subprocess.Popen(
                [*_DIE_WITH_PARENT, *command],
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                pass_fds=[agent[1].fileno(), monitor[1].fileno()],
                start_new_session=True,
            )
        agent[1].close()
        monitor[1].close()
        self._agent = Port(agent[0], self._lost, self.deadline)
        self._monitor = Monitor(monitor[0], self._lost)

    def _driver_arguments(self) -> list[str]:
        if not self.spec.driver:
            return ["vtdx.driver=0"]
        words = ",".join(self.spec.driver_args)
        return [f"vtdx.driver_args={words}"] if words else []

    def _await_agent(self) -> None:
        cpus = self.spec.platform.cpus
        until = time.monotonic() + _BOOT_SECONDS + _BOOT_SECONDS_PER_CPU * cpus
        seen, quiet_since = 0, time.monotonic()
        while True:
            frame = self._port.try_frame(_POLL_SECONDS)
            if frame is not None:
                self.hello = json.loads(frame[1])
                return
            now, size = time.monotonic(), self.console.stat().st_size
            if size != seen:
                seen, quiet_since = size, now
            if now - quiet_since > self.spec.silence_seconds:
                raise _BootHung(f"no console output for {self.spec.silence_seconds:.0f} s")
            if now > until:
                raise _BootHung("no agent in time")

    def _stop(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    @property
    def _port(self) -> Port:
        assert self._agent is not None
        return self._agent

    def _lost(self, what: str = "") -> MachineLost:
        """An error that carries what the machine said last."""
        what = what or f"The machine {'went away' if self.hello else 'did not come up'}."
        assert self._folder is not None
        console = self.console.read_text(errors="replace") if self.console.exists() else ""
        messages = (Path(self._folder.name) / "qemu").read_text(errors="replace").strip()
        panic = console.rfind("Kernel panic")
        if panic >= 0:
            what = f"The guest's kernel panicked: {console[panic:].splitlines()[0]}"
        tail = console.splitlines()[-20:]
        lines = [f"QEMU: {messages}"] if messages else []
        lines += ["Last lines of the console:", *tail] if tail else []
        return MachineLost(what, "\n".join(lines))


class _BootHung(Exception):
    """A boot made no progress."""
