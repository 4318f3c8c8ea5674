# SPDX-License-Identifier: GPL-2.0-or-later
"""Who calls the driver: threads on CPUs that are let go together, and ones with fewer rights."""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from tdxhost.access import CAP_SYS_ADMIN

Answer = TypeVar("Answer")

NOBODY = 65534

#: Of x86-64; these act on the calling thread alone (arch/x86/entry/syscalls/syscall_64.tbl).
SYS_SETRESUID = 117
SYS_CAPGET = 125
SYS_CAPSET = 126
#: _LINUX_CAPABILITY_VERSION_3 (include/uapi/linux/capability.h).
CAPABILITY_VERSION = 0x20080522

#: How long callers wait for each other before they are let go.
TOGETHER_S = 60.0


class _Caller(threading.Thread, Generic[Answer]):
    """A thread that keeps what its work came to, whatever that is."""

    def __init__(self, work: Callable[[], Answer]) -> None:
        # A thread that hangs in a call must not keep the process from leaving.
        super().__init__(daemon=True)
        self._work = work
        self._answer: list[Answer] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._answer.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again by answer()
            self.error = error

    def answer(self) -> Answer:
        """What the work came to; raises what it has raised."""
        if self.error:
            raise self.error
        return self._answer[0]


def at_once(works: Sequence[tuple[int, Callable[[], Answer]]]) -> list[Answer]:
    """Runs each work in a thread of its own on its CPU, all let go together; answers in order.

    Raises what the first of them has raised, when all are over.
    """
    barrier = threading.Barrier(len(works), timeout=TOGETHER_S)

    def begin(cpu: int, work: Callable[[], Answer]) -> Answer:
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError:
            barrier.abort()
            raise
        barrier.wait()
        return work()

    callers = [_Caller(partial(begin, cpu, work)) for cpu, work in works]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for caller in callers:
        if caller.error and not isinstance(caller.error, threading.BrokenBarrierError):
            raise caller.error
    return [caller.answer() for caller in callers]


def _alone(prepare: Callable[[], None], work: Callable[[], Answer]) -> Answer:
    """Runs work in a thread whose rights prepare changes; they end with the thread."""

    def run() -> Answer:
        prepare()
        return work()

    caller = _Caller(run)
    caller.start()
    caller.join()
    return caller.answer()


def as_nobody(work: Callable[[], Answer]) -> Answer:
    """Runs work as a user without any right; OSError where the caller can't do that."""
    return _alone(lambda: _syscall(SYS_SETRESUID, NOBODY, NOBODY, NOBODY), work)


def without_sys_admin(work: Callable[[], Answer]) -> Answer:
    """Runs work with every right of the caller's but CAP_SYS_ADMIN."""
    return _alone(_drop_sys_admin, work)


def _drop_sys_admin() -> None:
    """Clears it in the thread's effective set (capset(2): header, then three sets of 64 bits)."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    _syscall(SYS_CAPGET, header, sets)
    sets[0] &= ~(1 << CAP_SYS_ADMIN)
    _syscall(SYS_CAPSET, header, sets)


def _syscall(number: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
