# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast: each CPU, the spread between them, and all of bring-up."""

from collections.abc import Callable

from tdxhost.device import Driver
from tdxhost.records import CpuResult, Provider
from tdxhost.validation import Stage, Unit, could_not_run, not_applicable, requirement
from tdxhost.validation.plan import Limits
from tdxhost.validation.timing import (
    busy_ns,
    fastest_and_slowest,
    named,
    slow_cpus,
    timed,
)
from tdxhost.words import duration

Measure = Callable[..., None]

SOURCE = "the plan, limits; kmod/include/uapi/linux/tdxhost.h, start_ns and duration_ns"
ENABLED = (Stage.SOME_CPUS, Stage.ALL_CPUS, Stage.INITIALIZED)
TODO = (
    "Run 'sudo tdxhost trace' in the next boot while they are enabled: it shows the time of each "
    "SEAMCALL. Slow CPUs of one package point at its firmware and microcode."
)


@requirement(
    "time.lp-init",
    holds="enabling each CPU, TDH.SYS.LP.INIT and VMX around it included, takes at most lp_init",
    source=SOURCE,
    needs=ENABLED,
    reads=("lp_init",),
)
def test_lp_init(driver: Driver, limits: Limits, measure: Measure) -> None:
    """Slow CPUs are named with their package and time."""
    cpus = _timed(driver)
    measure("lp_init", Unit.NS, by_cpu={cpu.cpu: cpu.duration_ns for cpu in cpus.values()})
    if slow := slow_cpus(cpus, _stated("lp_init", limits.lp_init_ns)):
        raise AssertionError("\n".join((*slow, TODO)))


@requirement(
    "time.spread",
    holds="the slowest CPU was enabled at most spread later than the fastest, counted from each "
    "one's own begin; the CPU that made TDH.SYS.INIT for all is left out",
    source=SOURCE,
    needs=ENABLED,
    reads=("spread",),
)
def test_spread(driver: Driver, limits: Limits, measure: Measure) -> None:
    """The fastest and the slowest CPU are named."""
    ends = fastest_and_slowest(_timed(driver))
    if ends is None:
        not_applicable("there are no two CPUs to compare")
    fast, slow = ends
    spread, limit = slow.duration_ns - fast.duration_ns, _stated("spread", limits.spread_ns)
    measure("spread", Unit.NS, spread)
    if spread > limit:
        raise AssertionError(
            f"{named(slow)} took {duration(slow.duration_ns)} to be enabled, "
            f"{named(fast)} {duration(fast.duration_ns)}: {duration(spread)} apart, "
            f"at most {duration(limit)} expected\n{TODO}"
        )


@requirement(
    "time.total",
    holds="enabling all CPUs and every step of tdx_enable() take at most total together; time "
    "between calls does not count",
    source=SOURCE,
    needs=Stage.INITIALIZED,
    reads=("total",),
)
def test_total(driver: Driver, limits: Limits, measure: Measure) -> None:
    """The steps that took longest are named."""
    steps = [step for step in driver.get_steps() if step.runs and step.start_ns]
    if not steps:
        could_not_run(_untold(driver))
    total = busy_ns(timed(driver.get_cpus()), steps)
    limit = _stated("total", limits.total_ns)
    measure("total", Unit.NS, total)
    if total > limit:
        longest = sorted(steps, key=lambda step: -step.duration_ns)[:3]
        told = ", ".join(f"{step.step.label} {duration(step.duration_ns)}" for step in longest)
        raise AssertionError(
            f"bring-up took {duration(total)}, at most {duration(limit)} expected; "
            f"its longest steps: {told}\nEach step with its time: sudo tdxhost status"
        )


def _timed(driver: Driver) -> dict[int, CpuResult]:
    """CPUs whose time is known; there has to be one."""
    cpus = timed(driver.get_cpus())
    if not cpus:
        could_not_run(_untold(driver))
    return cpus


def _untold(driver: Driver) -> str:
    if driver.get_info().provider is Provider.OBSERVER:
        return "the kernel initialised TDX by itself at boot, and told no times"
    return "the driver has no times: nothing was enabled since it was loaded"


def _stated(name: str, limit_ns: int | None) -> int:
    if limit_ns is None:
        could_not_run(f"the plan states no limit {name}")
    return limit_ns
