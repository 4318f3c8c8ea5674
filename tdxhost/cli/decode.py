# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost decode: a completion status, an MSR value, or any kernel log, in words."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdxhost.cli.decode_documents import log_document, msr_document, status_document
from tdxhost.cli.decode_tables import log_blocks, msr_blocks, status_blocks
from tdxhost.cli.tables import Block, show
from tdxhost.decode import Decoder, Value, parse_cpuid, parse_leaf, parse_number
from tdxhost.errors import DriverDenied, ExitCode, NotRead, Usage, Why
from tdxhost.klog.diagnoser import Diagnoser
from tdxhost.klog.input import Readable, log_blocks_of

if TYPE_CHECKING:
    from tdxhost.cli.context import Context
    from tdxhost.documents import Document
    from tdxhost.host import Host
    from tdxhost.klog.diagnosis import Diagnosis

DESCRIPTION = """\
Says what a completion status means, with the leaf, the registers and the value of the MSR
that it names where they are given; or what a kernel log (dmesg, journalctl, syslog, in any
format) shows about TDX, and what to do about it. Needs neither driver, root nor TDX."""
EPILOG = """\
examples:
  tdxhost decode 0xc00009200000010a --leaf TDH.SYS.LP.INIT --value 0x20fc6b
  tdxhost decode 0xc000090200000000 --leaf 35 --rcx 7 --rdx 0 --r8 0x10000000
  tdxhost decode kern.log
  journalctl -k -b | tdxhost decode -
  tdxhost decode --msr 0x982=0xf001600000003"""

OPTION_REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")
REGISTERS = {*OPTION_REGISTERS, "rbx", "rsi", "rdi", "r12", "r13", "r14", "r15"}
#: What people copy out of a log without the 0x.
BARE_STATUS = re.compile(r"[0-9a-f]{16}", re.IGNORECASE)
WORD = 1 << 64
#: Negative numbers up to this are errnos of the kernel, not statuses.
LAST_ERRNO = -4095


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A status or a log, and what belongs to a status."""
    parser.epilog = EPILOG
    parser.add_argument(
        "subject",
        nargs="?",
        metavar="STATUS|FILE",
        help="a status (hex or decimal), a log file, or - for standard input",
    )
    from tdxhost.cli.context import add_from

    add_from(parser)
    parser.add_argument("--dmesg", action="store_true", help="decode this machine's kernel log")
    parser.add_argument("--leaf", help="the leaf that gave the status: 33, 0x21 or TDH.SYS.INIT")
    for name in OPTION_REGISTERS:
        parser.add_argument(f"--{name}", metavar="N", help=argparse.SUPPRESS)
    parser.add_argument(
        "--reg",
        action="append",
        default=[],
        metavar="NAME=N",
        help="an output register of the call, such as rcx=0x7; also --rcx N to --r11 N",
    )
    parser.add_argument(
        "--value",
        metavar="V",
        help="what the MSR that the status names reads; for CPUID: EAX,EBX,ECX,EDX",
    )
    parser.add_argument(
        "--msr",
        action="append",
        default=[],
        metavar="ADDRESS=V",
        help="show an MSR's value bit by bit, and what is wrong with it",
    )


def run(context: Context) -> ExitCode:
    """Decodes what was asked for."""
    arguments = context.arguments
    status = None if arguments.subject is None else parse_status(arguments.subject)
    if arguments.msr:
        return _run_msrs(arguments)
    if status is not None:
        return _run_status(arguments, status)
    if given := _status_options(arguments):
        raise Usage(f"{given} goes with a status", "Such as: tdxhost decode 0xc000090000000000")
    diagnosis = _diagnose(context)
    _write(
        arguments.format,
        lambda: log_document(diagnosis),
        lambda: log_blocks(diagnosis, whole=bool(arguments.verbose)),
    )
    return ExitCode.FAILED if diagnosis.failed else ExitCode.OK


def _diagnose(context: Context) -> Diagnosis:
    """What the log that was asked for shows: this host's, a recorded one's, a file's."""
    arguments = context.arguments
    if arguments.dmesg or arguments.recording:
        return Diagnoser().diagnose(_kernel_log(context.host))
    if arguments.subject is None and sys.stdin.isatty():
        raise Usage("nothing to decode: no status, no file", "See: tdxhost decode --help")
    if arguments.subject in (None, "-"):
        return Diagnoser().diagnose_blocks(log_blocks_of(_standard_input()))
    return _of_file(arguments.subject)


