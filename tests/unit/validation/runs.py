# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of a plan as they come out of a machine, to write and to compare."""

from dataclasses import replace
from typing import Any

from tdxhost.validation.result import (
    Evidence,
    FailedCall,
    Measured,
    Outcome,
    Run,
    TestResult,
    Unit,
)

HOST: dict[str, Any] = {
    "sys_vendor": "Intel Corporation",
    "product_name": "M50FCP2SBSTD",
    "board_name": "M50FCP2SBSTD",
    "bios_vendor": "Intel Corporation",
    "bios_version": "SE5C7411.86B.9535.D04",
    "bios_date": "04/19/2024",
    "cpu": "Intel(R) Xeon(R) Platinum 8592+",
    "signature": "06-cf-02",
    "generation": "Emerald Rapids",
    "microcode": [{"version": "0x21000240", "cpus": list(range(8))}],
    "hypervisor": False,
    "packages": 2,
    "cpus_present": 8,
    "cpus_online": 8,
    "kernel": "6.12.48",
    "provider": "direct",
    "module_version": "1.5.06",
}
PLAN = {"name": "standard", "about": "what a lab runs on every machine", "file": "standard.yaml"}
LP_INIT_NS = {
    0: 1_810_000,
    1: 612_000,
    2: 605_000,
    3: 618_000,
    4: 609_000,
    5: 1_204_000,
    6: 611_000,
    7: 615_000,
}
CALL = FailedCall(
    where="CPU 3",
    leaf="TDH.SYS.LP.INIT",
    status="0xc00009200000010a",
    name="TDX_INCONSISTENT_MSR",
    says="MSR 0x10a IA32_ARCH_CAPABILITIES differs from the other CPUs",
    hint="Compare that MSR across LPs; fix firmware, microcode or the software that changed it.",
    registers={
        "rcx": "0x0000000000000000",
        "rdx": "0x0000000000000000",
        "r8": "0x0000000000000000",
        "r9": "0x0000000000000000",
        "r10": "0x0000000000000000",
        "r11": "0x0000000000000000",
    },
)
LOG = (
    "[  512.100201] tdxhost: TDH.SYS.INIT done on CPU 0",
    "[  512.104880] tdxhost: CPU 0 enabled",
    "[  512.106011] tdxhost: CPU 3: TDH.SYS.LP.INIT: 0xc00009200000010a",
    "[  512.106020] tdxhost: CPU 3 failed, -EIO",
)
EVIDENCE = Evidence(
    details=(
        "test_cpus.py:61: in test_enable\n"
        "    assert not failed, told(failed)\n"
        "E   AssertionError: 1 of 8 CPUs failed: CPU 3"
    ),
    driver={
        "status": "unknown",
        "step": "cpus",
        "errno": -5,
        "cpu": None,
        "final": False,
        "cpus_online": 8,
        "cpus_enabled": 7,
        "cpus_failed": 1,
    },
    calls=(CALL,),
    log=LOG,
    diagnosis=("processor.msrs-agree: MSR 0x10a on CPU 3 is not that of the other CPUs",),
    snapshot="003-cpus.enable.tar.gz",
)
FAILURE = (
    "1 of 8 CPUs failed: CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR (0xc00009200000010a): "
    "MSR 0x10a IA32_ARCH_CAPABILITIES differs from the other CPUs"
)
HOLDS = {
    "machine.able": "no check of doctor's for bring-up fails",
    "refusal.arguments": "requests that make no sense are refused, each with its errno",
    "cpus.enable": "every online CPU is enabled, in any order",
    "cpus.sane": "what the driver tells of each CPU makes sense",
    "enable.all": "the TDX module is initialised, step by step",
    "memory.pamts": "PAMTs are as large as the formula says",
    "time.lp-init": "no CPU takes longer to enable than the plan allows",
    "hotplug.after": "a CPU that comes back after initialisation is enabled again",
    "refusal.absent-cpu": "a CPU that is not there is refused",
}


def made(test: str, boot: str, outcome: Outcome = Outcome.PASSED, **more: Any) -> TestResult:
    """One test of a run."""
    started = outcome not in (Outcome.NOT_RUN, Outcome.NEEDS_REBOOT)
    told: dict[str, Any] = {
        "holds": HOLDS[test],
        "source": "TDX module ABI spec, TDH.SYS.LP.INIT",
        "started_at": "2026-07-04T08:30:05.250000Z" if started else "",
        "duration_s": 0.25 if started else 0.0,
    }
    return TestResult(id=test, boot=boot, outcome=outcome, **(told | more))


