# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs commands for the host, inside the virtual machine.

Speaks over a serial port that nothing else uses. The host sends JSON lines, the
agent answers with frames: a kind (one byte), a length (four bytes, little
endian), then that many bytes.

| kind | what it holds |
| --- | --- |
| H | JSON: the agent is there; what booted |
| O, E | standard output and error of the command |
| X | JSON: how the command ended |

Only the standard library: it runs with ``python3 -I`` before anything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import termios
import tty
from pathlib import Path
from typing import Any

_CHUNK = 16384


class Port:
    """The serial port: lines in, frames out."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)
        self._pending = b""

    def send(self, kind: str, payload: bytes) -> None:
        """Write one frame."""
        data = kind.encode() + struct.pack("<I", len(payload)) + payload
        while data:
            data = data[os.write(self.fd, data) :]

    def lines(self) -> list[bytes]:
        """Read what has come, and return the lines that are whole."""
        self._pending += os.read(self.fd, _CHUNK)
        *whole, self._pending = self._pending.split(b"\n")
        return [line for line in whole if line]

    def wait_line(self) -> bytes:
        """Block until a line has come."""
        while True:
            lines = self.lines()
            if lines:
                return lines[0]


class Command:
    """One command: its process and where its output comes from."""

    def __init__(self, request: dict[str, Any]) -> None:
        env = {**os.environ, **request.get("env", {})}
        size = request.get("tty")
        if size:
            self._start_on_terminal(request["argv"], env, size)
        else:
            self._start_on_pipes(request["argv"], env)

    def _start_on_terminal(self, argv: list[str], env: dict[str, str], size: list[int]) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        env["TERM"] = "xterm-256color"
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            cwd="/root",
            start_new_session=True,
        )
        os.close(slave)
        self.streams = {master: "O"}

    def _start_on_pipes(self, argv: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd="/root",
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.streams = {self.process.stdout.fileno(): "O", self.process.stderr.fileno(): "E"}

    def signal(self, number: int) -> None:
        """Send a signal to the command and its children."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


def run(port: Port, request: dict[str, Any]) -> None:
    """Run a command to its end, passing on output as it comes."""
    try:
        command = Command(request)
    except OSError as error:
        text = f"{request['argv'][0]}: {error.strerror}\n"
        port.send("E", text.encode())
        port.send("X", json.dumps({"status": 127}).encode())
        return
    _pump(port, command)
    status = command.process.wait()
    if status < 0:
        status = 128 - status
    port.send("X", json.dumps({"status": status}).encode())


def _pump(port: Port, command: Command) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(port.fd, selectors.EVENT_READ)
        for fd in command.streams:
            selector.register(fd, selectors.EVENT_READ)
        open_streams = set(command.streams)
        # A child that outlives the command may keep its output open: the end of
        # the command is the end, once what is there has been read.
        while open_streams:
            ended = command.process.poll() is not None
            ready = selector.select(0 if ended else 0.2)
            fds = [key.fd for key, _ in ready if key.fd != port.fd]
            if len(fds) < len(ready):
                _serve_meanwhile(port, command)
            for fd in fds:
                if not _forward(port, fd, command.streams[fd]):
                    selector.unregister(fd)
                    open_streams.discard(fd)
            if ended and not fds:
                return


def _serve_meanwhile(port: Port, command: Command) -> None:
    for line in port.lines():
        request = json.loads(line)
        if request["op"] == "signal":
            command.signal(int(request["number"]))


def _forward(port: Port, fd: int, kind: str) -> bool:
    try:
        data = os.read(fd, _CHUNK)
    except OSError:  # EIO: the last user of a terminal has gone
        data = b""
    if data:
        port.send(kind, data)
    return bool(data)


def hello() -> dict[str, Any]:
    """What booted."""
    driver = Path("/run/vtdx-driver")
    return {
        "release": os.uname().release,
        "cpus": os.cpu_count(),
        "driver": driver.read_text(encoding="utf-8").strip() if driver.exists() else "",
    }


def main(path: str) -> None:
    """Serve the host until it goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    port = Port(path)
    port.send("H", json.dumps(hello()).encode())
    while True:
        request = json.loads(port.wait_line())
        if request["op"] == "run":
            run(port, request)


if __name__ == "__main__":
    main(sys.argv[1])
