# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels to boot: Debian's own by release, or any bzImage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm import roots
from vtdx.vm.errors import SetupFailed

DEFAULT = "6.12"

#: The environment variable that names another one, for every machine that names none.
CHOICE = "TDXHOST_KERNEL"


@dataclass(frozen=True)
class _Series:
    """Where Debian has a kernel series; the newest of it is taken."""

    suite: str
    backports: bool = False
    moves: bool = False


_SERIES = {
    "6.1": _Series("bookworm"),
    "6.12": _Series("trixie"),
    "7.2": _Series("forky", moves=True),
    "7.3": _Series("trixie", backports=True),
}

# Series by the name of a kernel, and what its packages' names end in.
_DEBIAN = {
    f"{series}{suffix}": (series, flavour)
    for series in _SERIES
    for suffix, flavour in (("", "amd64"), ("-rt", "rt-amd64"))
}

# Series by the name of a kernel that is built here, with INTEL_TDX_HOST on.
_BUILT = {"6.12-tdx": "6.12", "7.3-tdx": "7.3"}

_CONFIGS = Path(__file__).resolve().parent / "configs"

# Debian has an image in one package, or in several that it depends on.
_FETCH_IMAGE = """set -e
release=$(cd "$1/usr/src" && echo linux-headers-*-@flavour@)
release=${release#linux-headers-}
chroot "$1" sh -ec '
cd /var/tmp
parts=$(apt-cache depends "linux-image-$0" | sed -n "s/ *Depends: //p" | grep -F -- "-$0" || true)
apt-get -q download "linux-image-$0" $parts
' "$release"
mkdir "$1/image"
for package in "$1"/var/tmp/*.deb; do
  dpkg-deb -x "$package" "$1/image"
  rm "$package"
done
for modules in "$1"/image/lib/modules/* "$1"/image/usr/lib/modules/*; do
  [ -d "$modules" ] || continue
  inside=${modules#"$1"}
  chroot "$1" depmod -b "${inside%/lib/modules/*}" "${inside##*/}"
done
"""

# Debian's own source, unpatched, with the smallest configuration that is asked for.
_BUILD = """set -e
cat >"$1/var/tmp/wanted" <<'END'
@config@
END
chroot "$1" sh -ec '
cd /var/tmp
mkdir linux
tar -xJf /usr/src/linux-source-@series@.tar.xz -C linux --strip-components=1
cd linux
make -s tinyconfig
cat ../wanted >>.config
make -s olddefconfig
lacking=$(grep "^CONFIG" ../wanted | grep -vxF -f .config) &&
  { echo "the source does not take this configuration:"; echo "$lacking"; exit 1; }
make -s -j"$(nproc)" bzImage modules
release=$(make -s kernelrelease)
make -s modules_install INSTALL_MOD_PATH=/image
install -D arch/x86/boot/bzImage "/image/boot/vmlinuz-$release"
MAKE=make CC=gcc HOSTCC=gcc SRCARCH=x86 srctree=. \\
  scripts/package/install-extmod-build "/usr/src/linux-headers-$release"
cd ..
rm -rf linux wanted /usr/src/linux-source-*
'
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

    @property
    def config(self) -> Path | None:
        """Its configuration, where the headers have it."""
        if self.toolroot is None or self.headers is None:
            return None
        file = self.toolroot / self.headers.relative_to("/") / ".config"
        return file if file.is_file() else None


def default() -> str:
    """The kernel of a machine for which none is named."""
    return os.environ.get(CHOICE) or DEFAULT


def releases() -> list[str]:
    """Kernels that can be named."""
    return [*_DEBIAN, *_BUILT]


def built() -> list[str]:
    """Those of them that are built here."""
    return list(_BUILT)


def find(name: str) -> Kernel:
    """The kernel that ``name`` stands for: a release or the path of a bzImage."""
    if name in _DEBIAN:
        return _in_root(name, _debian(name))
    if name in _BUILT:
        return _in_root(name, _source(name))
    path = Path(name)
    if path.is_file():
        return _image(path.resolve())
    raise SetupFailed(
        f"No kernel {name!r}: not a known release and no such file.",
        f"Name one of {', '.join(releases())}, or the path of a bzImage.",
    )


def _root(name: str, summary: str, series: str, packages: tuple[str, ...], hook: str) -> roots.Root:
    """A root with packages of the release that the series is from, and its compiler."""
    place = _SERIES[series]
    everything = ("gcc", "kmod", "libc6-dev", "make", *packages)
    return roots.Root(
        f"kernel-{name}",
        summary,
        () if place.backports else everything,
        suite=place.suite,
        backports=everything if place.backports else (),
        hook=hook,
        moves=place.moves,
    )


def _debian(name: str) -> roots.Root:
    series, flavour = _DEBIAN[name]
    return _root(
        name,
        f"fetching Debian's kernel {name}, its headers and compiler",
        series,
        (f"linux-headers-{flavour}", "sparse"),
        _FETCH_IMAGE.replace("@flavour@", flavour),
    )


def _source(name: str) -> roots.Root:
    series = _BUILT[name]
    config = "".join(
        (_CONFIGS / file).read_text(encoding="ascii") for file in ("tdx.config", f"{name}.config")
    )
    return _root(
        name,
        f"building Linux {series} with INTEL_TDX_HOST on",
        series,
        ("bc", "bison", "flex", "libelf-dev", "libssl-dev", f"linux-source-{series}", "xz-utils"),
        _BUILD.replace("@config@", config).replace("@series@", series),
    )


def _in_root(name: str, recipe: roots.Root) -> Kernel:
    root = recipe.path()
    split = sorted(root.glob("image/usr/lib/modules/*/vmlinuz"))
    whole = sorted(root.glob("image/boot/vmlinuz-*"))
    if not split and not whole:
        raise SetupFailed(f"The package of kernel {name} has no image.")
    image = (whole or split)[-1]
    release = image.name.removeprefix("vmlinuz-") if whole else image.parent.name
    folders = [root / "image" / lib / "modules" / release for lib in ("lib", "usr/lib")]
    modules = next((folder for folder in folders if folder.is_dir()), None)
    headers = Path("/usr/src") / f"linux-headers-{release}"
    return Kernel(release, image, modules, headers, root)


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
