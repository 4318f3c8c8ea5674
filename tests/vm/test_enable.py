# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring-up of a healthy host: the driver's word against vtdx's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.hosts import Boot, BroughtUp
from vtdx.vm import platform


def test_enable_initialises_the_module_and_every_cpu(brought_up: BroughtUp) -> None:
    document = brought_up.enabled
    spr = platform.load("spr-2s")

    assert document["schema"] == "tdxhost/1"
    assert document["provider"] == "direct"
    assert document["module"]["status"] == "initialized"
    assert document["module"]["errno"] == 0
    assert [cpu["cpu"] for cpu in document["cpus"]] == list(range(spr.cpus))
    assert {cpu["state"] for cpu in document["cpus"]} == {"enabled"}
    assert {cpu["seam_status"] for cpu in document["cpus"]} == {"0x0000000000000000"}
    assert {cpu["package"] for cpu in document["cpus"]} == set(range(spr.sockets))
    assert sum(cpu["did_global_init"] for cpu in document["cpus"]) == 1


def test_the_log_shows_the_same_calls_on_the_same_cpus(brought_up: BroughtUp) -> None:
    witness, cpus = brought_up.witness, brought_up.enabled["cpus"]

    (first,) = [cpu["cpu"] for cpu in cpus if cpu["did_global_init"]]
    assert witness.cpus("TDH.SYS.INIT") == {first: 1}
    assert witness.cpus("TDH.SYS.LP.INIT") == {cpu["cpu"]: 1 for cpu in cpus}


def test_the_log_shows_an_order_that_the_module_allows(brought_up: BroughtUp) -> None:
    assert brought_up.witness.order() == [
        "TDH.SYS.INIT",
        "TDH.SYS.LP.INIT",
        "TDH.SYS.CONFIG",
        "TDH.SYS.KEY.CONFIG",
        "TDH.SYS.TDMR.INIT",
    ]
    # Tests that share the machine also ask for fields that this TDX module lacks.
    calls = [call for call in brought_up.witness.calls if call.leaf != "TDH.SYS.RD"]
    assert {call.status for call in calls} == {"TDX_SUCCESS"}


def test_every_package_gets_its_key_once(brought_up: BroughtUp) -> None:
    packages = {cpu["cpu"]: cpu["package"] for cpu in brought_up.enabled["cpus"]}
    keyed = [packages[call.cpu] for call in brought_up.witness.succeeded("TDH.SYS.KEY.CONFIG")]

    assert sorted(keyed) == sorted(set(packages.values()))


def test_every_tdmr_is_initialised_to_its_end(brought_up: BroughtUp) -> None:
    witness = brought_up.witness

    assert witness.tdmrs()
    for tdmr in witness.tdmrs():
        assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size


def test_the_global_keyid_is_a_private_one(brought_up: BroughtUp) -> None:
    (config,) = brought_up.witness.succeeded("TDH.SYS.CONFIG")
    keyids = brought_up.host.json("info")["keyids"]

    first, count = keyids["first_private"], keyids["private"]
    assert config.registers_in["r8"] == keyids["global"]
    assert first <= keyids["global"] < first + count


def test_each_step_tells_its_time_and_its_seamcalls(brought_up: BroughtUp) -> None:
    steps = {step["name"]: step for step in brought_up.enabled["steps"]}
    witness = brought_up.witness

    assert all(step["errno"] == 0 and step["duration_ns"] > 0 for step in steps.values())
    calls = [step["seamcalls"] for step in brought_up.enabled["steps"]]
    by_leaf = {leaf: len(witness.of(leaf)) for leaf in ("TDH.SYS.CONFIG", "TDH.SYS.TDMR.INIT")}
    assert by_leaf["TDH.SYS.CONFIG"] in calls
    assert by_leaf["TDH.SYS.TDMR.INIT"] in calls
    assert len(witness.of("TDH.SYS.KEY.CONFIG")) in calls


def test_a_second_enable_succeeds_without_a_call(brought_up: BroughtUp) -> None:
    before = len(brought_up.witness.calls)
    document = brought_up.host.json("enable")

    assert document["module"]["status"] == "initialized"
    assert sum(cpu["did_global_init"] for cpu in document["cpus"]) == 1
    leaves = {call.leaf for call in brought_up.witness.calls[before:]}
    assert leaves <= {"TDH.SYS.RD"}


def test_status_says_what_enable_said(brought_up: BroughtUp) -> None:
    document = brought_up.host.json("status")

    for key in ("status", "errno"):
        assert document["module"][key] == brought_up.enabled["module"][key]
    assert document["cpus"] == brought_up.enabled["cpus"]
    assert document["steps"] == brought_up.enabled["steps"]


