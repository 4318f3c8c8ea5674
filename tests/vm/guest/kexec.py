# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets a kernel take over the machine, with the system that runs as its initramfs.

``load KERNEL`` readies it, ``go`` hands over. Needs no kexec-tools: one system call does it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Linux, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/linux/reboot.h
SYS_KEXEC_FILE_LOAD = 320
REBOOT_KEXEC = 0x45584543

# File systems of their own, which init mounts anew.
MOUNTED = {Path("/dev"), Path("/proc"), Path("/run"), Path("/sys"), Path("/tmp")}

LIBC = ctypes.CDLL(None, use_errno=True)


def everything(folder: Path) -> Iterator[Path]:
    """All files of the system, folders before what is in them."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink() and path not in MOUNTED:
            yield from everything(path)


def pad(out: BinaryIO) -> None:
    """Fill up to the next four bytes."""
    out.write(bytes(-out.tell() % 4))


def put_header(out: BinaryIO, name: str, mode: int, number: int, size: int) -> None:
    """The header of one file; Linux, Documentation/driver-api/early-userspace/buffer-format.rst."""
    encoded = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(encoded), 0]
    out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
    pad(out)


def put(out: BinaryIO, path: Path, number: int) -> None:
    """One file, link or folder."""
    info = path.lstat()
    name = str(path).lstrip("/")
    if stat.S_ISLNK(info.st_mode):
        target = os.fsencode(path.readlink())
        put_header(out, name, info.st_mode, number, len(target))
        out.write(target)
    elif stat.S_ISREG(info.st_mode):
        put_header(out, name, info.st_mode, number, info.st_size)
        with path.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
    elif stat.S_ISDIR(info.st_mode):
        put_header(out, name, info.st_mode, number, 0)
    pad(out)


def pack(archive: Path) -> None:
    """Write the system that runs into an initramfs."""
    numbers = itertools.count(1)
    with archive.open("wb") as out:
        for path in everything(Path("/")):
            put(out, path, next(numbers))
        put_header(out, "TRAILER!!!", 0, 0, 0)


def load(kernel: Path) -> None:
    """Give a kernel, this system and this command line to kexec."""
    archive = Path("/tmp/initrd")
    pack(archive)
    command = Path("/proc/cmdline").read_bytes().strip() + b"\0"
    with kernel.open("rb") as image, archive.open("rb") as initrd:
        ended = LIBC.syscall(
            SYS_KEXEC_FILE_LOAD,
            image.fileno(),
            initrd.fileno(),
            ctypes.c_ulong(len(command)),
            command,
            ctypes.c_ulong(0),
        )
    if ended:
        sys.exit(f"kexec_file_load: {os.strerror(ctypes.get_errno())}")
    archive.unlink()


def go() -> None:
    """Hand over; does not return."""
    LIBC.reboot(REBOOT_KEXEC)
    sys.exit(f"kexec: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(Path(sys.argv[2]))
    else:
        go()
