# SPDX-License-Identifier: GPL-2.0-or-later
"""A process in the machine that stays and is asked by lines."""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from vtdx.vm.errors import BadAnswer, DeadlinePassed, SessionEnded, VmError
from vtdx.vm.port import Port

_CLOSE_SECONDS = 10
_KILL_SECONDS = 60


class Session:
    """A context manager: the process ends with it.

    The process reads JSON objects from standard input, one a line, and answers each
    with one on standard output. It lives in the guest: where nobody closes the
    session, it is in a snapshot, and Machine.attach() finds it by its name.
    """

    def __init__(self, port: Port, name: str) -> None:
        self.name = name
        self._port = port
        # An answer that came too late for its question is not the next one's.
        self._asked = 0
        self._answered = 0
        self._ended: SessionEnded | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*((VmError,) if error is not None else ())):
            self.close()

    def ask(self, request: Any, timeout: float = 120) -> Any:
        """Send one request; its answer.

        Raises SessionEnded when the process is gone, BadAnswer when it writes no
        JSON, and DeadlinePassed after ``timeout`` seconds.
        """
        until = time.monotonic() + timeout
        self._tell("tell", line=json.dumps(request))
        self._asked += 1
        while self._answered < self._asked:
            line = self._line(until)
            self._answered += 1
        try:
            return json.loads(line)
        except ValueError:
            raise BadAnswer(f"Session {self.name!r} answered no JSON: {line!r}") from None

    def close(self) -> int:
        """End the process' standard input, then the process; its exit status."""
        if self._ended is None:
            self._tell("close")
            try:
                self._await_end(_CLOSE_SECONDS)
            except DeadlinePassed:
                self._tell("signal", number=int(signal.SIGKILL))
                self._await_end(_KILL_SECONDS)
        assert self._ended is not None
        return self._ended.status

    def _tell(self, operation: str, **more: Any) -> None:
        self._port.send({"op": operation, "session": self.name, **more})

    def _line(self, until: float) -> str:
        if self._ended is not None:
            raise self._ended
        kind, payload = self._port.frame(until, self.name)
        document = json.loads(payload)
        if kind == "D":
            self._ended = SessionEnded(self.name, int(document["status"]), document["stderr"])
            raise self._ended
        return str(document["line"])

    def _await_end(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with suppress(SessionEnded):
            while True:
                self._line(until)
