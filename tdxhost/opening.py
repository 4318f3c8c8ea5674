# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens /dev/tdxhost, or says what to do where that can't be.

Apart from device.py, which loads the ABI: where there is no driver, nobody waits for that.
"""

import errno
import os

from tdxhost.access import Access
from tdxhost.errors import DriverDenied, DriverMissing, DriverRefused, TdxHostError
from tdxhost.host import LiveHost

DEVICE = "/dev/tdxhost"


def open_device(path: str = DEVICE) -> int:
    """Opens the device; DriverMissing or DriverDenied when that can't be."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise open_failure(path, error) from error


def open_failure(path: str, error: OSError) -> TdxHostError:
    """What an error of open() means, and what to do."""
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return DriverMissing(
            f"there is no {path}: the tdxhost driver is not loaded",
            missing_hint(Access.read(LiveHost())),
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return denial(f"{path} can't be opened", error.errno, Access.read(LiveHost()))
    return DriverRefused(error.errno or 0, f"open {path}")


def missing_hint(access: Access) -> str:
    """How to load the driver."""
    load = (
        "Load it with 'sudo modprobe tdxhost'; where it is not installed, 'sudo ./scripts/install' "
        "in the source tree does both. If it does not load, the kernel log says why."
    )
    return f"{load}\n  {access.in_the_way}" if access.in_the_way else load


def denial(what: str, number: int, access: Access) -> DriverDenied:
    """Names the one of the kernel's reasons that it was; number alone does not tell."""
    if number == errno.EPERM and access.administrator and access.locked_down:
        return DriverDenied(
            f"{what}: kernel lockdown ({access.lockdown}) forbids it, to root too", access.way_out
        )
    return DriverDenied(f"{what}: {os.strerror(number)}", _denied_hint(access))


def _denied_hint(access: Access) -> str:
    if os.geteuid() != 0:
        return "Run it as root: sudo tdxhost …"
    if not access.administrator:
        return "The caller is root without CAP_SYS_ADMIN, as in a container: run it on the host."
    return (
        "The caller has CAP_SYS_ADMIN, so it is kernel lockdown, which mostly follows Secure Boot, "
        "or a security module; the kernel log says which."
    )
