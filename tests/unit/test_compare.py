# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost compare: what differs between two hosts is named, and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli import compare as command
from tdxhost.cli.context import Context
from tdxhost.errors import ExitCode, Usage
from tdxhost.report.bundle import bundle
from tdxhost.report.compare import Bits, Difference, Group, compare
from tests.unit.machines import FakeHost, fake_host, many_cmrs
from tests.unit.samples import INFO, FakeDriver, context, cpu, failed_cpu
from tests.unit.test_report import taken

UP = FakeDriver()


def differences(
    host: FakeHost, driver: FakeDriver | None = UP, group: Group | None = None
) -> list[Difference]:
    """What differs between a healthy host and another one, leaving out checks."""
    found = compare(taken(fake_host(), UP)[0], taken(host, driver)[0]).differences
    wanted = [one for one in found if group in (None, one.group)]
    return [one for one in wanted if group or one.group is not Group.VERDICT]


def with_files(files: Mapping[str, str]) -> FakeHost:
    """A host with other files."""
    host = fake_host()
    return replace(host, files={**host.files, **files})


def test_a_host_does_not_differ_from_itself() -> None:
    found = compare(taken(fake_host(), UP)[0], taken(fake_host(), UP)[0])
    assert found.differences == ()
    assert found.uncompared == ()


def test_a_bit_of_an_msr_on_one_cpu_is_named() -> None:
    odd = fake_host(changed={(3, 0x3A): 0x4})
    assert differences(odd) == [
        Difference(
            Group.FIRMWARE,
            "IA32_FEATURE_CONTROL (MSR 0x3a)",
            "0x0000000000000005",
            "0x0000000000000004",
            (3,),
            (Bits("bit 0", "LOCK", 1, 0),),
        )
    ]


def test_cpus_that_differ_alike_are_told_together() -> None:
    odd = fake_host(changed={(0, 0x87): 64 << 32 | 31, (2, 0x87): 64 << 32 | 31})
    (found,) = differences(odd)
    assert found.cpus == (0, 2)
    assert found.bits == (Bits("bits 63:32", "NUM_TDX_PRIV_KIDS", 32, 64),)


def test_an_msr_that_one_host_lacks_is_told() -> None:
    lacking = fake_host()
    msrs = {key: value for key, value in lacking.msrs.items() if key[1] != 0x345}
    (found,) = differences(replace(lacking, msrs=msrs))
    assert (found.b, found.cpus, found.bits) == ("RDMSR faults", (0, 1, 2, 3), ())


def test_interrupts_that_wait_are_no_difference() -> None:
    waits = fake_host(changed={(cpu, 0x9A): 1 for cpu in range(4)})
    calm = fake_host(changed={(cpu, 0x9A): 0 for cpu in range(4)})
    assert compare(taken(calm, UP)[0], taken(waits, UP)[0]).differences == ()


def test_microcode_of_one_package_is_named_by_cpu() -> None:
    older = fake_host(microcode={2: "0x2b000590", 3: "0x2b000590"})
    assert differences(older) == [
        Difference(Group.PROCESSOR, "microcode", "0x2b000603", "0x2b000590", (2, 3))
    ]


def test_an_older_bios_is_told() -> None:
    older = with_files({"/sys/class/dmi/id/bios_version": "1.2.2\n"})
    assert differences(older) == [Difference(Group.FIRMWARE, "bios_version", "1.2.3", "1.2.2")]


def test_memory_that_one_lacks_is_told_with_its_ranges() -> None:
    iomem = fake_host().files["/proc/iomem"]
    less = with_files({"/proc/iomem": iomem.replace("-17fffffff", "-13fffffff")})
    found = [one for one in differences(less) if one.group is Group.MEMORY]
    assert found == [
        Difference(Group.MEMORY, "System RAM, in all", "4.0 GiB", "3.0 GiB"),
        Difference(
            Group.MEMORY,
            "System RAM that only one has",
            "0x100000000-0x17fffffff",
            "0x100000000-0x13fffffff",
        ),
    ]


def test_cmrs_are_compared() -> None:
    other = differences(fake_host(), FakeDriver(memory=many_cmrs(2)), Group.MEMORY)
    assert "CMRs that only one has" in [one.what for one in other]


def test_kernel_options_words_and_parameters_are_compared() -> None:
    release = fake_host().files["/proc/sys/kernel/osrelease"].strip()
    other = with_files(
        {
            f"/boot/config-{release}": "CONFIG_KVM_INTEL=m\nCONFIG_INTEL_TDX_HOST=y\n",
            "/proc/cmdline": "root=UUID=3333 nohibernate\n",
            "/sys/module/kvm_intel/parameters/tdx": "Y\n",
        }
    )
    found = {one.what: (one.a, one.b) for one in differences(other, UP, Group.KERNEL)}
    assert found == {
        "CONFIG_INTEL_TDX_HOST": ("n", "y"),
        "command line: kvm_intel.tdx=1": ("there", "not there"),
        "kvm_intel.tdx": ("N", "Y"),
    }


def test_a_module_that_only_one_has_loaded_is_one_difference() -> None:
    host = fake_host()
    files = {path: text for path, text in host.files.items() if "kvm_intel" not in path}
    found = differences(replace(host, files=files), UP, Group.KERNEL)
    assert found == [Difference(Group.KERNEL, "module kvm_intel", "loaded", "not loaded")]


