# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmarks by name, each with its goals."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench import bring_up, calls, cli, emulator, scale
from tests.bench.machines import Size
from tests.bench.result import Check, Picture, Section

GIB, MS = 1 << 30, 1e6
MANY = Size(cpus=16, gib=16)


def cpus_at_once() -> Section:
    """TDH.SYS.LP.INIT on 32 CPUs."""
    found = bring_up.cpus_at_once(32)
    check = Check("32 CPUs enabled at once, against one LP.INIT", found.of_one, 1.5)
    pictures = Picture(
        "cpus",
        "Enabling 32 CPUs, in times of one TDH.SYS.LP.INIT",
        (("one after another", 32.0), ("CPUS_ENABLE", found.of_one), ("one LP.INIT", 1.0)),
    )
    title = f"CPUs side by side ({found.scale} times a Xeon's 2 ms)"
    return Section(title, (check,), found, (pictures,))


def tdmrs_at_once() -> Section:
    """TDH.SYS.TDMR.INIT of 16 TDMRs on 16 CPUs, and bring-up around it."""
    found = bring_up.tdmrs_at_once(MANY)
    ways = Check(f"{MANY}: TDMRs against one after another", found.faster, 0.8 * 16, at_least=True)
    total = Check(f"{MANY}: bring-up against its critical path", found.of_critical_path, 1.15)
    picture = Picture(
        "tdmrs",
        f"TDH.SYS.TDMR.INIT of {MANY}, in ms",
        (
            ("one after another", found.one_by_one_ns / MS),
            ("side by side", found.step_ns / MS),
            ("the longest TDMR", found.one_by_one_ns / MS / found.tdmrs),
        ),
    )
    title = f"TDMRs side by side ({found.scale} times a Xeon's 3.5 ms for a GiB)"
    return Section(title, (ways, total), found, (picture,))


def against_upstream() -> Section:
    """Linux 6.12 with tdx_enable(), and the direct engine."""
    found = bring_up.against_upstream(MANY)
    checks = (
        Check(f"{MANY}: direct engine against the kernel's own", found.faster, 2.0, at_least=True),
        Check("Provider kernel beside the kernel's tdx_enable()", found.added, 0.05),
    )
    bars = (("kernel", found.upstream_ns / MS), ("direct", found.direct_ns / MS))
    picture = Picture("upstream", f"Bring-up of {MANY}, in ms", bars)
    title = f"Against Linux's tdx_enable() ({found.scale} times a Xeon's latencies)"
    return Section(title, checks, found, (picture,))


def device_calls() -> Section:
    """What calls of the device cost."""
    found, here = calls.calls(), calls.host_sweep()
    floor = found.unknown_ns / found.getppid_ns
    note = f"an ioctl that the driver does not have takes {floor:.2f}"
    beside = f"in the guest {found.python_sweep:.1f} times a C program's"
    checks = (
        Check("GET_STATUS against getppid()", found.get_status, 2.0, note=note),
        Check("CPU_ENABLE where done, against GET_STATUS", found.cpu_enable, 1.5),
        Check(
            "What Python adds to a CPU of a sweep, here", here.added_us, 20, unit=" us", note=beside
        ),
    )
    return Section("Calls", checks, (found, here))


def command_line() -> Section:
    """Start-up, and how fast a log is decoded."""
    start = cli.start_up()
    with tempfile.TemporaryDirectory() as folder:
        rate = cli.decode_rate(Path(folder))
    growth = rate.whole.peak_bytes / rate.quarter.peak_bytes
    modules = f"argparse and dataclasses alone take {start.modules_ratio:.2f}"
    checks = (
        Check("tdxhost --help against python3 -c pass", start.help_ratio, 2.5),
        Check("tdxhost status against it, without a driver", start.status_ratio, 2.5),
        Check("tdxhost status against it, with one", start.answered_ratio, 2.5, note=modules),
        Check("decode of 100 MB", rate.whole.mb_per_s, 50, at_least=True, unit=" MB/s"),
        Check("decode, memory at 100 MB against a quarter", growth, 1.1),
    )
    return Section("Command line", checks, (start, rate))


def virtual_xeon() -> Section:
    """What the emulator itself costs."""
    cost, boots = emulator.seamcall_cost(), emulator.boot_ratio()
    growth = emulator.memory_growth()
    note = f"the plugin's part {cost.own_ns:.0f} ns, QEMU's {cost.answered_ns:.0f} ns"
    checks = (
        Check(
            "An emulated SEAMCALL in a guest's loop", cost.seamcall_ns, 1000, unit=" ns", note=note
        ),
        Check("Boot with the plugin against one without", boots.cpu, 1.1),
        Check("Memory that a SEAMCALL leaves behind", growth.bytes_per_call, 1, unit=" B"),
    )
    return Section("vtdx", checks, (cost, boots, growth))


def sizes() -> Section:
    """Sizes that were run, and those past them."""
    found = scale.scale()
    check = Check("TDMR.INIT by GiB, against the modelled time", found.of_modelled, 1.15)
    cpus = Picture(
        "scale-cpus",
        "Enabling CPUs, the emulator's own time in ms",
        tuple((f"{number} CPUs", ns / MS) for number, ns in found.cpus),
    )
    gibs = Picture(
        "scale-gib",
        f"TDH.SYS.TDMR.INIT on {scale.FEW_CPUS} CPUs at {scale.SCALE} times a Xeon's time, in ms",
        tuple((f"{one.gib} GiB", one.step_ns / MS) for one in found.gibs),
    )
    forecasts = [_row(scale.forecast(size, found)) for size in scale.SIZES]
    return Section("Scale", (check,), found, (cpus, gibs), (FORECAST, *forecasts))


FORECAST = (
    "Size",
    "Largest TDMR",
    "TDMR.INIT",
    "PAMTs",
    "in one piece",
    "GET_CPUS",
    "Interrupts",
    "CPUS_ENABLE, emulated",
    "Bound by",
)


def _row(told: scale.Forecast) -> tuple[str, ...]:
    return (
        f"{told.size.nodes} {'socket' if told.size.nodes == 1 else 'sockets'}, {told.size}",
        f"{told.largest_tdmr_gib} GiB",
        f"{told.tdmr_init_ns / MS:.0f} ms",
        f"{told.pamt_bytes / GIB:.1f} GiB",
        f"{told.pamt_piece_bytes / GIB:.2f} GiB",
        f"{told.results_bytes / 1024:.1f} KiB",
        f"{told.interrupts}",
        f"{told.interrupt_ns / MS:.0f} ms",
        told.limit,
    )


SECTIONS: Mapping[str, Callable[[], Section]] = {
    "cpus": cpus_at_once,
    "tdmrs": tdmrs_at_once,
    "upstream": against_upstream,
    "calls": device_calls,
    "cli": command_line,
    "vtdx": virtual_xeon,
    "scale": sizes,
}
