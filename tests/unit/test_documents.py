# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema of the documents, and that tables say the same at any width."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.cli import cpu_enable, enable, info, memory, status
from tdxhost.cli.tables import Column, Row, Table, plain_lines
from tdxhost.errors import ExitCode, NoEnabledCpu, TdxAbsent
from tdxhost.fields import FieldTable
from tdxhost.records import Code, ModuleStatus, Step
from tests.unit.samples import (
    ENABLED,
    GIB,
    INFO,
    MIB,
    STATUS,
    FakeDriver,
    context,
    cpu,
    failed_cpu,
    step,
    untried_cpu,
)

REGISTER = re.compile(r"0x[0-9a-f]{16}")
ONE_FAILED = FakeDriver(
    cpus=(cpu(0), cpu(1), cpu(2), failed_cpu(3)),
    enabled=replace(
        ENABLED,
        module_status=ModuleStatus.UNKNOWN,
        step=Step.CPUS,
        error=6,
        code=Code.CPU_NOT_ENABLED,
        cpu=3,
    ),
    steps=(step(Step.CPUS, error=6, code=Code.CPU_NOT_ENABLED, cpu=3), step(Step.MEMORY, runs=0)),
)
UNTOUCHED = FakeDriver(
    info=replace(INFO, valid=1),
    status=replace(STATUS, module_status=ModuleStatus.UNKNOWN, step=Step.NONE),
    cpus=tuple(untried_cpu(number) for number in range(4)),
    steps=(),
)


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_enable_gives_the_documented_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert enable.run(context(FakeDriver(), "json")) is ExitCode.OK
    document = _json(capsys)
    assert document["schema"] == "tdxhost/1"
    assert document["provider"] == "direct"
    assert (
        document["module"].items()
        >= {
            "status": "initialized",
            "step": "tdmr_init",
            "errno": 0,
            "seam_status": "0x0000000000000000",
        }.items()
    )
    assert (
        document["cpus"][0].items()
        >= {
            "cpu": 0,
            "package": 0,
            "apic_id": 0,
            "state": "enabled",
            "errno": 0,
            "leaf": "TDH.SYS.LP.INIT",
            "seam_status": "0x0000000000000000",
            "status_name": "TDX_SUCCESS",
            "retries": 0,
            "did_global_init": True,
            "duration_ns": 1_234_567,
        }.items()
    )
    assert [cpu["did_global_init"] for cpu in document["cpus"]] == [True, False, False, False]
    assert (
        document["steps"][0].items()
        >= {
            "name": "platform",
            "errno": 0,
            "seamcalls": 0,
            "duration_ns": 5_000_000,
        }.items()
    )
    assert "seam_status" in document["steps"][0]


def test_a_failed_cpu_is_in_document_message_and_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert enable.run(context(ONE_FAILED, "json")) is ExitCode.FAILED
    written = capsys.readouterr()
    document = json.loads(written.out)
    assert (
        document["cpus"][3].items()
        >= {
            "cpu": 3,
            "state": "failed",
            "errno": 5,
            "seam_status": "0xc00009200000010a",
            "status_name": "TDX_INCONSISTENT_MSR",
        }.items()
    )
    assert "CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR" in written.err
    assert "CPU 3 is not" in written.err


def test_a_failed_cpu_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    enable.run(context(ONE_FAILED))
    shown = capsys.readouterr().out
    assert re.search(r"^ +3 .*failed.*TDH\.SYS\.LP\.INIT", shown, re.MULTILINE)
    assert "TDX_INCONSISTENT_MSR" in shown


def test_what_is_not_known_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert status.run(context(UNTOUCHED, "json")) is ExitCode.OK
    document = _json(capsys)
    assert document["module"]["status"] == "unknown"
    for name in ("step", "errno", "seam_status"):
        assert document["module"][name] is None
    for name in ("errno", "leaf", "seam_status", "status_name", "duration_ns"):
        assert document["cpus"][0][name] is None
    assert document["cpus"][0]["state"] == "unknown"


def test_a_trap_gives_no_status(capsys: pytest.CaptureFixture[str]) -> None:
    trapped = failed_cpu(1, code=Code.TRAP, trap=6, seam_status=0)
    status.run(context(FakeDriver(cpus=(cpu(0), trapped)), "json"))
    document = _json(capsys)["cpus"][1]
    assert document["leaf"] == "TDH.SYS.LP.INIT"
    assert document["seam_status"] is None
    assert document["trap"] == 6


def test_cpus_that_were_never_online_have_no_package(capsys: pytest.CaptureFixture[str]) -> None:
    lost = [replace(untried_cpu(number), package=None, node=None) for number in (2, 3)]
    driver = FakeDriver(cpus=(cpu(0), cpu(1), *lost))
    status.run(context(driver))
    shown = capsys.readouterr().out
    assert "2 of 4 CPUs enabled in 1 package" in shown
    assert "Package unknown: 0 of 2 CPUs enabled" in shown
    status.run(context(driver, "json"))
    assert _json(capsys)["cpus"][3]["package"] is None


