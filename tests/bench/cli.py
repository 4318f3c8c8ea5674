# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the command takes to start, and how fast it reads logs.

Start-up is a ratio to ``python3 -c pass`` by the same interpreter in the same environment, run
just before and after, so that a slow or busy machine is slow for both.
"""

import os
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
#: As pip writes it into an installation's bin folder.
ENTRY = "import re, sys; from tdxhost.cli.main import run; sys.exit(run())"
#: The same with a driver that answers, and has no CPUs: what status takes beside the driver.
ANSWERED = (
    "import fcntl, os, re, sys; from tdxhost import opening; fcntl.ioctl = lambda *_: 0; "
    "opening.open_device = lambda: os.open(os.devnull, os.O_RDONLY); "
    "from tdxhost.cli.main import run; sys.exit(run())"
)
MIB = 1 << 20
#: A line in so many is about TDX, in a log of a machine that works.
RARE = 20_000
OTHERS = (
    "usb 1-1: new high-speed USB device number 2 using xhci_hcd",
    "pci 0000:00:1f.0: BAR 0 [mem 0xfe000000-0xfe000fff] according to ACPI",
    "r8169 0000:02:00.0 eth0: link is up, driver version 2.3",
    "systemd[1]: Started Journal Service for the memory of this machine.",
)
FAILURE = "virt/tdx: SEAMCALL (0x0000000000000023) failed: 0xc00009200000010a"


@dataclass(frozen=True, slots=True)
class StartUp:
    """Start-up of tdxhost; ratios are medians, of wall time, to python3 -c pass.

    status is that of this machine, which ends early where there is no driver; answered is status
    where a driver answers. modules are Python's own argparse and dataclasses, and nothing else.
    """

    python_s: float
    help_ratio: float
    status_ratio: float
    answered_ratio: float
    modules_ratio: float
    runs: int


@dataclass(frozen=True, slots=True)
class Decoding:
    """One log decoded by a process of its own, without the time that an empty one takes.

    seconds are of wall time, the rate is by processor time: others on the machine have no part
    in it. MB are 10^6 bytes.
    """

    log_bytes: int
    seconds: float
    mb_per_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class DecodeRate:
    """A log of one size and one of a quarter of it: with constant memory, peaks are the same."""

    quarter: Decoding
    whole: Decoding


def start_up(runs: int = 31, tdxhost: Sequence[str] = ()) -> StartUp:
    """Measures tdxhost --help and tdxhost status, each between two runs of python3 -c pass.

    tdxhost are the words of an installed command, whose interpreter is then that of its first
    line; without them it is this checkout by this interpreter, compiled beforehand.
    """
    python = _interpreter(tdxhost) if tdxhost else sys.executable
    command = tuple(tdxhost) or (python, "-c", ENTRY)
    environment = _environment(installed=bool(tdxhost))
    idle = (python, "-c", "pass")
    answered = (python, "-c", ANSWERED, "status")
    modules = (python, "-c", "import argparse, dataclasses")
    measured = ((*command, "--help"), (*command, "status"), answered, modules)
    ratios: dict[tuple[str, ...], list[float]] = {words: [] for words in measured}
    for words in ratios:
        _wall_s(words, environment)
    times = [_wall_s(idle, environment)]
    for _ in range(runs):
        for words, found in ratios.items():
            taken = _wall_s(words, environment)
            times.append(_wall_s(idle, environment))
            found.append(2 * taken / (times[-1] + times[-2]))
    helped, status, full, alone = map(statistics.median, ratios.values())
    return StartUp(statistics.median(times), helped, status, full, alone, runs)


def _interpreter(command: Sequence[str]) -> str:
    with Path(command[0]).open(encoding="utf-8") as file:
        return file.readline().removeprefix("#!").strip()


def _environment(*, installed: bool = False) -> dict[str, str]:
    """Compiled modules are kept, as installing does it; of this checkout not beside the sources."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if installed:
        return kept
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tdxhost/bench"
    version = sysconfig.get_python_version()
    return {**kept, "PYTHONPATH": str(PROJECT), "PYTHONPYCACHEPREFIX": str(cache / version)}


def _wall_s(words: Sequence[str], environment: dict[str, str]) -> float:
    """Seconds that a command takes; its exit code is its own business."""
    begin = time.perf_counter()
    subprocess.run(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return time.perf_counter() - begin


def decode_rate(folder: Path, size: int = 100 * MIB, *, failures: bool = False) -> DecodeRate:
    """Decodes a log of size bytes and one of a quarter of it; both are made in folder, and go.

    With failures each line says that a SEAMCALL failed; else next to none is about TDX.
    """
    quarter, whole = (_decoding(folder, part, failures) for part in (size // 4, size))
    return DecodeRate(quarter, whole)


def _decoding(folder: Path, size: int, failures: bool) -> Decoding:
    log, empty = folder / "bench.log", folder / "empty.log"
    try:
        empty.touch()
        with log.open("wb") as file:
            for block in _log(size, failures):
                file.write(block)
        _decode(empty)
        start = _decode(empty)
        whole = _decode(log)
        made = log.stat().st_size
    finally:
        log.unlink(missing_ok=True)
        empty.unlink(missing_ok=True)
    used_s = whole.processor_s - start.processor_s
    return Decoding(made, whole.wall_s - start.wall_s, made / used_s / 1e6, whole.peak_bytes)


@dataclass(frozen=True, slots=True)
class _Used:
    wall_s: float
    processor_s: float
    peak_bytes: int


def _decode(log: Path) -> _Used:
    """What tdxhost decode takes for a log."""
    words = (sys.executable, "-m", "tdxhost", "decode", "--format", "json", str(log))
    actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    begin = time.perf_counter()
    pid = os.posix_spawn(sys.executable, words, _environment(), file_actions=actions)
    _, _, used = os.wait4(pid, 0)
    wall = time.perf_counter() - begin
    return _Used(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def _log(size: int, failures: bool) -> Iterator[bytes]:
    """Blocks of lines as dmesg prints them."""
    written = number = 0
    while written < size:
        lines = []
        for _ in range(1000):
            number += 1
            about_tdx = failures or number % RARE == 0
            text = FAILURE if about_tdx else OTHERS[number % len(OTHERS)]
            lines.append(f"[{number / 1000:12.6f}] {text}\n")
        block = "".join(lines).encode()
        written += len(block)
        yield block
