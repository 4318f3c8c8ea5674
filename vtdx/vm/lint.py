# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole tree against the project's style: scripts/lint.

Tools of one release, from a Debian root and from the Python environment, so
that every machine says the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vtdx.vm import build, kernels, roots
from vtdx.vm.errors import SetupFailed

# Kernel rules that make no sense in user space, where the names of the C library
# and of GLib are the right ones.
_USER_SPACE_IGNORES = (
    "CAMELCASE,PREFER_KERNEL_TYPES,AVOID_BUG,CONSTANT_COMPARISON,NEW_TYPEDEFS,FILE_PATH_CHANGES"
)

# The tracepoint macros are laid out as kernel headers lay them out.
_NOT_FORMATTED = {"trace.h"}

_C_SCRIPT = """
cd {tree}
cp /linux/.clang-format .
sed -i 's/^ColumnLimit:.*/ColumnLimit: 100/' .clang-format
status=0
clang-format --dry-run -Werror {formatted} || status=1
checkpatch="perl /linux/scripts/checkpatch.pl --no-tree --no-summary --terse --strict"
checkpatch="$checkpatch --max-line-length=100"
{checkpatch_kernel}
{checkpatch_user}
for file in {user}; do
  case $file in
  *.c) sparse -Wsparse-error -Wno-unknown-attribute -Wno-declaration-after-statement \\
    $(pkg-config --cflags glib-2.0) -std=gnu11 $file || status=1 ;;
  esac
done
exit $status
"""

_SHELL_SCRIPT = """
cd {tree}
status=0
shellcheck -x {files} || status=1
shfmt -ln bash -d {files} || status=1
exit $status
"""


def _tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(
        command, cwd=build.PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [name for name in listed if (build.PROJECT / name).is_file()]


def _in_root(files: list[str], script: str) -> None:
    """Run a script in the linters' root on a copy of the files, at {tree}."""
    root = roots.LINT.path()
    with build.scratch_folder(root / "var/tmp") as tree:
        build.copy([build.PROJECT / name for name in files], tree)
        inside = Path("/") / tree.relative_to(root)
        roots.chroot(root, script.replace("{tree}", str(inside)), "lint")


def check_python() -> None:
    """ruff, its formatter, mypy --strict."""
    known = ("tdxhost", "vtdx", "tests", "scripts", "setup.py")
    places = [name for name in known if (build.PROJECT / name).exists()]
    tools = (
        ["ruff", "check", "-q", *places],
        ["ruff", "format", "-q", "--check", *places],
        ["mypy", "--no-error-summary", *places],
    )
    for command in tools:
        roots.run_logged([sys.executable, "-m", *command], command[0], build.PROJECT)


def check_c() -> None:
    """clang-format, checkpatch --strict, sparse on what runs in user space."""
    files = _tracked("*.c", "*.h")
    kernel = [name for name in files if name.startswith("kmod/")]
    user = [name for name in files if name.startswith("vtdx/")]
    formatted = [name for name in kernel + user if Path(name).name not in _NOT_FORMATTED]

    def checkpatch(names: list[str], options: str) -> str:
        return f"$checkpatch {options} -f {' '.join(names)} || status=1" if names else ""

    script = _C_SCRIPT.format(
        tree="{tree}",
        formatted=" ".join(formatted),
        user=" ".join(user),
        checkpatch_kernel=checkpatch(kernel, ""),
        checkpatch_user=checkpatch(user, f"--ignore {_USER_SPACE_IGNORES}"),
    )
    _in_root(files, script)


def check_driver() -> None:
    """The driver under W=1 and sparse, without a warning."""
    build.driver(kernels.find(kernels.DEFAULT), "W=1 C=1")


def check_shell() -> None:
    """shellcheck and shfmt."""
    scripts = [
        name
        for name in _tracked("scripts", "vtdx/vm/guest/init*", ".ci/run")
        if not name.endswith((".py", ".yaml")) and _is_shell(build.PROJECT / name)
    ]
    _in_root(scripts, _SHELL_SCRIPT.replace("{files}", " ".join(scripts)))


def _is_shell(file: Path) -> bool:
    """What is run by a shell, or a library for one, which begins with its licence."""
    return file.read_bytes().startswith((b"#!/bin/bash", b"#!/bin/sh", b"# SPDX"))


def check_licences() -> None:
    """An SPDX line in every source file."""
    suffixes = ("c", "h", "py", "toml", "yaml", "ini", "config")
    patterns = [f"*.{suffix}" for suffix in suffixes] + ["*Makefile", "*Kbuild", "scripts"]
    bare = [
        name
        for name in _tracked(*patterns)
        if b"SPDX-License-Identifier: GPL-2.0" not in (build.PROJECT / name).read_bytes()[:300]
    ]
    if bare:
        raise SetupFailed("These files lack an SPDX line:\n" + "\n".join(bare))


CHECKS: dict[str, Callable[[], None]] = {
    "licences": check_licences,
    "python": check_python,
    "shell": check_shell,
    "c": check_c,
    "driver": check_driver,
}


def main(names: list[str]) -> int:
    """Run the checks named, or all; 1 when one finds something."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"lint: no check {unknown[0]!r}; there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    status = 0
    for name in names or CHECKS:
        try:
            CHECKS[name]()
        except SetupFailed as error:
            print(f"lint {name}: {error}", file=sys.stderr)
            status = 1
        else:
            print(f"lint {name}: clean")
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