def test_the_tdx_modules_are_compared() -> None:
    newer = FakeDriver(
        info=replace(INFO, module_update=13, tdx_features0=INFO.tdx_features0 | 1 << 6),
        fields={0x0A00000300000000: 5},
    )
    found = {one.what: (one.a, one.b) for one in differences(fake_host(), newer, Group.MODULE)}
    assert found["version"] == (
        "1.5.06, built 20240131, build 744",
        "1.5.13, built 20240131, build 744",
    )


def test_results_of_cpus_are_compared() -> None:
    bad = FakeDriver(cpus=(*(cpu(number) for number in range(3)), failed_cpu(3)))
    (found,) = differences(fake_host(), bad, Group.CPUS)
    assert (found.a, found.cpus) == ("enabled", (3,))
    assert found.b.startswith("failed: TDH.SYS.LP.INIT TDX_INCONSISTENT_MSR")


def test_checks_that_came_to_something_else_are_named() -> None:
    off = fake_host(changed={(cpu, 0x982): 0x1 for cpu in range(4)})
    found = {one.what: one for one in differences(off, UP, Group.VERDICT)}
    assert found["check firmware.tme"].a.startswith("pass: ")
    assert found["check firmware.tme"].b.startswith("fail: ")


def test_a_check_that_one_side_could_not_make_is_no_difference() -> None:
    found = differences(fake_host(), None, Group.VERDICT)
    assert "check module.version" not in [one.what for one in found]


def test_an_msr_without_named_bits_is_told_by_its_value() -> None:
    (found,) = differences(fake_host(changed={(2, 0x3B): 0x1F4000}))
    assert (found.b, found.cpus, found.bits) == ("0x00000000001f4000", (2,), ())


def test_more_cpus_are_one_difference_and_not_one_for_each() -> None:
    found = differences(fake_host(2, 4, 1), UP, Group.PROCESSOR)
    assert [(one.what, one.a, one.b) for one in found] == [
        ("CPUs that are there", "4", "8"),
        ("CPUs online", "4", "8"),
    ]


def test_what_one_side_could_not_read_is_no_difference_and_is_told() -> None:
    found = compare(taken(fake_host(), UP)[0], taken(fake_host(root=False), None)[0])
    assert [one for one in found.differences if one.group is not Group.VERDICT] == []
    assert {(one.what, one.side) for one in found.uncompared} >= {
        ("MSRs", "b"),
        ("the driver's results", "b"),
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with bundles of two hosts."""
    for name, host in (("a", fake_host()), ("b", fake_host(changed={(3, 0x3A): 0x4}))):
        (tmp_path / name).write_bytes(bundle(*taken(host, UP)))
    return tmp_path


def asked(form: str, **names: Any) -> Context:
    """What the command is given."""
    return context(UP, form, **({"recording": None} | names)).but(host=fake_host())


def test_the_same_bundle_twice_exits_with_zero(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(asked("table", a=files / "a", b=files / "a")) is ExitCode.OK
    assert capsys.readouterr().out.endswith("\nNo difference\n")


def test_without_a_second_one_it_is_this_host(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(asked("table", a=files / "a", b=None)) is ExitCode.OK
    assert command.run(asked("table", a=files / "b", b=None)) is ExitCode.FAILED
    assert "B: this host, " in capsys.readouterr().out


def test_with_from_it_is_that_host_instead_of_this_one(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = asked("table", a=files / "a", b=None, recording=files / "b")
    assert command.run(given) is ExitCode.FAILED
    assert f"B: {files / 'b'}," in capsys.readouterr().out


def test_people_read_cpus_values_and_bits(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(asked("table", a=files / "a", b=files / "b")) is ExitCode.FAILED
    told = capsys.readouterr().out.splitlines()
    at = told.index("  IA32_FEATURE_CONTROL (MSR 0x3a), CPU 3")
    assert told[at + 1 : at + 4] == [
        "    A: 0x0000000000000005",
        "    B: 0x0000000000000004",
        "    bit 0, LOCK: A 0x1, B 0x0",
    ]


def test_lines_fit_a_narrow_terminal(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command.run(asked("table", a=files / "b", b=None))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines[2:] if len(line) > 60] == []


def test_the_document_has_both_sides_and_every_difference(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run(asked("json", a=files / "a", b=files / "b"))
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "tdxhost/1"
    assert document["a"]["host"]["cpu"] == "Intel(R) Xeon(R) Platinum 8480+"
    assert {
        "group": "firmware",
        "what": "IA32_FEATURE_CONTROL (MSR 0x3a)",
        "a": "0x0000000000000005",
        "b": "0x0000000000000004",
        "cpus": [3],
        "bits": [{"label": "bit 0", "name": "LOCK", "a": 1, "b": 0}],
    } in document["differences"]


def test_a_file_that_is_no_bundle_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        command.run(asked("table", a=tmp_path / "none", b=None))
    (tmp_path / "text").write_text("no recording")
    with pytest.raises(Usage, match="no recording"):
        command.run(asked("table", a=tmp_path / "text", b=None))
