# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy of the whole suite: markers by folder, when a skip is a failure, the binding."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

import tdxhost
from tdxhost._abi_build import write_module
from tests.durations import SECONDS
from vtdx.vm import kernels

PROJECT = Path(__file__).resolve().parent.parent

HEADER = PROJECT / "kmod/include/uapi/linux/tdxhost.h"

_MARKERS = {"report": "browser", "vm": "vm", "kernels": "kernels"}

#: Quick ones first, for whoever waits; workers take them last (_long_first).
_ORDER = ("unit", "browser", "kernels", "vm")

# What a test of tests/kernels says of its kernel; the rest speaks of the one it runs on.
_AREAS = {
    "test_builds": "builds",
    "test_bring_up": "bring-up",
    "test_kvm": "KVM",
    "test_observer": "provider",
    "test_provider_kernel": "provider",
    "test_upstream": "boot",
    "test_dkms": "DKMS",
}

_MATRIX_TEST = "test_a_fault_is_answered_as_the_contract_says"


def _bind_checkout() -> None:
    """Writes tdxhost/_tdxhost_abi.py where it is missing or older than the header."""
    package = Path(tdxhost.__file__).parent
    target = package / "_tdxhost_abi.py"
    sources = (HEADER, package / "_abi_build.py")
    if package.parent != PROJECT:
        return
    newest = max(source.stat().st_mtime for source in sources)
    if not target.exists() or target.stat().st_mtime < newest:
        write_module(HEADER, target)
        # What has not changed is not written, and would be looked at every time.
        target.touch()


# Test modules import the package when they are collected, before any fixture.
_bind_checkout()


def _layer(item: pytest.Item) -> str:
    """The marker of a test: that of its folder, unit where it has none."""
    folder = item.path.relative_to(PROJECT / "tests").parts[0]
    return _MARKERS.get(folder, "unit")


def _subject(item: pytest.Item) -> list[tuple[str, object]]:
    """Kernel and area of a test, for the table of scripts/test --all; JUnit XML carries them."""
    if _layer(item) in ("unit", "browser"):
        return []
    assert isinstance(item, pytest.Function)
    params = item.callspec.params if hasattr(item, "callspec") else {}
    of_module = getattr(item.module, "KERNEL", None) if _layer(item) == "kernels" else None
    kernel = params.get("kernel") or of_module or kernels.default()
    return [("kernel", kernel), ("area", _AREAS.get(item.path.stem, "virtual hosts"))]


def _quick_first(item: pytest.Item) -> int:
    return _ORDER.index(_layer(item))


def _long_first(item: pytest.Item) -> tuple[int, int]:
    file = item.path.relative_to(PROJECT / "tests").as_posix()
    return -SECONDS.get(file, 0), -_quick_first(item)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests, and put files in order; xdist keeps to it with --no-loadscope-reorder."""
    for item in items:
        item.add_marker(_layer(item))
        item.user_properties += _subject(item)
    items.sort(key=_long_first if hasattr(config, "workerinput") else _quick_first)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """TDXHOST_REQUIRE=vm,kernels: a skip in these layers is a failure."""
    report = yield
    required = os.environ.get("TDXHOST_REQUIRE", "").split(",")
    if report.skipped and not hasattr(report, "wasxfail") and _layer(item) in required:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped, and TDXHOST_REQUIRE asks for it: {report.longrepr}"
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: how many cases, and how many of them are as the contract says."""
    counts = {}
    for outcome in ("passed", "failed", "error"):
        reports = terminalreporter.stats.get(outcome, [])
        counts[outcome] = sum(_MATRIX_TEST in report.nodeid for report in reports)
    if sum(counts.values()):
        passed = counts["passed"]
        terminalreporter.write_line(f"fault matrix: {sum(counts.values())} cases, {passed} passed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the reference and the recorded answers; skips without it."""
    folder = Path(os.environ.get("TDXHOST_SHARED", PROJECT.parent / "shared"))
    if not (folder / "tdx-abi").is_dir():
        pytest.skip(f"no reference at {folder}; TDXHOST_SHARED says where it is")
    return folder