def test_the_tables_name_every_package_and_cpu(brought_up: BroughtUp) -> None:
    shown = brought_up.host.run("tdxhost", "status")

    assert shown.status == 0
    assert "initialized" in shown.stdout.splitlines()[0]
    for cpu in brought_up.enabled["cpus"]:
        assert str(cpu["cpu"]) in shown.stdout
    assert "\x1b" not in shown.stdout


def test_yaml_holds_what_json_holds(brought_up: BroughtUp) -> None:
    read = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
    converted = brought_up.host.sh(f"tdxhost status --format yaml | python3 -c '{read}'")

    assert converted.json() == brought_up.host.json("status")


def test_a_module_that_holds_memory_keeps_the_driver_loaded(brought_up: BroughtUp) -> None:
    refused = brought_up.host.run("rmmod", "tdxhost")

    assert refused.status != 0
    assert "in use" in refused.stderr


def test_bring_up_leaves_no_complaint_in_the_kernel_log(brought_up: BroughtUp) -> None:
    assert brought_up.host.kernel_complaints() == []


@pytest.mark.parametrize("name", ["spr-1s", pytest.param("emr-2s", marks=pytest.mark.slow)])
def test_every_healthy_platform_comes_up(boot: Boot, name: str) -> None:
    """spr-2s and gnr-2s have tests of their own."""
    with boot(name) as host:
        document = host.json("enable")
        witness = host.witness()
        complaints = host.kernel_complaints()

    expected = platform.load(name)
    assert document["module"]["status"] == "initialized"
    assert {cpu["state"] for cpu in document["cpus"]} == {"enabled"}
    assert len(document["cpus"]) == expected.cpus
    assert len(witness.succeeded("TDH.SYS.KEY.CONFIG")) == expected.sockets
    assert complaints == []


SLOW = """
[platform]
summary = a TDX module that takes 20 ms for each TDH.SYS.TDMR.INIT
base = spr-1s
[cpu]
cores = 2
[memory]
node0 = 4G
[latency]
TDH.SYS.TDMR.INIT = 20ms
"""
# Ctrl-C, once the driver says that some of a TDMR is initialised.
STOPPED = """
import signal, subprocess, sys, time
from tdxhost.device import Device
from tdxhost.records import Step

def initializing(status):
    return status.step is Step.TDMR_INIT and status.progress > 0

enabling = subprocess.Popen(["tdxhost", "enable"])
with Device() as driver:
    while enabling.poll() is None and not initializing(driver.get_status()):
        time.sleep(0.01)
enabling.send_signal(signal.SIGINT)
sys.exit(enabling.wait())
"""


def test_ctrl_c_leaves_and_the_next_enable_goes_on(boot: Boot, tmp_path: Path) -> None:
    slow = tmp_path / "slow.ini"
    slow.write_text(SLOW)
    with boot(str(slow), warm=True) as host:
        stopped = host.run("python3", "-c", STOPPED)
        meanwhile = host.json("status", status=1)
        after_stop = len(host.witness().succeeded("TDH.SYS.TDMR.INIT"))
        document = host.json("enable")
        witness = host.witness()
        complaints = host.kernel_complaints()

    assert stopped.status == 130, stopped
    said, advice = stopped.stderr.splitlines()
    assert said.startswith("tdxhost: interrupted at step tdmr_init, ")
    assert said.endswith(" of 4 GiB done")
    assert advice == "  Go on with: sudo tdxhost enable"
    assert meanwhile["module"]["status"] == "unknown"
    assert meanwhile["module"]["code"] == "interrupted"
    in_all = sum(tdmr.size for tdmr in witness.tdmrs()) >> 22
    assert 0 < after_stop < in_all
    assert document["module"]["status"] == "initialized"
    # What was done is not done again: one call for each 4 MiB, one CONFIG.
    assert len(witness.of("TDH.SYS.TDMR.INIT")) == in_all
    assert len(witness.of("TDH.SYS.CONFIG")) == 1
    assert complaints == []


def test_twenty_callers_at_once_make_one_initialisation(boot: Boot) -> None:
    script = """
    for n in $(seq 20); do
      (tdxhost enable --format json >/tmp/out.$n 2>/tmp/err.$n; echo $? >/tmp/rc.$n) &
    done
    wait
    cat /tmp/rc.* | sort | uniq -c
    cat /tmp/err.*
    grep -h '"status"' /tmp/out.* | sort | uniq -c
    """
    with boot(warm=True) as host:
        said = host.sh(script, timeout=200).stdout.splitlines()
        witness = host.witness()

    assert said[0].split() == ["20", "0"], said
    assert [line.split() for line in said[1:]] == [["20", '"status":', '"initialized",']], said
    for leaf in ("TDH.SYS.INIT", "TDH.SYS.CONFIG"):
        assert len(witness.of(leaf)) == 1
    assert set(witness.cpus("TDH.SYS.LP.INIT").values()) == {1}
    assert len(witness.of("TDH.SYS.LP.INIT")) == platform.load("spr-2s").cpus
