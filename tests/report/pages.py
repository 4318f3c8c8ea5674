# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of hosts and of runs, of every size and state, to ask things of in the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.findings import Judge
from tdxhost.klog.diagnosis import Finding, Kind
from tdxhost.klog.lines import Line
from tdxhost.report.collect import take
from tdxhost.report.model import Report
from tdxhost.report.page import page
from tdxhost.report.verdict import headline
from tdxhost.validation.against import compare_runs
from tdxhost.validation.page import page as validation_page
from tests.unit.machines import fake_host, many_cmrs, many_cpus, no_driver, some_results
from tests.unit.samples import FakeDriver, context, cpu, failed_cpu
from tests.unit.validation.runs import changed, earlier, large_run, sample

#: Nothing that is longer than a page is wide may push it out.
LONG = "a" * 300


def healthy() -> Report:
    """Four CPUs, one CMR for each node, all well."""
    return _taken(fake_host(), FakeDriver())


def failing() -> Report:
    """A CPU failed; checks came to everything that they can; firmware has a long name."""
    host = fake_host(
        changed={(3, 0x3A): 0x4, (3, 0xCE): 1 << 27},
        microcode={3: "0x2b000590"},
        files={"/sys/class/dmi/id/product_name": LONG, "/proc/cmdline": f"kvm_intel.tdx={LONG}"},
    )
    driver = FakeDriver(cpus=(*(cpu(number) for number in range(3)), failed_cpu(3)))
    return with_everything(_taken(host, driver))


def large() -> Report:
    """448 CPUs of which two failed, 32 CMRs, RAM outside of them."""
    driver = many_cpus(2, 112, 2, [failed_cpu(17), failed_cpu(241)])
    return _taken(fake_host(2, 112, 2), replace(driver, memory=many_cmrs(32)))


def blind() -> Report:
    """No driver, no root."""
    return _taken(fake_host(root=False), None)


def _taken(host: object, driver: FakeDriver | None) -> Report:
    opened = no_driver if driver is None else context(driver).open_driver
    return take(host, opened, Judge())[0]  # type: ignore[arg-type]


def with_everything(report: Report) -> Report:
    """A report with a check of each outcome, and with all kinds of lines of a log."""
    diagnosis = Diagnosis(some_results(), initialized=False)
    shown = [
        Finding(
            cause=f"cause-{kind}",
            kind=kind,
            title=f"what is {kind}",
            means=LONG,
            says=(LONG,),
            likely=("This",),
            todo=("Do",),
            lines=(Line(1, LONG),),
        )
        for kind in Kind
    ]
    return replace(
        report,
        diagnosis=diagnosis,
        headline=headline(diagnosis, report.state, report.verdict),
        kernel=replace(report.kernel, findings=tuple(shown), log=(*report.kernel.log, LONG)),
    )


HOSTS: dict[str, Callable[[], Report]] = {
    "healthy": healthy,
    "failing": failing,
    "large": large,
    "blind": blind,
}


def validation() -> str:
    """A run in which all has happened that can, beside one of an older BIOS."""
    long = changed(sample(), 7, message=LONG, source=LONG, options={"order": LONG})
    return validation_page(long, compare_runs(long, earlier()))


def validation_large() -> str:
    """A run on 448 CPUs, of which some got slower."""
    run = large_run(dict.fromkeys(range(30, 60), 1_000_000))
    return validation_page(run, compare_runs(run, large_run({})))


RUNS: dict[str, Callable[[], str]] = {
    "validation": validation,
    "validation-large": validation_large,
}
PAGES = (*HOSTS, *RUNS)


@cache
def html(name: str) -> str:
    """A page, of a host or of a run."""
    return RUNS[name]() if name in RUNS else page(HOSTS[name]())
