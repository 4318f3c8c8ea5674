# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of scripts/vm."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from pathlib import Path

from vtdx.vm import kernels, platform
from vtdx.vm.errors import DeadlinePassed, VmError
from vtdx.vm.machine import Machine, Spec

DEFAULT_PLATFORM = "spr-2s"

# Where the files of --put are.
PUT = "/root"

EXIT_USAGE = 2
EXIT_DEADLINE = 124
EXIT_MACHINE = 125
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# Where a bzImage says what it is (Linux Documentation/arch/x86/boot.rst).
_BZIMAGE_MAGIC_AT = 0x202
_BZIMAGE_MAGIC = b"HdrS"

# As the terminal's driver keeps them.
_MOST_CHARACTERS = (1 << 16) - 1

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
    which = f"{names}, or the path of a bzImage"
    add("--kernel", metavar="K", default=kernels.default(), help=which)
    add("--platform", metavar="P", default=DEFAULT_PLATFORM, help="a shipped platform or a file")
    add("--list", action="store_true", help="list the shipped platforms and exit")
    add("--smp", metavar="N", type=_count, help="CPUs, shared out over the platform's sockets")
    add("--mem", metavar="SIZE", help="memory, shared out over the platform's nodes (8G)")
    add("--fault", metavar="SPEC", action="append", default=[], help="a fault; see vtdx/README.md")
    add("--seam", metavar="LIB", type=Path, help="another implementation of the seam ABI")
    add("--log", metavar="FILE", type=Path, help="every SEAMCALL and VMX transition, JSON lines")
    add("--console", metavar="FILE", type=Path, help="the kernel's console")
    add("--append", metavar="ARGS", default="", help="more words for the kernel's command line")
    add(
        "--put",
        metavar="PATH",
        type=Path,
        action="append",
        default=[],
        help=f"a file or folder that the machine gets too, in {PUT}",
    )
    add("--no-driver", action="store_true", help="do not load the driver")
    add("--timeout", metavar="S", type=_seconds, help="overall limit in seconds, from the boot on")
    add(
        "--terminal",
        metavar="COLSxLINES",
        type=_terminal,
        help="give COMMAND a terminal of that size",
    )
    add("command", nargs="*", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run scripts/vm; the exit status."""
    if sys.stdout is None:
        # The caller closed it: scripts/vm -- COMMAND >&-
        _discard_output()
    try:
        return _flushed(argv)
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except DeadlinePassed as error:
        print(f"vm: {error}", file=sys.stderr)
        return EXIT_DEADLINE
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return EXIT_MACHINE
    except OSError as error:
        _discard_output()
        print(f"vm: unexpected error: {error}", file=sys.stderr)
        return EXIT_MACHINE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _flushed(argv: list[str] | None) -> int:
    """Do as told; output that can't be written shows here, not when Python exits."""
    try:
        return _dispatch(parser().parse_args(argv))
    finally:
        sys.stdout.flush()


def _dispatch(options: argparse.Namespace) -> int:
    if options.list:
        _list_platforms()
        return 0
    if not options.command:
        parser().error("no COMMAND: write it behind --, as in: scripts/vm -- tdxhost status")
    # Leaving by an exception takes QEMU along, whatever asks us to leave.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    return _run(options)


def _discard_output() -> None:
    """Replace standard output; what is still buffered is lost, and Python does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = os.fdopen(nowhere, "w")
    else:
        os.dup2(nowhere, sys.stdout.fileno())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _list_platforms() -> None:
    for name in platform.shipped():
        if not name.endswith("-base"):
            print(f"{name:20} {platform.load(name).summary}")


def _run(options: argparse.Namespace) -> int:
    spec = _spec(options)
    with Machine(spec, options.timeout) as machine:
        _check_driver(machine)
        return machine.run(options.command, terminal=options.terminal, output=_pass_on).status


def _check_driver(machine: Machine) -> None:
    """Say so when the driver did not load; the command still runs, to see why."""
    said = machine.hello["driver"]
    if machine.spec.driver and said != "loaded":
        print(f"vm: the driver did not load: {said}", file=sys.stderr)


def _pass_on(kind: str, data: bytes) -> None:
    stream = sys.stdout.buffer if kind == "O" else sys.stderr.buffer
    stream.write(data)
    stream.flush()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{platform.told(text)} is not a number of CPUs")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{platform.told(text)} is not a number of seconds")
    return seconds


def _terminal(text: str) -> tuple[int, int]:
    columns, _, lines = text.partition("x")
    sizes = [int(word) if word.isascii() and word.isdigit() else 0 for word in (columns, lines)]
    if not all(0 < size <= _MOST_CHARACTERS for size in sizes):
        raise argparse.ArgumentTypeError(f"{platform.told(text)}: write COLSxLINES, such as 80x24")
    return sizes[0], sizes[1]


def _check_files(options: argparse.Namespace) -> None:
    """Files that the options name, before anything is built or booted."""
    try:
        _check_kernel(options.kernel)
        _check_output("--log", options.log)
        _check_output("--console", options.console)
        if options.seam is not None and not options.seam.is_file():
            parser().error(f"--seam {options.seam}: no such file")
    except OSError as error:
        parser().error(f"{platform.told(str(error.filename))}: {error.strerror}")


def _put(paths: list[Path]) -> dict[str, Path]:
    """Files that are put into the machine: path there to file here."""
    files: dict[str, Path] = {}
    for path in map(Path.resolve, paths):
        if not path.exists():
            parser().error(f"--put {path}: no such file")
        found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        files |= {f"{PUT}/{one.relative_to(path.parent)}": one for one in found}
    return files


def _check_kernel(name: str) -> None:
    if name in kernels.releases():
        return
    if not Path(name).is_file():
        known = ", ".join(kernels.releases())
        parser().error(f"--kernel {platform.told(name)}: neither a file nor one of {known}")
    with Path(name).open("rb") as file:
        file.seek(_BZIMAGE_MAGIC_AT)
        if file.read(len(_BZIMAGE_MAGIC)) != _BZIMAGE_MAGIC:
            parser().error(f"--kernel {name}: is not a bzImage")


def _check_output(option: str, path: Path | None) -> None:
    """A file that is to be written can be, as far as that shows without touching it."""
    if path is None:
        return
    if path.is_dir():
        parser().error(f"{option} {path}: is a folder")
    if not path.parent.is_dir():
        parser().error(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        parser().error(f"{option} {path}: can't be written")


def _spec(options: argparse.Namespace) -> Spec:
    _check_files(options)
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
    return Spec(
        platform=machine,
        kernel=options.kernel,
        driver=not options.no_driver,
        append=options.append,
        seam=options.seam and options.seam.resolve(),
        log=options.log,
        console=options.console,
        extra=_put(options.put),
    )
