# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels to boot: Debian's own by release, or any bzImage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm import roots
from vtdx.vm.errors import SetupFailed

DEFAULT = "6.12"

# Suite that carries a release as its standard kernel.
_SUITES = {"6.1": "bookworm", "6.12": "trixie"}

_FETCH_IMAGE = """cd "$1/var/tmp"
image=$(chroot "$1" apt-cache depends linux-image-amd64 | sed -n 's/ *Depends: //p' | head -n1)
chroot "$1" sh -c "cd /var/tmp && apt-get -q download $image"
mkdir "$1/image"
dpkg-deb -x "$1/var/tmp/$image"*.deb "$1/image"
rm "$1/var/tmp/$image"*.deb
for modules in "$1"/image/lib/modules/* "$1"/image/usr/lib/modules/*; do
  [ -d "$modules" ] || continue
  inside=${modules#"$1"}
  chroot "$1" depmod -b "${inside%/lib/modules/*}" "${inside##*/}"
done
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel image, with its modules and what its modules are built against.

    ``toolroot`` is the Debian root to build in, None to build on this machine.
    """

    release: str
    image: Path
    modules: Path | None = None
    headers: Path | None = None
    toolroot: Path | None = None


def releases() -> list[str]:
    """Releases that can be named."""
    return list(_SUITES)


def find(name: str) -> Kernel:
    """The kernel that ``name`` stands for: a release or the path of a bzImage."""
    if name in _SUITES:
        return _debian(name)
    path = Path(name)
    if path.is_file():
        return _image(path.resolve())
    raise SetupFailed(
        f"No kernel {name!r}: not a known release and no such file.",
        f"Name one of {', '.join(_SUITES)}, or the path of a bzImage.",
    )


def _debian(name: str) -> Kernel:
    root = roots.Root(
        f"kernel-{name}",
        f"fetching Debian's kernel {name}, its headers and compiler",
        ("gcc", "kmod", "libc6-dev", "linux-headers-amd64", "make", "sparse"),
        suite=_SUITES[name],
        hook=_FETCH_IMAGE,
    ).path()
    images = sorted(root.glob("image/boot/vmlinuz-*"))
    if not images:
        raise SetupFailed(f"The package of kernel {name} has no image.")
    release = images[-1].name.removeprefix("vmlinuz-")
    folders = [root / "image" / lib / "modules" / release for lib in ("lib", "usr/lib")]
    modules = next((folder for folder in folders if folder.is_dir()), None)
    headers = Path("/usr/src") / f"linux-headers-{release}"
    return Kernel(release, images[-1], modules, headers, root)


def _image(path: Path) -> Kernel:
    """A bzImage; in a build tree (arch/x86/boot/bzImage) drivers build against that."""
    tree = path.parents[3] if len(path.parents) > 3 else None
    if tree is None or not (tree / "Module.symvers").is_file():
        return Kernel(path.name, path)
    release = (tree / "include/config/kernel.release").read_text(encoding="ascii").strip()
    return Kernel(release, path, None, tree, None)


def module_files(kernel: Kernel, names: tuple[str, ...]) -> list[Path]:
    """Those of the modules ``names`` that the kernel has, with what they depend on.

    Paths are relative to the kernel's modules folder, in no particular order.
    """
    if kernel.modules is None:
        return []
    available = {_module_name(path): path for path in kernel.modules.rglob("*.ko*")}
    needs = _dependencies(kernel.modules)
    found: dict[str, Path] = {}
    todo = [name.replace("-", "_") for name in names]
    while todo:
        name = todo.pop()
        if name in found or name not in available:
            continue
        found[name] = available[name].relative_to(kernel.modules)
        todo += needs.get(name, [])
    return list(found.values())


def _module_name(path: str | os.PathLike[str]) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _dependencies(modules: Path) -> dict[str, list[str]]:
    """modules.dep, by module name."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        module, _, rest = line.partition(":")
        needs[_module_name(module)] = [_module_name(word) for word in rest.split()]
    return needs
