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
| S | JSON: a line that a session's process wrote |
| D | JSON: how a session's process ended, and the end of its standard error |

One command runs at a time, beside any number of sessions.

Only the standard library: it runs with ``python3 -I`` before anything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import selectors
import signal
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

_CHUNK = 16384
_STDERR_KEPT = 16384
_NOT_STARTED = 127


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

    def send_json(self, kind: str, document: dict[str, Any]) -> None:
        """Write one frame that holds JSON."""
        self.send(kind, json.dumps(document).encode())

    def lines(self) -> list[bytes]:
        """Read what has come, and return the lines that are whole."""
        self._pending += os.read(self.fd, _CHUNK)
        *whole, self._pending = self._pending.split(b"\n")
        return [line for line in whole if line]


@dataclass(frozen=True)
class Started:
    """A new process, and the kind of each stream that comes from it."""

    process: subprocess.Popen[bytes]
    streams: dict[int, str]


def start(request: dict[str, Any], stdin: int, size: list[int] | None = None) -> Started:
    """Start what a request names, on pipes or on a terminal; OSError where it can't be."""
    env = {**os.environ, **request.get("env", {})}
    if size:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        env["TERM"] = "xterm-256color"
        files, streams = [slave, slave, slave], {master: "O"}
    else:
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        files, streams = [stdin, out_end, err_end], {out: "O", err: "E"}
    try:
        process = subprocess.Popen(
            request["argv"],
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            env=env,
            cwd="/root",
            start_new_session=True,
        )
    except OSError:
        for fd in streams:
            os.close(fd)
        raise
    finally:
        for fd in {fd for fd in files if fd >= 0}:
            os.close(fd)
    return Started(process, streams)


class Child:
    """A process: its output is passed on as it comes, then its end."""

    def __init__(self, server: Server, started: Started) -> None:
        self.server = server
        self._process = started.process
        self._streams = dict(started.streams)
        self._end_fd = os.pidfd_open(started.process.pid)
        server.selector.register(self._end_fd, selectors.EVENT_READ, self._end)
        for fd in self._streams:
            server.selector.register(fd, selectors.EVENT_READ, partial(self._read, fd))

    def output(self, kind: str, data: bytes) -> None:
        """Called with what came from a stream of that kind."""
        raise NotImplementedError

    def ended(self, status: int) -> None:
        """Called once, after the last output."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Send a signal to the process and its children."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _read(self, fd: int) -> bool:
        if fd not in self._streams:  # the end came in the same round
            return False
        try:
            data = os.read(fd, _CHUNK)
        except OSError:  # EIO: the last user of a terminal has gone
            data = b""
        if data:
            self.output(self._streams[fd], data)
        else:
            self._drop(fd)
        return bool(data)

    def _drop(self, fd: int) -> None:
        self.server.selector.unregister(fd)
        del self._streams[fd]
        os.close(fd)

    def _end(self) -> None:
        # A child that outlives the process may keep its output open: the end of
        # the process is the end, once what is there has been read.
        for fd in list(self._streams):
            while select.select([fd], [], [], 0)[0] and self._read(fd):
                pass
            if fd in self._streams:
                self._drop(fd)
        self.server.selector.unregister(self._end_fd)
        os.close(self._end_fd)
        status = self._process.wait()
        self.ended(128 - status if status < 0 else status)


class Command(Child):
    """What ``run`` asks for: its output goes to the host as it is."""

    def output(self, kind: str, data: bytes) -> None:
        self.server.port.send(kind, data)

    def ended(self, status: int) -> None:
        self.server.command = None
        self.server.port.send_json("X", {"status": status})


class Session(Child):
    """A process that stays: lines in, lines out."""

    def __init__(self, server: Server, started: Started, name: str, stdin: int) -> None:
        super().__init__(server, started)
        self._name = name
        self._stdin = stdin
        self._line = b""
        self._errors = b""

    def output(self, kind: str, data: bytes) -> None:
        if kind == "E":
            self._errors = (self._errors + data)[-_STDERR_KEPT:]
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            self.server.port.send_json("S", {"session": self._name, "line": text})

    def ended(self, status: int) -> None:
        self.close()
        self.server.end_session(self._name, status, self._errors.decode(errors="replace"))

    def tell(self, line: str) -> None:
        """Write a line to the process; where it has gone, its end says so."""
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._stdin, data) :]
        except BrokenPipeError:
            return

    def close(self) -> None:
        """End its standard input."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1


class Server:
    """Does what the host asks for, as it asks for it."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.command: Command | None = None
        self._sessions: dict[str, Session] = {}
        self._operations = {"run": self._run, "signal": self._signal, "open": self._open}
        self._session_operations: dict[str, Callable[[Session, dict[str, Any]], None]] = {
            "tell": lambda session, request: session.tell(request["line"]),
            "close": lambda session, _: session.close(),
            "signal": lambda session, request: session.signal(int(request["number"])),
        }

    def serve(self) -> None:
        """Serve the host until the machine ends."""
        self.selector.register(self.port.fd, selectors.EVENT_READ, self._requests)
        while True:
            for key, _ in self.selector.select():
                key.data()

    def end_session(self, name: str, status: int, stderr: str) -> None:
        """Tell the host that a session is no more."""
        self._sessions.pop(name, None)
        self.port.send_json("D", {"session": name, "status": status, "stderr": stderr})

    def _requests(self) -> None:
        for line in self.port.lines():
            request = json.loads(line)
            name = request.get("session")
            if name is None or request["op"] == "open":
                self._operations[request["op"]](request)
            elif name in self._sessions:
                self._session_operations[request["op"]](self._sessions[name], request)
            else:
                self.end_session(name, _NOT_STARTED, "There is no such session.")

    def _run(self, request: dict[str, Any]) -> None:
        try:
            started = start(request, subprocess.DEVNULL, request.get("tty"))
        except OSError as error:
            self.port.send("E", f"{request['argv'][0]}: {error.strerror}\n".encode())
            self.port.send_json("X", {"status": _NOT_STARTED})
        else:
            self.command = Command(self, started)

    def _signal(self, request: dict[str, Any]) -> None:
        if self.command is not None:
            self.command.signal(int(request["number"]))

    def _open(self, request: dict[str, Any]) -> None:
        name = request["session"]
        inside, stdin = os.pipe()
        try:
            started = start(request, inside)
        except OSError as error:
            os.close(stdin)
            self.end_session(name, _NOT_STARTED, f"{request['argv'][0]}: {error.strerror}")
        else:
            self._sessions[name] = Session(self, started, name, stdin)


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
    # A handler, and not SIG_IGN, which the commands would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    port = Port(path)
    port.send_json("H", hello())
    Server(port).serve()


if __name__ == "__main__":
    main(sys.argv[1])
