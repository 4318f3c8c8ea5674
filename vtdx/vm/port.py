# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the serial port behind which the agent runs."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from vtdx.vm.errors import DeadlinePassed, VmError

_POLL_SECONDS = 0.2
_HEADER = struct.Struct("<cI")
_SESSION_KINDS = ("S", "D")

Frame = tuple[str, bytes]


class Port:
    """Requests out, frames in; guest/agent.py has the kinds.

    ``lost`` makes the error for a machine that went away. ``deadline`` is for all
    that the machine does, on the monotonic clock.
    """

    def __init__(
        self, connection: socket.socket, lost: Callable[[], VmError], deadline: float | None
    ) -> None:
        self._connection = connection
        self._lost = lost
        self._deadline = deadline
        self._buffer = b""
        # Frames by session; those of the command that runs under None.
        self._waiting: defaultdict[str | None, deque[Frame]] = defaultdict(deque)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def send(self, request: Mapping[str, Any]) -> None:
        """Send one request."""
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise self._lost() from None

    def frame(self, until: float | None, session: str | None = None) -> Frame:
        """The next frame of a session, or of the command; DeadlinePassed after ``until``."""
        waiting = self._waiting[session]
        while not waiting:
            frame = self.try_frame(_POLL_SECONDS)
            if frame is not None:
                self._waiting[_session_of(frame)].append(frame)
            if not waiting and until is not None and time.monotonic() > until:
                raise DeadlinePassed("The command took longer than it may.")
        return waiting.popleft()

    def try_frame(self, seconds: float) -> Frame | None:
        """The next frame whosever it is, or None when none came in that time."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlinePassed("The machine ran longer than it may.")
        frame = self._take_frame()
        if frame is not None:
            return frame
        ready, _, _ = select.select([self._connection], [], [], seconds)
        if not ready:
            return None
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise self._lost()
        self._buffer += data
        return self._take_frame()

    def _take_frame(self) -> Frame | None:
        if len(self._buffer) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._buffer)
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload, self._buffer = self._buffer[_HEADER.size : end], self._buffer[end:]
        return kind.decode("latin-1"), payload


def _session_of(frame: Frame) -> str | None:
    kind, payload = frame
    return str(json.loads(payload)["session"]) if kind in _SESSION_KINDS else None
