# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps the driver out is found in the kernel's files, and named with what to do."""

import errno
from pathlib import Path

import pytest

from tdxhost.access import Access
from tdxhost.host import LiveHost
from tdxhost.opening import denial, missing_hint

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOCKDOWN = "sys/kernel/security/lockdown"
SIGNED_ONLY = "sys/module/module/parameters/sig_enforce"

# Every capability of Linux 6.12, and all but CAP_SYS_ADMIN (21).
ALL = "CapEff:\t000001ffffffffff\n"
ALL_BUT_ADMIN = "CapEff:\t000001ffffdfffff\n"

ROOT = Access(lockdown="none", administrator=True)
LOCKED = Access(lockdown="integrity", signed_only=True, administrator=True)


def _host(root: Path, **files: bytes | str) -> Access:
    """Access on a host whose files are as given."""
    paths = {"lockdown": LOCKDOWN, "signed": SIGNED_ONLY, "efi": SECURE_BOOT}
    paths |= {"cmdline": "proc/cmdline", "status": "proc/self/status"}
    for name, content in files.items():
        path = root / paths[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Access.read(LiveHost(root))


def test_where_nothing_shows_nothing_is_in_the_way(tmp_path: Path) -> None:
    access = _host(tmp_path)
    assert vars(access) == vars(Access())
    assert not access.locked_down
    assert access.in_the_way == ""


@pytest.mark.parametrize(
    ("text", "mode", "locked"),
    [
        ("[none] integrity confidentiality\n", "none", False),
        ("none [integrity] confidentiality\n", "integrity", True),
        ("none integrity [confidentiality]\n", "confidentiality", True),
    ],
)
def test_lockdown_is_the_word_in_brackets(
    tmp_path: Path, text: str, mode: str, locked: bool
) -> None:
    access = _host(tmp_path, lockdown=text)
    assert access.lockdown == mode
    assert access.locked_down is locked


@pytest.mark.parametrize(("value", "on"), [(b"\1", True), (b"\0", False), (b"", False)])
def test_secure_boot_is_the_variables_value_behind_its_attributes(
    tmp_path: Path, value: bytes, on: bool
) -> None:
    assert _host(tmp_path, efi=b"\x16\0\0\0" + value).secure_boot is on


def test_signatures_are_asked_for_where_the_kernel_says_so(tmp_path: Path) -> None:
    access = _host(tmp_path, signed="Y\n", lockdown="[none] integrity confidentiality\n")
    assert access.signed_only
    assert "mokutil --import /var/lib/dkms/mok.pub" in access.in_the_way
    assert not _host(tmp_path, signed="N\n").in_the_way


def test_the_key_to_enrol_is_the_one_that_is_there(tmp_path: Path) -> None:
    ubuntus = tmp_path / "var/lib/shim-signed/mok/MOK.der"
    ubuntus.parent.mkdir(parents=True)
    ubuntus.touch()
    access = _host(tmp_path, signed="Y\n")
    assert "mokutil --import /var/lib/shim-signed/mok/MOK.der" in access.in_the_way


@pytest.mark.parametrize(("status", "may"), [(ALL, True), (ALL_BUT_ADMIN, False), ("", False)])
def test_an_administrator_has_cap_sys_admin(tmp_path: Path, status: str, may: bool) -> None:
    assert _host(tmp_path, status=f"Name:\tpython3\n{status}").administrator is may


def test_the_way_out_of_lockdown_depends_on_what_asked_for_it(tmp_path: Path) -> None:
    assert "mokutil --disable-validation" in Access(**vars(LOCKED) | {"secure_boot": True}).way_out
    asked = _host(tmp_path, cmdline="root=/dev/sda1 lockdown=integrity quiet\n")
    assert "lockdown=" in asked.way_out
    assert "reboot" in LOCKED.way_out
    assert "mokutil" not in LOCKED.way_out


def test_under_lockdown_a_missing_driver_says_so_too() -> None:
    assert "integrity" in missing_hint(LOCKED)
    assert "modprobe tdxhost" in missing_hint(LOCKED)
    assert "lockdown" not in missing_hint(ROOT)


def test_a_denial_names_the_reason_that_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    locked = denial("/dev/tdxhost can't be opened", errno.EPERM, LOCKED)
    assert "lockdown (integrity) forbids it" in locked.message
    assert locked.hint == LOCKED.way_out
    container = denial("it", errno.EPERM, Access(**vars(LOCKED) | {"administrator": False}))
    assert "CAP_SYS_ADMIN" in container.hint
    assert "lockdown" not in container.message
    assert "security module" in denial("it", errno.EPERM, ROOT).hint
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "sudo" in denial("it", errno.EACCES, Access()).hint