def parse_status(text: str) -> int | None:
    """Reads a status as people have it; None for what is no number. Usage for an errno."""
    if BARE_STATUS.fullmatch(text):
        return int(text, 16)
    number = parse_number(text.removeprefix("-"))
    if number is None or not text.startswith("-"):
        return number
    if -number >= LAST_ERRNO:
        raise Usage(f"{text} is an errno of the kernel's, and no status of the TDX module's")
    return -number % WORD


def _kernel_log(host: Host) -> Iterable[str]:
    try:
        return host.log()
    except NotRead as error:
        if error.why is not Why.DENIED:
            raise
        hint = "Try: sudo tdxhost decode --dmesg, or: sudo journalctl -k -b | tdxhost decode -"
        raise DriverDenied(error.message, hint) from error


def _standard_input() -> Readable:
    """Standard input as bytes; it has read1(), whatever its declared type says."""
    stream: Any = sys.stdin.buffer
    readable: Readable = stream
    return readable


def _of_file(name: str) -> Diagnosis:
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - what goes wrong later is another matter
    except OSError as error:
        if any(character.isspace() for character in name):
            # A line that was pasted from a log.
            return Diagnoser().diagnose(name.splitlines())
        hint = "A status is given in hex or decimal, such as 0xc000090000000000."
        raise Usage(f"{name}: neither a status nor a file: {error.strerror}", hint) from error
    except ValueError as error:
        raise Usage(f"neither a status nor a file: {error}") from error
    with file:
        return Diagnoser().diagnose_blocks(log_blocks_of(file))


def _status_options(arguments: argparse.Namespace) -> str:
    names = ("leaf", "value", "reg", *OPTION_REGISTERS)
    return next((f"--{name}" for name in names if getattr(arguments, name)), "")


def _run_status(arguments: argparse.Namespace, status: int) -> ExitCode:
    explained = Decoder().explain(
        status, _leaf(arguments.leaf), registers_of(arguments), _value(arguments.value)
    )
    _write(arguments.format, lambda: status_document(explained), lambda: status_blocks(explained))
    return ExitCode.OK if explained.is_known else ExitCode.FAILED


def _run_msrs(arguments: argparse.Namespace) -> ExitCode:
    decoder = Decoder()
    names = {msr.name: msr.address for msr in decoder.msrs.by_address.values()}
    shown = []
    for text in arguments.msr:
        address, _, value = text.partition("=")
        number = names.get(address.upper(), parse_number(address))
        if number is None:
            raise Usage(
                f"--msr {text}: {address} is no MSR", "Such as: --msr 0x982=0xf001600000003"
            )
        shown.append((decoder.msrs.get(number), _number("--msr", value)))
    _write(arguments.format, lambda: msr_document(shown), lambda: msr_blocks(shown))
    is_wrong = any(msr.wrong(value) for msr, value in shown)
    return ExitCode.FAILED if is_wrong else ExitCode.OK


def _leaf(text: str | None) -> int | None:
    if text is None:
        return None
    leaf = parse_leaf(text)
    if leaf is None:
        raise Usage(f"--leaf {text}: there is no such leaf", "Such as: 33, 0x21, TDH.SYS.INIT")
    return leaf


def registers_of(arguments: argparse.Namespace) -> dict[str, int]:
    """The output registers that were given."""
    found = {
        name: _number(f"--{name}", getattr(arguments, name))
        for name in OPTION_REGISTERS
        if getattr(arguments, name) is not None
    }
    for text in arguments.reg:
        name, _, value = text.partition("=")
        plain = re.sub("^r0(?=[89]$)", "r", name.lower())
        if plain not in REGISTERS:
            raise Usage(f"--reg {text}: {name} is no register", "Such as: --reg rcx=0x7")
        found[plain] = _number("--reg", value)
    return found


def _value(text: str | None) -> Value | None:
    if text is None:
        return None
    return parse_cpuid(text) or _number("--value", text)


def _number(option: str, text: str) -> int:
    number = parse_number(text)
    if number is None:
        hint = "Hex is written with 0x, which rdmsr leaves out; 64 bits at most."
        raise Usage(f"{option}: {text or 'nothing'} is no number", hint)
    return number


def _write(form: str, document: Callable[[], Document], blocks: Callable[[], list[Block]]) -> None:
    if form == "table":
        show(blocks())
        return
    from tdxhost.cli.context import write_document

    write_document(document(), form)
