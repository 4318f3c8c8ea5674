# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to the host that are undone whatever happens: CPUs offline, suspends that are tests."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tdxhost.errors import TdxHostError
from tdxhost.host import Host
from tdxhost.validation.requirement import could_not_run

CPUS = Path("/sys/devices/system/cpu")
POWER = Path("/sys/power")
#: How long a suspend that is a test stays where it is, in seconds; 5 unless told otherwise.
DELAY = Path("/sys/module/suspend/parameters/pm_test_delay")
#: What ends a process or a test: none of it comes between the parts of an undo.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Holds signals back that would end the body half-way; they come after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def put(path: Path, text: str) -> None:
    """Writes to a file of sysfs, once: a buffered writer tries again what was refused."""
    with path.open("wb", buffering=0) as file:
        file.write(text.encode("ascii"))


def switch_of(cpu: int) -> Path:
    """The file that takes a CPU offline and online."""
    return CPUS / f"cpu{cpu}" / "online"


def is_offline(cpu: int) -> bool:
    """Whether a CPU that can be taken offline is."""
    return switch_of(cpu).read_text(encoding="ascii").strip() == "0"


def removable(host: Host, cpus: Sequence[int]) -> list[int]:
    """Those CPUs that the kernel takes offline when asked; never the boot CPU."""
    return [cpu for cpu in cpus if cpu != 0 and host.has(str(switch_of(cpu)))]


@contextmanager
def offline(cpus: Sequence[int]) -> Iterator[None]:
    """Has CPUs offline, one after another, and brings them back in the same order.

    AssertionError names a CPU that can't be taken offline; TdxHostError, which comes in the place
    of any other error, those that did not come back.
    """
    try:
        for cpu in cpus:
            _take(cpu)
        yield
    finally:
        with undisturbed():
            lost = [text for cpu in cpus if (text := _bring_back(cpu))]
        if lost and not isinstance(sys.exception(), KeyboardInterrupt):
            raise TdxHostError(
                f"CPUs did not come back online: {'; '.join(lost)}",
                f"The kernel log says why. Try by hand: echo 1 > {switch_of(cpus[0])}",
            )


def _take(cpu: int) -> None:
    try:
        put(switch_of(cpu), "0")
    except OSError as error:
        raise AssertionError(
            f"CPU {cpu} can't be taken offline: {error.strerror}; the kernel log says who refuses"
        ) from error


def _bring_back(cpu: int) -> str:
    """Empty where the CPU is online, else why it is not."""
    try:
        if is_offline(cpu):
            put(switch_of(cpu), "1")
    except OSError as error:
        return f"CPU {cpu}: {error.strerror}"
    return ""


@contextmanager
def written(*changes: tuple[Path, str]) -> Iterator[None]:
    """Has other contents in files of sysfs, and puts back what they had, last one first."""
    before: list[tuple[Path, str]] = []
    try:
        for path, text in changes:
            before.append((path, _chosen(path.read_text(encoding="ascii"))))
            put(path, text)
        yield
    finally:
        with undisturbed():
            for path, text in reversed(before):
                put(path, text)


def _chosen(text: str) -> str:
    """What stands in brackets, as in "none core [devices]", else all of it."""
    words = [word[1:-1] for word in text.split() if word.startswith("[")]
    return words[0] if words else text.strip()


@contextmanager
def suspends_are_tests(host: Host, depth: str) -> Iterator[None]:
    """A suspend goes as far as depth and comes back by itself (Linux, basic-pm-debugging.rst).

    Ends the test where the kernel does not have that: a driver that let a suspend through would
    really suspend the host.
    """
    test = POWER / "pm_test"
    if depth not in host.text_or(str(test)).replace("[", " ").replace("]", " ").split():
        could_not_run(
            f"the kernel has no {test} with {depth} (CONFIG_PM_SLEEP_DEBUG): a suspend that is "
            "not refused would be a real one"
        )
    delay = [(DELAY, "0")] if host.has(str(DELAY)) else []
    with written(*delay, (test, depth)):
        yield
