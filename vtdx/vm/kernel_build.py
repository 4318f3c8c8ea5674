# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of scripts/kernel-build: unmodified upstream kernels with TDX host support."""

from __future__ import annotations

import argparse
import signal
import sys

from vtdx.vm import kernels
from vtdx.vm.errors import VmError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_DESCRIPTION = """\
Build kernels from Debian's own linux-source packages, nothing patched, with a small
configuration that has INTEL_TDX_HOST on, and print where each image is. What was
built is kept for scripts/vm --kernel NAME and the tests. The first time takes some
minutes a kernel.
"""


def parser() -> argparse.ArgumentParser:
    """The options of scripts/kernel-build."""
    parser = argparse.ArgumentParser(
        prog="scripts/kernel-build",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = kernels.built()
    parser.add_argument("names", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run scripts/kernel-build; the exit status."""
    names = parser().parse_args(argv).names
    # Leaving by an exception takes the half-made root along.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        for name in names:
            print(kernels.find(name).image, flush=True)
    except VmError as error:
        print(f"kernel-build: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
