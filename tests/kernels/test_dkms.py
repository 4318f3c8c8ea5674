# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/install in the machine itself: DKMS builds and installs the driver there.

A compiler takes minutes under an emulator, so all of it is left to scripts/test --all;
tests/vm/test_install.py looks at what was installed from close by.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tdxhost import __version__
from tests.kernels.selection import each
from tests.vm.hosts import Host, host
from tests.vm.installed import (
    BACKPORTS,
    BOOKWORM,
    CHECKOUT,
    LIST_FILES,
    TRIXIE,
    WHEELS,
    HostRoot,
    files_of,
    host_root,
)
from vtdx.vm import build
from vtdx.vm.roots import run_logged

pytestmark = pytest.mark.slow

RELEASES = {release.series: release for release in (BOOKWORM, TRIXIE, BACKPORTS)}

INSTALL = f"{CHECKOUT}/scripts/install"
UNINSTALL = f"{CHECKOUT}/scripts/uninstall"

# DKMS makes its key when it first signs, and keeps it for all drivers.
KEYS = {"./var/lib/dkms/mok.key", "./var/lib/dkms/mok.pub"}

# A compiler under an emulator, on a machine that does other things too.
SECONDS = 3600.0


def files(machine: Host) -> set[str]:
    """Every file and folder of the host's disk."""
    return files_of(machine.sh(LIST_FILES).stdout)


@each(["6.1", "6.12", "7.3"])
def test_dkms_builds_and_installs_in_the_machine(kernel: str, tmp_path: Path) -> None:
    with (
        host_root(RELEASES[kernel], tmp_path) as root,
        host(
            tmp_path, seconds=SECONDS, kernel=root.kernel, driver=False, disk=root.disk, cpus=4
        ) as machine,
    ):
        assert machine.run("uname", "-r").stdout.strip().startswith(f"{kernel}.")
        before = files(machine)
        installed = machine.run(*(INSTALL, "--wheels", WHEELS, "--load-at-boot"), timeout=SECONDS)
        assert installed.status == 0, installed
        assert "next: sudo tdxhost enable" in installed.stderr
        assert machine.sh("cat /etc/modules-load.d/tdxhost.conf").stdout == "tdxhost\n"
        assert f"tdxhost/{__version__}" in machine.run("dkms", "status").stdout
        assert machine.sh("cat /sys/module/tdxhost/version").stdout == f"{__version__}\n"
        # It holds nothing yet: it goes, and what is left is what was there.
        assert machine.run(UNINSTALL, timeout=SECONDS).status == 0
        assert not machine.sh("ls -d /sys/module/tdxhost").stdout
        assert files(machine) - KEYS == before
        assert machine.kernel_complaints() == []


def test_a_driver_that_lockdown_keeps_out_is_installed_and_told_of(tmp_path: Path) -> None:
    with host_root(TRIXIE, tmp_path) as root:
        ran = root.run(INSTALL, "--wheels", WHEELS, "--kernel", root.kernel.release)
        assert ran.returncode == 0, ran.stderr
        with host(
            tmp_path,
            seconds=SECONDS,
            kernel=root.kernel,
            driver=False,
            disk=root.disk,
            append="lockdown=integrity",
        ) as machine:
            again = machine.run(INSTALL, "--wheels", WHEELS, timeout=SECONDS)
            assert again.status == 3, again
            assert f"driver {__version__} is there for kernel" in again.stderr
            assert "installed, but does not load" in again.stderr
            assert "Kernel lockdown (integrity) is on" in again.stderr
            assert "take lockdown= away" in again.stderr
            assert machine.run("tdxhost", "status").status == 3


def test_an_upgrade_replaces_what_was_there(tmp_path: Path) -> None:
    with host_root(TRIXIE, tmp_path) as root:
        options = ("--wheels", WHEELS, "--kernel", root.kernel.release)
        before = root.files()
        assert root.run(INSTALL, *options).returncode == 0
        first = root.files()
        again = root.run(INSTALL, *options)
        assert again.returncode == 0, again.stderr
        assert f"driver {__version__} is there for kernel" in again.stderr
        put_version(root, tmp_path, "9.8.7")
        upgraded = root.run(INSTALL, *options)
        assert upgraded.returncode == 0, upgraded.stderr
        assert f"removing driver {__version__}" in upgraded.stderr
        assert root.run("tdxhost", "--version").stdout == "tdxhost 9.8.7\n"
        versions = root.run("modinfo", "-k", root.kernel.release, "-F", "version", "tdxhost")
        assert versions.stdout == "9.8.7\n"
        assert plain(root.files() - before, "9.8.7") == plain(first - before, __version__)
        assert root.run(UNINSTALL).returncode == 0
        assert {path for path in root.files() ^ before if f".{WHEELS}/" not in path} == KEYS


def test_an_upgrade_that_fails_leaves_the_old_driver(tmp_path: Path) -> None:
    with host_root(TRIXIE, tmp_path) as root:
        options = ("--wheels", WHEELS, "--kernel", root.kernel.release)
        assert root.run(INSTALL, *options).returncode == 0
        module = f"/usr/lib/modules/{root.kernel.release}/updates/dkms/tdxhost.ko.xz"
        before = root.files(), root.run("sha256sum", module).stdout
        status = root.run("dkms", "status").stdout
        root.sh(f"echo '#error no' >>{CHECKOUT}/kmod/main.c")
        same = root.run(INSTALL, *options)
        assert same.returncode == 1
        assert (root.files(), root.run("sha256sum", module).stdout) == before
        assert root.run("dkms", "status").stdout == status
        put_version(root, tmp_path, "9.8.7")
        newer = root.run(INSTALL, *options)
        assert newer.returncode == 1
        assert "#error no" in newer.stderr
        assert root.run("sha256sum", module).stdout == before[1]
        assert root.run("dkms", "status").stdout == status
        assert root.run("tdxhost", "--version").stdout == f"tdxhost {__version__}\n"


def put_version(root: HostRoot, folder: Path, version: str) -> None:
    """Make the checkout and its wheel on a host another version."""
    copy = folder / "copy"
    build.copy(build.sources("tdxhost", "pyproject.toml", "setup.py", "kmod/include"), copy)
    build.copy(build.sources("README.md", "LICENSE"), copy)
    init = copy / "tdxhost/__init__.py"
    init.write_text(init.read_text(encoding="utf-8").replace(__version__, version))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run_logged([*command, "-w", str(folder), str(copy)], "building the package")
    (wheel,) = folder.glob(f"tdxhost-{version}-*.whl")
    root.put(wheel, WHEELS)
    conf = f"{CHECKOUT}/kmod/dkms.conf"
    changed: subprocess.CompletedProcess[str] = root.sh(f"sed -i s/{__version__}/{version}/ {conf}")
    changed.check_returncode()


def plain(paths: set[str], version: str) -> set[str]:
    """Paths without a version and without the name of the environment's folder, wheels aside."""
    return {
        "/".join("venv" if part.startswith("venv.") else part for part in path.split("/")).replace(
            version, "VERSION"
        )
        for path in paths
        if not path.startswith(f".{WHEELS}")
    }
