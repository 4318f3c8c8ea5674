# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of scripts/vm."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from vtdx.vm import kernels, platform
from vtdx.vm.errors import DeadlinePassed, VmError
from vtdx.vm.machine import Machine, Spec

DEFAULT_PLATFORM = "spr-2s"

EXIT_USAGE = 2
EXIT_DEADLINE = 124
EXIT_MACHINE = 125

_DESCRIPTION = """\
Boot a virtual TDX host, run COMMAND in it as root with the driver loaded and
tdxhost installed, print what it prints, and exit as it exits. What is missing
(QEMU, a kernel, the guest, the project's own parts) is fetched and built first,
with progress on standard error.
"""

_EPILOG = """\
exit status: that of COMMAND; 124 when --timeout came first; 125 when the machine
did not come up, or went away; 130 on Ctrl-C; 2 for a wrong option.
"""


def parser() -> argparse.ArgumentParser:
    """The options of scripts/vm."""
    parser = argparse.ArgumentParser(
        prog="scripts/vm",
        usage="%(prog)s [options] -- COMMAND...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = ", ".join(kernels.releases())
    add("--kernel", metavar="K", default=kernels.DEFAULT, help=f"{names}, or the path of a bzImage")
    add("--platform", metavar="P", default=DEFAULT_PLATFORM, help="a shipped platform or a file")
    add("--list", action="store_true", help="list the shipped platforms and exit")
    add("--smp", metavar="N", type=int, help="CPUs, shared out over the platform's sockets")
    add("--mem", metavar="SIZE", help="memory, shared out over the platform's nodes (8G)")
    add("--fault", metavar="SPEC", action="append", default=[], help="a fault; see vtdx/README.md")
    add("--seam", metavar="LIB", type=Path, help="another implementation of the seam ABI")
    add("--log", metavar="FILE", type=Path, help="every SEAMCALL and VMX transition, JSON lines")
    add("--console", metavar="FILE", type=Path, help="the kernel's console")
    add("--append", metavar="ARGS", default="", help="more words for the kernel's command line")
    add("--no-driver", action="store_true", help="do not load the driver")
    add("--timeout", metavar="S", type=float, help="overall limit in seconds, from the boot on")
    add("--terminal", metavar="COLSxLINES", help="give COMMAND a terminal of that size")
    add("command", nargs="*", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run scripts/vm; the exit status."""
    options = parser().parse_args(argv)
    if options.list:
        _list_platforms()
        return 0
    if not options.command:
        parser().error("no COMMAND: write it behind --, as in: scripts/vm -- tdxhost status")
    # Leaving by an exception takes QEMU along, whatever asks us to leave.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return _run(options)
    except DeadlinePassed as error:
        print(f"vm: {error}", file=sys.stderr)
        return EXIT_DEADLINE
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return EXIT_MACHINE
    except KeyboardInterrupt:
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _list_platforms() -> None:
    for name in platform.shipped():
        if not name.endswith("-base"):
            print(f"{name:16} {platform.load(name).summary}")


def _run(options: argparse.Namespace) -> int:
    spec = _spec(options)
    with Machine(spec, options.timeout) as machine:
        _check_driver(machine)
        terminal = _terminal(options.terminal)
        return machine.run(options.command, terminal=terminal, output=_pass_on).status


def _check_driver(machine: Machine) -> None:
    """Say so when the driver did not load; the command still runs, to see why."""
    said = machine.hello["driver"]
    if machine.spec.driver and said != "loaded":
        print(f"vm: the driver did not load: {said}", file=sys.stderr)


def _pass_on(kind: str, data: bytes) -> None:
    stream = sys.stdout.buffer if kind == "O" else sys.stderr.buffer
    stream.write(data)
    stream.flush()


def _terminal(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    columns, _, lines = text.partition("x")
    if not (columns.isdigit() and lines.isdigit()):
        parser().error(f"--terminal {text}: write COLSxLINES, such as 80x24")
    return int(columns), int(lines)


def _spec(options: argparse.Namespace) -> Spec:
    try:
        memory_bytes = None if options.mem is None else platform.parse_size(options.mem)
        machine = platform.load(
            options.platform,
            cpus=options.smp,
            memory_bytes=memory_bytes,
            faults=tuple(options.fault),
        )
    except VmError as error:
        parser().error(str(error))
    if options.seam is not None and not options.seam.is_file():
        parser().error(f"--seam {options.seam}: no such file")
    return Spec(
        platform=machine,
        kernel=options.kernel,
        driver=not options.no_driver,
        append=options.append,
        seam=options.seam and options.seam.resolve(),
        log=options.log,
        console=options.console,
    )
