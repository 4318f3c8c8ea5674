# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine and its times: what makes their tests fail."""

from __future__ import annotations

from tests.vm.pairs.pair import Pair, table
from vtdx.vm.build import Edit

# The driver calls what enables a CPU once; LATER is what the CPUs from a number on do first.
ENABLING = "\tret = enable_in_vmx(request, attempt);\n"
LATER = """\
	if (smp_processor_id() >= {}) {{
		u64 end = ktime_get_ns() + 300 * NSEC_PER_MSEC;

		while (ktime_get_ns() < end)
			cpu_relax();
	}}
"""
FORWARDS = {"cpus.enable": {"order": "forwards"}}


def slow_from(cpu: int) -> Edit:
    """CPUs from this one on take 0.3 s."""
    return Edit("cpu.c", ENABLING, LATER.format(cpu) + ENABLING)


PAIRS = table(
    Pair(
        why="seam-range-off-on-a-cpu",
        says=r"^firmware\.seamrr: .*0xffffffe000400 on CPU 3\n",
        steps=("machine.able",),
        faults=("RDMSR:0x1401 cpu=3 value=0xffffffe000400",),
    ),
    Pair(
        why="a-cpu-is-lost",
        says=r"^online CPUs: 4 expected, 3 found\nRun",
        steps=("machine.matches",),
        plan={"machine": {"packages": 2, "cpus": 4, "keyids": 32, "memory": "3 GiB"}},
        before="echo 0 > /sys/devices/system/cpu/cpu3/online",
    ),
    Pair(
        why="another-module",
        says=r"^version of the TDX module: >=1\.5\.99 expected, 1\.5\.16 found\nRun",
        steps=("enable.all", "machine.matches"),
        plan={"machine": {"module": ">=1.5.99"}},
    ),
    Pair(
        why="a-slow-cpu",
        says=r"^1 of 4 CPUs took longer than 200 ms .*\nCPU 3 \(package 1\): 3\d\d ms\nRun",
        steps=(FORWARDS, "time.lp-init"),
        edits=(slow_from(3),),
        plan={"limits": {"lp_init": "200ms"}},
    ),
    Pair(
        why="a-slow-package",
        says=r"^CPU [23] \(package 1\) took 3\d\d ms .*, CPU 1 \(package 0\) .* at most 200 ms",
        steps=(FORWARDS, "time.spread"),
        edits=(slow_from(2),),
        plan={"limits": {"spread": "200ms"}},
    ),
    Pair(
        why="a-slow-bring-up",
        says=r"^bring-up took .*at most 1 ms expected; its longest steps: (\w+ [\d.]+ \w+(, )?){3}",
        steps=("enable.all", "time.total"),
        plan={"limits": {"total": "1ms"}},
    ),
)
