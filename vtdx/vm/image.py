# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root file system: an initramfs put together from cached layers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from vtdx.vm import build, cache, kernels, roots
from vtdx.vm.errors import SetupFailed
from vtdx.vm.kernels import Kernel

# Of the kernel's modules, those that commands on a TDX host use.
MODULES: tuple[str, ...] = ("cpuid", "kvm-intel", "msr", "pvpanic-pci", "tdx-host")

# What a machine needs to find its disk; ext4 asks for crc32c by an alias.
DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")

# What a machine needs to be reached over a network.
NET_MODULES = ("virtio_pci", "virtio_net")

# What the Debian packages bring and no command needs: it would be unpacked at
# every boot.
_LEFT_OUT = (
    "./boot",
    "./dev",
    "./proc",
    "./sys",
    "./usr/bin/dpkg*",
    "./usr/bin/localedef",
    "./usr/bin/perl",
    "./usr/bin/perl5.*",
    "./usr/lib/python3*/dist-packages/markdown_it",
    "./usr/lib/python3*/dist-packages/pygments",
    "./usr/lib/python3*/lib-dynload/_codecs_*",
    "./usr/lib/python3*/lib-dynload/_test*",
    "./usr/lib/python3*/pydoc_data",
    "./usr/lib/python3*/test",
    "./usr/lib/systemd/catalog",
    "./usr/lib/systemd/systemd-networkd",
    "./usr/lib/udev/hwdb.bin",
    "./usr/lib/udev/hwdb.d",
    "./usr/lib/x86_64-linux-gnu/gconv",
    "./usr/lib/x86_64-linux-gnu/libdb-*",
    "./usr/lib/x86_64-linux-gnu/libmvec.*",
    "./usr/lib/x86_64-linux-gnu/libsqlite3.*",
    "./usr/lib/x86_64-linux-gnu/perl-base",
    "./usr/lib/x86_64-linux-gnu/systemd/libsystemd-core-*",
    "./usr/sbin/ldconfig",
    "./usr/sbin/tc",
    "./usr/share/bash-completion",
    "./usr/share/common-licenses",
    "./usr/share/info",
    "./usr/share/perl",
    "./usr/share/perl5",
    "./usr/share/zoneinfo",
    "./var/cache",
    "./var/lib/apt",
    "./var/lib/dpkg",
    "./var/lib/systemd/catalog",
    "./var/log",
)

# More than a run of all tests has in use, at 130 MB each.
_MOST_KEPT = 48

_GUEST = Path(__file__).resolve().parent / "guest"
_SITE = "usr/lib/python3/dist-packages"


def initramfs(
    kernel: Kernel,
    driver: Path | None,
    extra: Mapping[str, Path],
    modules: tuple[str, ...] = MODULES,
) -> Path:
    """An initramfs with the guest, the kernel's modules, driver and package.

    ``extra`` adds files: path in the guest to file on this machine.
    """
    layers = [_base(), _modules(kernel, modules), _project(driver)]
    if extra:
        layers.append(_files(extra))
    key = cache.key_of(*(str(layer) for layer in layers))

    def make(into: Path) -> None:
        with into.open("wb") as out:
            for layer in layers:
                with layer.open("rb") as part:
                    shutil.copyfileobj(part, out)

    return cache.entry("initramfs", key, make, most=_MOST_KEPT)


def _base() -> Path:
    root = roots.GUEST.path()
    key = cache.key_of(str(root), repr(_LEFT_OUT))

    def make(into: Path) -> None:
        prune = [word for path in _LEFT_OUT for word in ("-path", path, "-o")][:-1]
        find = ["find", ".", "(", *prune, ")", "-prune", "-o", "-print0"]
        _cpio(root, into, find)

    return cache.entry("guest-base", key, make, "packing the guest")


def _modules(kernel: Kernel, names: tuple[str, ...]) -> Path:
    key = cache.key_of(str(kernel.image), repr(names), str(kernel.config))

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="tdxhost-") as name:
            target = Path(name) / "usr/lib/modules" / kernel.release
            target.mkdir(parents=True)
            for file in kernels.module_files(kernel, names):
                assert kernel.modules is not None
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(kernel.modules / file, target / file)
            if kernel.modules is not None:
                for index in kernel.modules.glob("modules.*"):
                    shutil.copy(index, target)
            if kernel.config is not None:
                (Path(name) / "boot").mkdir()
                shutil.copy(kernel.config, Path(name) / f"boot/config-{kernel.release}")
            _cpio(Path(name), into)

    return cache.entry("guest-modules", key, make)


def _project(driver: Path | None) -> Path:
    """The layer that changes with this checkout: package, driver, init, agent."""
    wheel = build.wheel()
    own = [_GUEST / "init", _GUEST / "init-disk", _GUEST / "agent.py"]
    key = cache.key_of_files(own, _GUEST, str(wheel), str(driver), str(roots.GUEST.path()))

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="tdxhost-") as name:
            top = Path(name)
            for folder in ("dev", "proc", "sys", "usr/lib/vtdx"):
                (top / folder).mkdir(parents=True)
            shutil.copy(own[0], top / "init")
            for file in own[1:]:
                shutil.copy(file, top / "usr/lib/vtdx")
            if driver is not None:
                shutil.copy(driver, top / "usr/lib/vtdx/tdxhost.ko")
            _install(wheel, top)
            _compile(top / _SITE)
            _cpio(top, into)

    return cache.entry("guest-project", key, make)


def _install(wheel: Path, top: Path) -> None:
    scheme = {"purelib": _SITE, "platlib": _SITE, "scripts": "usr/bin", "data": "usr"}
    scheme["headers"] = "usr/include"
    destination = SchemeDictionaryDestination(
        {name: str(top / path) for name, path in scheme.items()},
        interpreter="/usr/bin/python3",
        script_kind="posix",
    )
    with WheelFile.open(wheel) as source:
        install(source, destination, additional_metadata={"INSTALLER": b"vtdx"})


def _compile(site: Path) -> None:
    """Spare every machine the compilation of the package, 0.7 s of its first command."""
    root = roots.GUEST.path()
    command = ["env", f"PYTHONHOME={root / 'usr'}", *roots.program(root, "python3")]
    command += ["-S", "-m", "compileall", "-q"]
    # The kernel does not keep the time of a file that it unpacks.
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(site), "-p", f"/{_SITE}"]
    roots.run_logged([*command, str(site)], "compiling the package")


def _files(extra: Mapping[str, Path]) -> Path:
    parts = [part for name, path in sorted(extra.items()) for part in (name, path.read_bytes())]
    modes = [str(path.stat().st_mode) for _, path in sorted(extra.items())]

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="tdxhost-") as name:
            for inside, path in extra.items():
                target = Path(name) / inside.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            _cpio(Path(name), into)

    return cache.entry("guest-files", cache.key_of(*parts, *modes), make)


def _cpio(folder: Path, into: Path, find: list[str] | None = None) -> None:
    """Pack a folder, every file as root's; ``find`` picks from one that is root's own."""
    prefix = cache.as_root() if find else []
    names = subprocess.run(
        [*prefix, *(find or ["find", ".", "-mindepth", "1", "-print0"])],
        cwd=folder,
        check=True,
        capture_output=True,
    ).stdout
    with into.open("wb") as out:
        packed = subprocess.run(
            [*prefix, "cpio", "--quiet", "-0", "-o", "-H", "newc", "-R", "0:0"],
            cwd=folder,
            input=names,
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
        )
    if packed.returncode:
        raise SetupFailed(f"cpio failed:\n{packed.stderr.decode(errors='replace')}")