def lp_init(by_cpu: dict[int, int] | None = None) -> Measured:
    """The time of TDH.SYS.LP.INIT on each CPU."""
    return Measured(name="lp_init", unit=Unit.NS, by_cpu=LP_INIT_NS if by_cpu is None else by_cpu)


def run_of(*tests: TestResult, **more: Any) -> Run:
    """A run of some tests."""
    told: dict[str, Any] = {
        "id": "20260704T083000Z-5c1e",
        "plan": PLAN,
        "seed": 4711,
        "started_at": "2026-07-04T08:30:00Z",
        "ended_at": "2026-07-04T08:31:12Z",
        "tdxhost": "0.1.0",
        "host": HOST,
    }
    return Run(tests=tests, **(told | more))


def one_cpu_failed() -> TestResult:
    """CPU 3 has another MSR than the others, and all the evidence of it is there."""
    seven = {cpu: time for cpu, time in LP_INIT_NS.items() if cpu != 3}
    return made(
        "cpus.enable",
        "at-once",
        Outcome.FAILED,
        options={"order": "at-once"},
        message=FAILURE,
        duration_s=1.5,
        measured=(lp_init(seven),),
        evidence=EVIDENCE,
    )


def sample() -> Run:
    """A run in which everything has happened that can, but for what was not looked at yet."""
    return run_of(
        made("machine.able", "at-once"),
        made("refusal.arguments", "at-once"),
        one_cpu_failed(),
        made(
            "enable.all",
            "at-once",
            Outcome.COULD_NOT_RUN,
            message="CPU 3 is not enabled, and TDH.SYS.CONFIG needs every CPU",
        ),
        made("refusal.absent-cpu", "at-once", Outcome.NOT_APPLICABLE, message="all are there"),
        made("cpus.enable", "forwards", options={"order": "forwards"}, measured=(lp_init(),)),
        made(
            "memory.pamts",
            "forwards",
            measured=(Measured(name="pamt", unit=Unit.BYTES, value=4_294_967_296),),
        ),
        made("cpus.sane", "forwards", Outcome.BROKEN, message="KeyError: 'rcx'"),
        made("hotplug.after", "forwards", Outcome.LOST),
        made("cpus.enable", "shuffled", Outcome.NEEDS_REBOOT, options={"order": "shuffled"}),
        made("time.lp-init", "shuffled", Outcome.NOT_RUN),
    )


def passed() -> Run:
    """A run that is whole and well."""
    return run_of(
        made("machine.able", "forwards"),
        made("cpus.enable", "forwards", options={"order": "forwards"}, measured=(lp_init(),)),
        made("enable.all", "forwards"),
    )


def changed(run: Run, at: int, **changes: Any) -> Run:
    """A run with one of its tests changed."""
    tests = list(run.tests)
    tests[at] = replace(tests[at], **changes)
    return replace(run, tests=tuple(tests))


def earlier() -> Run:
    """The same machine with an older BIOS, all well: what sample() is compared with."""
    host = HOST | {
        "bios_version": "SE5C7411.86B.9409.D04",
        "bios_date": "11/02/2023",
        "microcode": [{"version": "0x21000161", "cpus": list(range(8))}],
        "module_version": "1.5.05",
    }
    seven = dict.fromkeys(LP_INIT_NS.keys() - {3}, 600_000)
    even = dict.fromkeys(LP_INIT_NS, 600_000)
    run = replace(sample(), id="20260601T101500Z-11aa", started_at="2026-06-01T10:15:00Z")
    tests = [replace(test, outcome=Outcome.PASSED, message="", evidence=None) for test in run.tests]
    tests[2] = replace(tests[2], measured=(lp_init(seven),))
    tests[5] = replace(tests[5], measured=(lp_init(even),))
    tests[6] = replace(
        tests[6], measured=(Measured(name="pamt", unit=Unit.BYTES, value=4_294_901_760),)
    )
    return replace(run, host=host, tests=tuple(tests[:-1]))


def large_run(slow: dict[int, int]) -> Run:
    """A run on 448 CPUs, all of which take about 600 µs but for some."""
    by_cpu = {cpu: 600_000 + 1_000 * (cpu % 7) for cpu in range(448)} | slow
    return run_of(
        made("machine.able", "forwards"),
        made("cpus.enable", "forwards", options={"order": "forwards"}, measured=(lp_init(by_cpu),)),
    )
