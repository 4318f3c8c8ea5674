# SPDX-License-Identifier: GPL-2.0-or-later
"""A headless Chromium in a Debian root of its own, driven by its DevTools protocol.

The protocol goes over pipes: no port is open, and no library is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtdx.vm import cache, roots

#: As root and with /proc of its own; the folder of pages is seen at /page. Chromium reads its
#: orders from descriptor 3 and answers on 4.
SCRIPT = """
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mkdir "$1/tmp/page"
mount --bind "$2" "$1/tmp/page"
exec chroot "$1" /usr/bin/env -i HOME=/tmp PATH=/usr/bin:/bin LANG=C.UTF-8 /bin/sh -c '
exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \\
  --no-first-run --disable-background-networking --disable-component-update \\
  --disable-sync --hide-scrollbars --user-data-dir=/tmp/profile --remote-debugging-pipe \\
  about:blank 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null'
"""
SECONDS = 60.0

Message = dict[str, Any]


class BrowserFailed(Exception):
    """Chromium went away, or answered with an error."""


@dataclass
class Browser:
    """A Chromium with one page; events has what it told unasked."""

    process: subprocess.Popen[bytes]
    folder: Path
    events: list[Message] = field(default_factory=list)
    _session: str = ""
    _number: int = 0
    _unread: bytes = b""

    def open_page(self) -> None:
        """Opens the page that all else is about."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Message:
        """Gives an order and waits for its answer."""
        self._number += 1
        order: Message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            message = self._message()
            if message.get("id") == self._number:
                break
            self.events.append(message)
        if "error" in message:
            raise BrowserFailed(f"{method}: {message['error']}")
        return dict(message["result"])

    def _message(self) -> Message:
        assert self.process.stdout is not None
        end = time.monotonic() + SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            read = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not read:
                raise BrowserFailed("Chromium does not answer")
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def wait(self, method: str) -> Message:
        """Waits for an event."""
        while True:
            for at, event in enumerate(self.events):
                if event.get("method") == method:
                    return self.events.pop(at)
            self.events.append(self._message())

    def show(self, html: str, *, width: int = 1280, theme: str = "light") -> None:
        """Loads a page as a file, at a width and with a theme as the system would have it."""
        (self.folder / "page.html").write_text(html, encoding="utf-8")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setEmulatedMedia", features=[_prefers(theme)])
        self.events.clear()
        self.call("Page.navigate", url="file:///tmp/page/page.html")
        self.wait("Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """Evaluates JavaScript in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserFailed(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        """Presses and releases a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, **KEYS[name])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def picture(self, height: int | None = None) -> bytes:
        """The page as PNG, all of it or its upper part."""
        width, whole = self.ask("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": 1}
        answer = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(answer["data"])

    def named(self, method: str) -> list[Message]:
        """The events of a kind since the page was loaded."""
        return [event["params"] for event in self.events if event.get("method") == method]


KEYS: dict[str, Message] = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "ArrowRight": {"windowsVirtualKeyCode": 39},
    "ArrowDown": {"windowsVirtualKeyCode": 40},
}


def _prefers(theme: str) -> Message:
    return {"name": "prefers-color-scheme", "value": theme}


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Starts Chromium; its pages are in folder. It is gone at the end."""
    inside = [*cache.as_root(), "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    command = [
        *inside,
        "--",
        "/bin/sh",
        "-ec",
        SCRIPT,
        "sh",
        str(roots.BROWSER.path()),
        str(folder),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        started = Browser(process, folder)
        started.open_page()
        yield started
    finally:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