def test_yaml_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    status.run(context(ONE_FAILED, "json"))
    as_json = _json(capsys)
    status.run(context(ONE_FAILED, "yaml"))
    assert yaml.safe_load(capsys.readouterr().out) == as_json


def test_a_host_without_tdx_gets_one_message_and_no_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    absent = FakeDriver(info=replace(INFO, code=Code.NO_KEYIDS, valid=0), enabled=TdxAbsent("x"))
    for command in (status, enable, memory):
        assert command.run(context(absent)) is ExitCode.ABSENT
        written = capsys.readouterr()
        assert written.out == ""
        assert written.err.count("tdxhost:") == 1
        assert "KeyIDs" in written.err


def test_memory_gives_ranges_by_kind_and_sums_by_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.run(context(FakeDriver(), "json")) is ExitCode.OK
    document = _json(capsys)
    assert document["pamt_bytes"] == 16 * MIB
    assert document["nodes"][1] == {
        "node": 1,
        "system_ram_bytes": 2 * GIB,
        "tdx_bytes": 2 * GIB,
        "pamt_bytes": 8 * MIB,
    }
    first = document["tdmrs"][0]
    assert first["base_pa"] == "0x0000000000000000"
    assert first["reserved"] == [{"base_pa": "0x0000000000000000", "bytes": MIB, "node": 0}]
    assert first["pamts"][0].items() >= {"page": "4K", "bytes": 8 * MIB}.items()


def test_memory_ranges_read_like_iomem(capsys: pytest.CaptureFixture[str]) -> None:
    memory.run(context(FakeDriver()))
    shown = capsys.readouterr().out
    assert shown.startswith("TDX memory 4.0 GiB of 4.0 GiB RAM; 2 TDMRs; PAMT 16.0 MiB")
    assert "0x100000-0x7fffffff" in shown


def test_info_gives_version_features_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    known = dict.fromkeys(FieldTable.load().all_ids(), 7)
    assert info.run(context(FakeDriver(fields=known), "json")) is ExitCode.OK
    document = _json(capsys)
    assert document["module"].items() >= {"version": "1.5.06", "build_date": "2024-01-31"}.items()
    assert "NO_RBP_MOD" in document["module"]["features"]
    assert "BIT_60" in document["module"]["features"]
    fields = {row["name"]: row["value"] for row in document["fields"]}
    assert fields["NUM_PKGS"] == "0x0000000000000007"
    assert len(fields["CMR_BASE"]) == 32
    assert all(REGISTER.fullmatch(row["id"]) for row in document["fields"])


def test_info_without_an_enabled_cpu_says_how_to_get_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    driver = FakeDriver(fields=NoEnabledCpu(6, "SYS_RD", "Enable one first"))
    assert info.run(context(driver)) is ExitCode.OK
    assert "Enable one first" in capsys.readouterr().out


def test_info_on_a_host_whose_module_is_absent_exits_with_3(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cpus = tuple(failed_cpu(number, code=Code.NO_MODULE) for number in range(4))
    driver = FakeDriver(cpus=cpus, fields=NoEnabledCpu(6, "SYS_RD", "Enable one first"))
    assert info.run(context(driver)) is ExitCode.ABSENT
    assert "not loaded" in capsys.readouterr().err


def test_a_failure_that_told_no_status_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    enabled = replace(
        ENABLED,
        module_status=ModuleStatus.ERROR,
        step=Step.CPUS,
        error=22,
        code=Code.EARLIER_FAILURE,
        leaf=0x21,
    )
    enable.run(context(FakeDriver(enabled=enabled), "json"))
    module = _json(capsys)["module"]
    assert module["leaf"] == "TDH.SYS.INIT"
    assert module["seam_status"] is None
    assert module["status_name"] is None


def test_cpu_enable_gives_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cpu_enable.run(context(FakeDriver(), "json", cpus="0")) is ExitCode.OK
    document = _json(capsys)
    assert document.keys() >= {"schema", "provider", "cpus"}
    assert [cpu["state"] for cpu in document["cpus"]] == ["enabled"]


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_tables_stay_whole_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    driver = replace(ONE_FAILED, fields=dict.fromkeys(FieldTable.load().all_ids(), 7))
    for command in (status, memory, info):
        command.run(context(driver))
    lines = capsys.readouterr().out.splitlines()
    longest = max(lines, key=len)
    assert "\x1b" not in "".join(lines)
    if width >= 60:
        assert len(longest) <= width, longest


CELLS = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=40)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), st.integers(1, 120))
def test_a_table_keeps_its_first_column_however_narrow(
    cells: list[tuple[str, str, str]], width: int
) -> None:
    columns = (Column("A"), Column("B", rank=1), Column("C", rank=2))
    table = Table("T", columns, tuple(Row(row) for row in cells))
    lines = plain_lines(table, width)
    assert lines[0] == "T"
    assert lines[1].startswith("A")
