# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets allocations of the driver fail, one after the other.

Runs in the virtual machine with allocations.ko loaded, prints one JSON document.
A sweep is a list of rounds: in the Nth the Nth allocation was to fail, and the
last is the first that did not get so far.

- ``load``: a sweep of loading the driver
- ``enable``: a sweep of ENABLE, each round with a driver loaded afresh; where the
  driver can make up for a failure, one more with all allocations after the Nth
  failing too, as "rest"
- ``calls``: the driver is loaded; a sweep of every other call, by name
- ``try [retry]``: the driver is loaded; one ENABLE
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tdxhost import abi

FOLDER = Path("/sys/kernel/debug/tdxhost_allocations")
DRIVER = "/opt/tdxhost.ko"
# More than any call allocates: a sweep has an end.
MAX_ROUNDS = 100
# More than any array of the driver is long on a small machine.
ROOM = 512
# CPUs 0 and 1.
MASK = b"\x03"

# Struct, array member and struct of the array, by call; "mask" passes a set of CPUs.
CALLS: dict[str, tuple[str, str, str]] = {
    "GET_INFO": ("tdxhost_info", "", ""),
    "GET_STATUS": ("tdxhost_status", "", ""),
    "CPU_ENABLE": ("tdxhost_cpu_enable", "result", "tdxhost_cpu_result"),
    "CPUS_ENABLE": ("tdxhost_cpus", "results", "tdxhost_cpu_result"),
    "CPUS_ENABLE mask": ("tdxhost_cpus", "results", "tdxhost_cpu_result"),
    "GET_CPUS": ("tdxhost_cpus", "results", "tdxhost_cpu_result"),
    "GET_CPUS mask": ("tdxhost_cpus", "results", "tdxhost_cpu_result"),
    "GET_STEPS": ("tdxhost_steps", "results", "tdxhost_step_result"),
    "SYS_RD": ("tdxhost_sys_rd", "fields", "tdxhost_field"),
    "GET_MEMORY": ("tdxhost_memory", "ranges", "tdxhost_range"),
}

Round = dict[str, Any]


def ledger() -> dict[str, Any]:
    """What the driver holds, and which allocation failed."""
    told: dict[str, Any] = json.loads((FOLDER / "ledger").read_text())
    return told


def held() -> Any:
    """Pieces and bytes that the driver holds, by the function they came from."""
    return ledger()["held"]


@contextmanager
def failing(at: int, rest: bool = False) -> Iterator[Round]:
    """The Nth allocation from here on fails, 0 for none, with ``rest`` all later ones.

    Tells in the end which has failed, and how many there were.
    """
    found: Round = {}
    (FOLDER / "fail_rest").write_text("Y" if rest else "N")
    (FOLDER / "fail_at").write_text(str(at))
    try:
        yield found
    finally:
        told = ledger()
        found |= {"failed": told["failed"], "count": told["count"]}
        (FOLDER / "fail_at").write_text("0")


def sweep(play: Callable[[int], Round]) -> list[Round]:
    """Rounds until one is over before the Nth allocation, or has left something behind.

    More rounds would leave more, and in the end nothing to go on with.
    """
    rounds: list[Round] = []
    for at in range(1, MAX_ROUNDS):
        rounds.append(play(at))
        if not rounds[-1]["failed"] or rounds[-1].get("left"):
            return rounds
    raise SystemExit(f"there was still an allocation to fail after {MAX_ROUNDS} rounds")


def insmod() -> subprocess.CompletedProcess[str]:
    """Load the driver."""
    return subprocess.run(["insmod", DRIVER], capture_output=True, text=True, check=False)


def rmmod() -> None:
    """Unload the driver."""
    subprocess.run(["rmmod", "tdxhost"], check=True)


@contextmanager
def device() -> Iterator[int]:
    """The open device."""
    fd = os.open("/dev/tdxhost", os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def call(fd: int, command: str, argument: Any) -> str:
    """One call; the name of its errno, or "0"."""
    try:
        fcntl.ioctl(fd, getattr(abi.lib, f"TDXHOST_{command}"), abi.buffer_of(argument), True)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "0"


def enable(fd: int, retry: bool) -> dict[str, int]:
    """ENABLE, CPUs included; what it answers."""
    flags = abi.lib.TDXHOST_ENABLE_CPUS | (abi.lib.TDXHOST_ENABLE_RETRY if retry else 0)
    argument = abi.new("tdxhost_enable", flags=flags)
    assert call(fd, "ENABLE", argument) == "0"
    return abi.members_of(argument)


def pamt_bytes(fd: int) -> int:
    """GET_STATUS: memory held for PAMTs."""
    argument = abi.new("tdxhost_status")
    assert call(fd, "GET_STATUS", argument) == "0"
    return int(argument.pamt_bytes)


def tried(fd: int, retry: bool) -> Round:
    """ENABLE, and what the driver holds afterwards."""
    with failing(0) as found:
        answer = enable(fd, retry)
    return found | {"answer": answer, "pamt_bytes": pamt_bytes(fd), "held": held()}


def load_round(at: int) -> Round:
    """Load the driver; it is gone afterwards."""
    with failing(at) as found:
        loaded = insmod()
    if loaded.returncode == 0:
        rmmod()
    return found | {"status": loaded.returncode, "said": loaded.stderr, "left": held()}


def enable_round(at: int, rest: bool) -> Round:
    """A fresh driver, ENABLE with a failure, then again without; it is gone afterwards."""
    assert insmod().returncode == 0
    with device() as fd:
        with failing(at, rest) as found:
            answer = enable(fd, retry=False)
        found |= {"answer": answer, "pamt_bytes": pamt_bytes(fd), "held": held()}
        found["retry"] = tried(fd, retry=True)
    rmmod()
    return found | {"left": held()}


def enable_rounds(at: int) -> Round:
    """A round, and where it came through although an allocation failed, a worse one."""
    played = enable_round(at, rest=False)
    came_through = played["failed"] and played["answer"]["code"] != abi.lib.TDXHOST_CODE_NO_MEMORY
    return played | {"rest": enable_round(at, rest=True) if came_through else None}


def argument_of(name: str) -> tuple[Any, list[Any]]:
    """The argument of a call that has room for everything, and what must outlive it."""
    struct, member, entry = CALLS[name]
    if not member:
        return abi.new(struct), []
    array = abi.new_array(entry, ROOM)
    mask = abi.ffi.from_buffer(bytearray(MASK))
    argument = abi.new(struct, entry_size=abi.size_of(entry))
    setattr(argument, member, abi.address_of(array))
    if name != "CPU_ENABLE":
        argument.count = ROOM
    if name.endswith("mask"):
        argument.mask = abi.address_of(mask)
        argument.mask_bytes = len(MASK)
    return argument, [array, mask]


def call_round(fd: int, name: str, at: int) -> Round:
    """One call."""
    argument, _alive = argument_of(name)
    before = held()
    with failing(at) as found:
        answer = call(fd, name.removesuffix(" mask"), argument)
    return found | {"errno": answer, "before": before, "after": held()}


def calls() -> dict[str, list[Round]]:
    """A sweep of every call but ENABLE."""
    with device() as fd:
        return {name: sweep(partial(call_round, fd, name)) for name in CALLS}


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["load"]:
            document: Any = sweep(load_round)
        case ["enable"]:
            document = sweep(enable_rounds)
        case ["calls"]:
            document = calls()
        case ["try", *retry]:
            with device() as fd:
                document = tried(fd, bool(retry))
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
