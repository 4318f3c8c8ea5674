# SPDX-License-Identifier: GPL-2.0-or-later
"""What people see when something is wrong: one message, the right exit code."""

from __future__ import annotations

import pytest

from tests.vm.hosts import Boot, Host
from vtdx.vm import build, kernels, platform

MISMATCH = "TDH.SYS.LP.INIT cpu=3 status=TDX_INCONSISTENT_MSR detail=0x10a"

# Exit codes of the CLI; design, "The CLI".
FAILED, ABSENT, DENIED = 1, 3, 4


def check_one_message(host: Host, command: str, status: int, *words: str) -> str:
    """A command fails with this status and says these words, without a traceback."""
    result = host.run("tdxhost", command)
    said = result.stdout + result.stderr
    assert result.status == status, result
    assert "Traceback" not in said
    assert "!" not in said
    for word in words:
        assert word in said, said
    return said


def test_a_cpu_that_the_module_refuses_fails_alone(boot: Boot) -> None:
    with boot(faults=(MISMATCH,), warm=True) as host:
        document = host.json("enable", status=FAILED)
        table = host.run("tdxhost", "status")
        plain = host.run("tdxhost", "enable")
        witness = host.witness()

    cpus = {cpu["cpu"]: cpu for cpu in document["cpus"]}
    assert cpus[3]["state"] == "failed"
    assert cpus[3]["leaf"] == "TDH.SYS.LP.INIT"
    assert cpus[3]["status_name"] == "TDX_INCONSISTENT_MSR"
    assert cpus[3]["seam_status"] == "0xc00009200000010a"
    assert cpus[3]["errno"] != 0
    others = [cpu for number, cpu in cpus.items() if number != 3]
    assert {cpu["state"] for cpu in others} == {"enabled"}
    # The module refuses ENABLE, and says which CPU is missing.
    assert document["module"]["status"] == "error"
    assert document["module"]["step"] == "cpus"
    assert document["module"]["cpu"] == 3
    for shown in (table, plain):
        assert shown.status == FAILED
        assert "CPU 3" in shown.stdout + shown.stderr
        assert "TDX_INCONSISTENT_MSR" in shown.stdout + shown.stderr
    # vtdx is the witness that nothing went on without CPU 3.
    assert witness.cpus("TDH.SYS.LP.INIT") == {0: 1, 1: 1, 2: 1}
    assert {call.cpu for call in witness.of("TDH.SYS.LP.INIT") if call.fault} == {3}
    assert witness.of("TDH.SYS.CONFIG") == []


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("tdx-off", ABSENT, ["private KeyID", "BIOS"]),
        ("one-keyid", ABSENT, ["KeyID", "two"]),
        pytest.param(
            *("vmx-locked-off", ABSENT, ["VMX", "IA32_FEATURE_CONTROL"]), marks=pytest.mark.slow
        ),
        ("module-absent", ABSENT, ["TDX module", "not loaded"]),
    ],
)
def test_a_broken_platform_has_its_own_message(
    boot: Boot, name: str, status: int, words: list[str]
) -> None:
    with boot(name, warm=True) as host:
        said = check_one_message(host, "enable", status, *words)
        json = host.run("tdxhost", "enable", "--format", "json")
        shown = host.run("tdxhost", "status")
        complaints = host.kernel_complaints()
        witness = host.witness()

    assert json.status == status
    assert shown.status == status
    assert "Traceback" not in shown.stderr + json.stderr
    assert len(said.splitlines()) < 25
    assert complaints == []
    assert [call for call in witness.calls if call.status == "TDX_SUCCESS"] == []


def test_broken_platforms_do_not_share_a_message(boot: Boot) -> None:
    """The first line is the cause: no two broken platforms say the same."""
    firsts = set()
    names = ("tdx-off", "one-keyid")
    for name in names:
        with boot(name, warm=True) as host:
            firsts.add(host.run("tdxhost", "enable").stderr.splitlines()[0])
    assert len(firsts) == len(names)


def test_without_driver_or_right_the_message_says_what_to_do(boot: Boot) -> None:
    driver = build.driver(kernels.find(kernels.default()))
    with boot(driver=False, extra={"/opt/tdxhost.ko": driver}) as host:
        check_one_message(host, "status", ABSENT, "/dev/tdxhost", "modprobe tdxhost")
        assert host.run("insmod", "/opt/tdxhost.ko").status == 0
        host.run("udevadm", "settle")
        nobody = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all")
        denied = host.run(*nobody, "tdxhost", "status")
        assert denied.status == DENIED, denied
        assert "sudo" in denied.stderr
        assert "Traceback" not in denied.stderr
        wrong = host.run("tdxhost", "stauts")
        assert wrong.status == 2
        assert "usage" in wrong.stderr


def test_every_shipped_platform_resolves() -> None:
    names = set(platform.shipped())

    assert {"spr-1s", "spr-2s", "emr-2s", "gnr-2s"} <= names
    assert {"tdx-off", "module-absent", "one-keyid", "vmx-locked-off"} <= names
    for name in names:
        if not name.endswith("-base"):
            assert platform.load(name).summary, name
