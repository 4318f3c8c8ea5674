# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver as a kernel module: whether it can go, and how it comes back."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tdxhost.opening import DEVICE
from tdxhost.validation.requirement import could_not_run

DRIVER = "tdxhost"
MODULE = Path("/sys/module/tdxhost")

#: delete_module(2), for which the C library has no function; x86-64.
SYS_DELETE_MODULE = 176

#: How long udev may take until the device is there again.
DEVICE_S = 10.0


def references() -> int | None:
    """How many hold the driver; None where the kernel unloads no modules."""
    try:
        return int((MODULE / "refcnt").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def openers() -> list[str]:
    """Processes that have the device open, by number and name; as far as the caller may see."""
    return [f"{_name(process)} (process {process.name})" for process in _openers()]


def _openers() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and any(_is_device(fd) for fd in _files(process)):
            yield process


def _files(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:
        return []


def _is_device(fd: Path) -> bool:
    try:
        return fd.readlink() == Path(DEVICE)
    except OSError:
        return False


def _name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text(encoding="utf-8").strip()
    return "?"


def try_unload() -> int:
    """Unloads the driver if nobody holds it; the errno, 0 when it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = DRIVER.encode()
    flags = ctypes.c_long(os.O_NONBLOCK)
    gone = libc.syscall(ctypes.c_long(SYS_DELETE_MODULE), name, flags) == 0
    return 0 if gone else ctypes.get_errno()


@dataclass(frozen=True, slots=True)
class Loading:
    """How the driver is loaded again: the same build, with the same parameters."""

    command: tuple[str, ...]

    @classmethod
    def find(cls, path: str) -> Self:
        """From the file at path, else as modprobe finds it; ends the test without one."""
        if os.geteuid() != 0:
            could_not_run("only root loads drivers: run it as root")
        if references() is None:
            could_not_run("this kernel unloads no modules")
        command = ("insmod", path) if path else ("modprobe", DRIVER)
        loaded = (MODULE / "srcversion").read_text(encoding="utf-8").strip()
        there = _srcversion(path or DRIVER)
        if there != loaded:
            could_not_run(
                f"{' '.join(command)} would load another build (srcversion {there}) than the one "
                f"that is loaded ({loaded}): load that, or name the file of this one in the plan "
                "(file: …)"
            )
        return cls((*command, *_parameters()))

    def reload(self) -> None:
        """Unloads the driver and loads it again; ends the test where others use it."""
        if others := openers():
            could_not_run(f"the device is open: {', '.join(others)}")
        error = try_unload()
        if error:
            raise AssertionError(
                f"the driver can't be unloaded before TDH.SYS.CONFIG: {os.strerror(error)}"
            )
        loaded = subprocess.run(self.command, check=False, capture_output=True, text=True)
        if loaded.returncode:
            raise AssertionError(
                f"the driver was unloaded, and can't be loaded again: {loaded.stderr.strip()}\n"
                f"  Load it with: sudo {' '.join(self.command)}; the kernel log says more."
            )
        _wait_for_device()


def _srcversion(what: str) -> str:
    """Which build a file is, or what modprobe finds; ends the test where there is none."""
    command = ["modinfo", "-F", "srcversion", what]
    try:
        told = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        could_not_run("there is no modinfo: install kmod")
    if told.returncode or not told.stdout.strip():
        could_not_run(
            f"modinfo finds no driver as {what}, to load again: install it, or name its file in "
            "the plan (file: …)"
        )
    return told.stdout.strip()


def _parameters() -> Iterator[str]:
    """Parameters of the driver that is loaded, as insmod takes them."""
    folder = MODULE / "parameters"
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield f"{file.name}={file.read_text(encoding='utf-8').strip()}"


def _wait_for_device() -> None:
    end = time.monotonic() + DEVICE_S
    while not Path(DEVICE).exists():
        if time.monotonic() > end:
            raise AssertionError(f"the driver is loaded, and there is no {DEVICE}")
        time.sleep(0.05)
