# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log, without what Linux 6.12's scheduler says of itself.

Its deadline servers, which run starved tasks on a busy machine, are not taken away
with their CPU. Without any driver, CPUs that come and go bring warnings about their
accounting (kernel/sched/deadline.c), and "Dying CPU not properly vacated!" where a
server still counts as a task: the list of tasks behind it has the kernel's own
migration thread alone. A task of the driver's would be in that list.
"""

from __future__ import annotations

import re

from tests.vm.hosts import Host, complaints

_STAMP = r"\[ *\d+\.\d+\] "
_TASK = rf"{_STAMP}\s+pid: \d+, name: "
_WARNING = re.compile(
    rf"^{_STAMP}-+\[ cut here \]-+\n(?P<text>.*?)^{_STAMP}---\[ end trace .*?\n"
    rf"(?P<tasks>(?:{_STAMP}CPU\d+ enqueued tasks .*\n(?:{_TASK}.*\n)*)?)",
    re.MULTILINE | re.DOTALL,
)


def _is_scheduler(warning: re.Match[str]) -> bool:
    if "kernel/sched/deadline.c:" in warning["text"]:
        return True
    names = re.findall(rf"{_TASK}(\S+)", warning["tasks"])
    vacated = "Dying CPU not properly vacated!" in warning["text"]
    return vacated and bool(names) and all(name.startswith("migration/") for name in names)


def without_scheduler(log: str) -> str:
    """A kernel log without those warnings."""
    return _WARNING.sub(lambda found: "" if _is_scheduler(found) else found[0], log)


def kernel_complaints(host: Host) -> list[str]:
    """Everything else that is bad in a machine's kernel log."""
    return complaints(without_scheduler(host.run("dmesg").stdout))
