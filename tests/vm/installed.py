# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian hosts to install tdxhost on: a disk with a release and this checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm import build, cache, roots
from vtdx.vm.kernels import Kernel
from vtdx.vm.roots import run_logged

#: Where the checkout and the wheels lie on the host.
CHECKOUT = "/root/tdxhost"
WHEELS = "/root/wheels"

#: What scripts/install says that it needs, then what shows that it did its work.
_NEEDS = ("dkms", "gcc", "make", "kmod", "python3-venv")
_KERNEL = ("linux-headers-amd64", "linux-image-amd64")
_SHOWS = (
    *("bash-completion", "zsh", "fish", "man-db", "mandoc", "groff"),
    *("iproute2", "mokutil", "procps", "sudo", "udev"),
)

# Of the kernel's modules: depmod reads each of them, and an emulator is slow at that.
_NO_HOSTS_MODULES = ("net", "sound", "drivers/gpu", "drivers/media", "drivers/net", "drivers/usb")

# A file system as large as this holds any of the hosts, and what DKMS makes there.
_DISK_BYTES = 4 << 30


@dataclass(frozen=True)
class HostRelease:
    """A Debian release as hosts have it, with its kernel's series and its Python."""

    name: str
    series: str
    python: str
    suite: str
    backports: bool = False
    more: tuple[str, ...] = ()

    def root(self) -> Path:
        """Its root, made with mmdebstrap and shared by runs; not to be changed."""
        late = (*_NEEDS[:1], *_KERNEL)
        rest = (*_SHOWS, *self.more)
        return roots.Root(
            f"host-{self.name}",
            f"fetching a {self.name} host",
            (*_NEEDS, *rest) if self.backports else (*_NEEDS, *_KERNEL, *rest),
            suite=self.suite,
            backports=late if self.backports else (),
        ).path()


BOOKWORM = HostRelease("bookworm", "6.1", "3.11", "bookworm")
TRIXIE = HostRelease("trixie", "6.12", "3.13", "trixie", more=("openssh-server",))
BACKPORTS = HostRelease("trixie-backports", "7.3", "3.13", "trixie", backports=True)


def wheels(python: str) -> Path:
    """A folder with wheels of the package and of what it needs, for a Python of that version."""
    wheel = build.wheel()

    def make(into: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(into)]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        for platform in ("manylinux2014_x86_64", "manylinux_2_28_x86_64"):
            command += ["--platform", platform]
        run_logged([*command, str(wheel)], "fetching wheels")

    return cache.entry("host-wheels", cache.key_of(str(wheel), python), make, "fetching wheels")


@dataclass(frozen=True)
class HostRoot:
    """A host's disk with this checkout on it, to be changed at will, and its kernel."""

    disk: Path
    kernel: Kernel

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it on this machine, as root."""
        return _in_disk(self.disk, 'exec chroot "$0" "$@"', *argv)

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it."""
        return self.run("/bin/bash", "-c", script)

    def put(self, file: Path, folder: str) -> None:
        """Copy a file of this machine into a folder of the host's."""
        _in_disk(self.disk, 'cp "$1" "$0$2"', str(file), folder).check_returncode()

    def files(self) -> set[str]:
        """Every file and folder that is there."""
        return files_of(self.sh(LIST_FILES).stdout)


#: Prints what is on a host's disk.
LIST_FILES = "cd / && find . -xdev -path ./tmp -prune -o -path ./run -prune -o -path ./dev -prune"
LIST_FILES += " -o -print"


def files_of(listed: str) -> set[str]:
    """The files that LIST_FILES printed."""
    return set(listed.splitlines())


@contextmanager
def host_root(release: HostRelease, folder: Path) -> Iterator[HostRoot]:
    """A host of that release in ``folder``, with checkout and wheels; gone at the end."""
    disk = folder / f"{release.name}.ext4"
    try:
        run_logged(["cp", "--sparse=always", str(_bare_disk(release)), str(disk)], "copying a host")
        put = f'cp -R "$1" "$0{CHECKOUT}" && chmod 755 "$0{CHECKOUT}" && cp -R "$2" "$0{WHEELS}"'
        with build.scratch_folder(None) as checkout:
            build.copy(_checkout(), checkout)
            _in_disk(disk, put, str(checkout), str(wheels(release.python))).check_returncode()
        yield HostRoot(disk, _kernel_of(release.root()))
    finally:
        disk.unlink(missing_ok=True)


def _bare_disk(release: HostRelease) -> Path:
    """An image of a release's root, made once."""
    root = release.root()
    drop = " ".join(f'"$0"/usr/lib/modules/*/kernel/{name}' for name in _NO_HOSTS_MODULES)
    drop = f'rm -r {drop} && chroot "$0" depmod {_kernel_of(root).release}'

    def make(into: Path) -> None:
        with into.open("wb") as image:
            image.truncate(_DISK_BYTES)
        pack = [*cache.as_root(), "mke2fs", "-q", "-t", "ext4", "-d", str(root), str(into)]
        run_logged(pack, "packing a host")
        _in_disk(into, drop).check_returncode()

    key = cache.key_of(str(root), drop)
    return cache.entry("host-disk", key, make, f"packing a {release.name} host")


def _in_disk(disk: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script, as root, whose $0 is where a disk is mounted.

    Mounts and processes are its own, so nothing of either outlives it.
    """
    mount = 'mount -o loop "$1" /mnt && mount -t proc proc /mnt/proc && shift'
    command = [*cache.as_root(), "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return subprocess.run(
        [*command, "sh", "-ec", f"{mount}\n{script}", "/mnt", str(disk), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _checkout() -> list[Path]:
    """What a user has: every file that git knows of, and not ignored ones."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=build.PROJECT, capture_output=True, text=True, check=True
    ).stdout
    files = [build.PROJECT / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file()]


def _kernel_of(root: Path) -> Kernel:
    """The one kernel that is installed in a root."""
    [modules] = (root / "usr/lib/modules").iterdir()
    images = (root / "boot" / f"vmlinuz-{modules.name}", modules / "vmlinuz")
    image = next(image for image in images if image.is_file())
    return Kernel(modules.name, image, modules)
