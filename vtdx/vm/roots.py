# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian roots, made with mmdebstrap: tools of a known release, and the guest.

No mirror is named: mmdebstrap takes its default, or what the machine's own apt
configuration says.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from vtdx.vm import cache
from vtdx.vm.errors import SetupFailed

_BACKPORTS = """set -e
grep -m1 " {suite} main" "$1/etc/apt/sources.list" |
  sed "s/ {suite} main/ {suite}-backports main/" >"$1/etc/apt/sources.list.d/backports.list"
chroot "$1" apt-get -q update
DEBIAN_FRONTEND=noninteractive chroot "$1" apt-get -q install -y --no-install-recommends \\
  -t {suite}-backports {packages}
"""

_NO_DOCS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/i18n/*",
)


@dataclass(frozen=True)
class Root:
    """A recipe: what goes in, and what it is for.

    ``moves`` is a suite that is not released yet: its list of packages is good for some
    days only, and a mirror may be older than that.
    """

    name: str
    summary: str
    packages: tuple[str, ...]
    suite: str = "trixie"
    variant: str = "minbase"
    backports: tuple[str, ...] = ()
    hook: str = ""
    moves: bool = field(default=False, repr=False)

    def path(self) -> Path:
        """The folder that holds the root, made now if it is not there."""
        key = cache.key_of(repr(self))
        return cache.entry(f"root-{self.name}", key, self._make, self.summary)

    def _make(self, into: Path) -> None:
        if shutil.which("mmdebstrap") is None:
            raise SetupFailed("mmdebstrap is not installed.", "apt-get install mmdebstrap")
        command = [*cache.as_root(), "mmdebstrap", f"--variant={self.variant}"]
        command += [f"--dpkgopt={option}" for option in _NO_DOCS]
        command += ['--aptopt=Acquire::Check-Valid-Until "false"'] if self.moves else []
        command += [f"--include={','.join(self.packages)}"] if self.packages else []
        hooks = []
        if self.backports:
            hooks.append(_BACKPORTS.format(suite=self.suite, packages=" ".join(self.backports)))
        hooks += [self.hook] if self.hook else []
        command += [f"--customize-hook={hook}" for hook in hooks]
        run_logged([*command, self.suite, str(into)], f"making the {self.name} root")


QEMU = Root("qemu", "fetching QEMU into a Debian root", (), backports=("qemu-system-x86",))

GUEST = Root(
    "guest",
    "fetching the guest's Debian",
    (
        "iproute2",
        "kmod",
        "procps",
        "python3",
        "python3-cffi-backend",
        "python3-jinja2",
        "python3-pytest",
        "python3-pyudev",
        "python3-rich",
        "python3-yaml",
        "udev",
    ),
    variant="essential",
)

# Chromium's own sandbox does without SUID only where the kernel lets users have namespaces;
# tests run it in a chroot, on pages of their own making.
BROWSER = Root(
    "browser",
    "fetching Chromium into a Debian root",
    ("chromium", "fonts-dejavu-core", "fonts-inter"),
)

# checkpatch and the kernel's clang-format settings come with the kernel's source
# alone, of which nothing else is kept.
_FETCH_KERNEL_SCRIPTS = """set -e
chroot "$1" sh -ec '
cd /var/tmp
apt-get -q download linux-source-6.12
dpkg-deb -x linux-source-6.12_*.deb source
mkdir /linux
tar -xJf source/usr/src/linux-source-6.12.tar.xz -C /linux --strip-components=1 --wildcards \\
  "*/scripts/checkpatch.pl" "*/scripts/spelling.txt" "*/scripts/const_structs.checkpatch" \\
  "*/.clang-format"
rm -rf linux-source-6.12_*.deb source
'
"""

LINT = Root(
    "lint",
    "fetching the linters",
    (
        "clang-format",
        "gcc",
        "libc6-dev",
        "libglib2.0-dev",
        "perl",
        "pkg-config",
        "shellcheck",
        "shfmt",
        "sparse",
        "xz-utils",
    ),
    hook=_FETCH_KERNEL_SCRIPTS,
)


def run_logged(command: list[str], what: str, cwd: Path | None = None) -> str:
    """Run a command whose output matters only when it fails; return that output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise SetupFailed(f"{what} failed ({command[0]} exited with {done.returncode}):\n{tail}")
    return done.stdout


# In a mount namespace of its own, so that nothing stays mounted however this ends. objtool
# reads /proc (Linux 7.3 tools/objtool/signal.c).
_CHROOT = """mount -t proc proc "$0/proc"
[ -z "$2" ] || mount --bind "$2" "$0/mnt"
exec chroot "$0" /bin/sh -ec "$1"
"""


def program(root: Path, name: str) -> tuple[str, ...]:
    """How to begin the command line of a program of a root, with the libraries of that root."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "lib64/ld-linux-x86-64.so.2"
    return (str(loader), "--library-path", str(libraries), str(root / "usr/bin" / name))


def chroot(root: Path, script: str, what: str, mnt: Path | None = None) -> str:
    """Run a shell script inside a root, as root; ``mnt`` is a folder that it finds at /mnt."""
    command = [*cache.as_root(), "unshare", "--mount", "--", "/bin/sh", "-ec", _CHROOT]
    return run_logged([*command, str(root), script, str(mnt or "")], what)
