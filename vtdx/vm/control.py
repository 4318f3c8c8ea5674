# SPDX-License-Identifier: GPL-2.0-or-later
"""The control channel of a machine's plugin; vtdx/README.md has the requests."""

from __future__ import annotations

import socket
from pathlib import Path

from vtdx.vm.errors import ControlRefused, MachineLost

_ANSWER_SECONDS = 30


class Control:
    """Requests to the plugin of a machine that is up.

    All raise ControlRefused with the plugin's reason, MachineLost when it does not
    answer. What is asked for holds from the return on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fault(self, spec: str) -> int:
        """Add a fault after those there are; its number in the log."""
        return int(self.ask(f"fault {spec}"))

    def clear_faults(self) -> None:
        """Remove all faults, those of the platform file too."""
        self.ask("faults clear")

    def latency(self, leaf: str, time: str) -> None:
        """Set the time that a leaf takes, or ``default`` for the others: ``"20ms"``."""
        self.ask(f"latency {leaf} {time}")

    def mark(self, text: str) -> None:
        """Write a mark to the log; Witness.case() cuts at marks."""
        self.ask(f"mark {text}")

    def reload(self) -> None:
        """Load the TDX module anew, for a guest whose driver is not loaded."""
        self.ask("reload")

    def save(self) -> str:
        """What another process needs to go on with this machine, which is stopped."""
        return self.ask("save")

    def restore(self, words: str) -> None:
        """Take over what save() said; the machine is stopped."""
        self.ask(f"restore {words}")

    def ask(self, request: str) -> str:
        """Send one request as it is; what its answer says beside ``ok``."""
        if "\n" in request:
            raise ControlRefused(request, "a request is one line")
        try:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(_ANSWER_SECONDS)
                channel.connect(str(self.path))
                channel.sendall(request.encode() + b"\n")
                line = channel.makefile(encoding="utf-8").readline()
        except OSError as error:
            raise MachineLost(f"The control channel does not answer: {error}") from error
        if not line.endswith("\n"):
            raise MachineLost("The control channel was closed before the answer.")
        outcome, _, rest = line.strip().partition(" ")
        if outcome != "ok":
            raise ControlRefused(request, rest)
        return rest
