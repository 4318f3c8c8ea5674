# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver as its users meet it: device, calls, events, tracepoint, unloading."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.vm.hosts import Boot, BroughtUp, Host

GUEST = Path(__file__).parent / "guest"
KO = "/usr/lib/vtdx/tdxhost.ko"

CALLS = (
    "GET_INFO",
    "GET_STATUS",
    "CPU_ENABLE",
    "CPUS_ENABLE",
    "GET_CPUS",
    "ENABLE",
    "GET_STEPS",
    "SYS_RD",
    "GET_MEMORY",
)

# The errno contract in the first comment of the uapi header.
EXPECTED = {
    "mode": "0o600",
    "unknown number": "ENOTTY",
    "unknown type": "ENOTTY",
    "SYS_RD too many": "EINVAL",
    "SYS_RD before any CPU": "ENXIO",
    "CPUS_ENABLE beyond": "EINVAL",
    "CPU_ENABLE unmapped result": "EFAULT",
    **{f"{call} flag": "EINVAL" for call in CALLS},
    **{f"{call} longer": "E2BIG" for call in CALLS},
    **{f"{call} size 0": "EINVAL" for call in CALLS},
    **{f"{call} size 4": "EINVAL" for call in CALLS},
    **{f"{call} unmapped": "EFAULT" for call in CALLS},
}


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What every kind of call came to on a fresh host."""
    from tests.vm.hosts import host

    extra = {"/opt/contract.py": GUEST / "contract.py"}
    with host(tmp_path_factory.mktemp("contract"), extra=extra) as machine:
        result = machine.run("python3", "/opt/contract.py")
        assert result.status == 0, result
        assert machine.kernel_complaints() == []
        return result.json()


@pytest.mark.parametrize("tried", EXPECTED)
def test_errno_is_what_the_header_says(contract: dict[str, Any], tried: str) -> None:
    assert contract[tried] == EXPECTED[tried]


@pytest.mark.parametrize("call", CALLS)
def test_a_huge_size_is_refused(contract: dict[str, Any], call: str) -> None:
    """Larger than any struct could be: E2BIG for the size, or EFAULT for the bytes."""
    assert contract[f"{call} size huge"] in ("E2BIG", "EFAULT")


@pytest.mark.parametrize("call", ["CPUS_ENABLE", "GET_CPUS", "GET_STEPS", "GET_MEMORY"])
def test_arrays_follow_the_header(contract: dict[str, Any], call: str) -> None:
    # An address of 0 with count 0 asks for the count alone.
    assert contract[f"{call} no room"] in ("0", "EMSGSIZE")
    assert contract[f"{call} count"] > 0
    assert contract[f"{call} unmapped array"] == "EFAULT"
    assert contract[f"{call} entry size 0"] == "EINVAL"
    assert contract[f"{call} wide entries"] == "0"
    assert contract[f"{call} wide tails"] == ["00" * 8]


def uevents(text: str) -> list[dict[str, str]]:
    """Events of ``udevadm monitor --property``."""
    blocks = [block for block in text.split("\n\n") if "DEVNAME=" in block]
    return [dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in blocks]


def test_changes_of_state_reach_udev(boot: Boot) -> None:
    script = """
    udevadm monitor --kernel --property --subsystem-match=misc >/tmp/events 2>&1 &
    sleep 2
    tdxhost enable >/dev/null
    udevadm settle
    sleep 1
    kill %1
    cat /tmp/events
    """
    with boot() as host:
        events = uevents(host.sh(script).stdout)

    assert all(event["ACTION"] == "change" for event in events)
    assert {event["DEVNAME"] for event in events} == {"/dev/tdxhost"}
    assert events[-1]["TDXHOST_STATUS"] == "initialized"


TRACE = """
set -e
cd /sys/kernel/tracing
echo 8192 > buffer_size_kb
echo 1 > events/tdxhost/seamcall/enable
tdxhost enable >/dev/null
echo 0 > events/tdxhost/seamcall/enable
cat trace
"""


def traced(text: str) -> list[tuple[int, int]]:
    """CPU and leaf of every SEAMCALL in a trace."""
    found = re.findall(r"\[(\d+)\].*?: seamcall: .*?leaf=(0x[0-9a-f]+|\d+)", text)
    return [(int(cpu), int(leaf, 0)) for cpu, leaf in found]


def test_the_tracepoint_sees_what_vtdx_sees(boot: Boot) -> None:
    with boot() as host:
        text = host.sh(TRACE).stdout
        calls = host.witness().calls

    seen = sorted((call.cpu, call.registers_in["rax"]) for call in calls)
    assert sorted(traced(text)) == seen
    assert seen


def test_sysfs_tells_everyone(brought_up: BroughtUp) -> None:
    nobody = "setpriv --reuid=65534 --clear-groups --inh-caps=-all"
    script = f"cd /sys/class/misc/tdxhost; {nobody} grep -H . provider status module_version"
    lines = brought_up.host.sh(script).stdout.split()

    version = brought_up.host.json("info")["module"]["version"]
    assert lines == ["provider:direct", "status:initialized", f"module_version:{version}"]


def load(host: Host) -> None:
    """Load the driver again, and wait for its device."""
    assert host.run("insmod", KO).status == 0
    host.run("udevadm", "settle")


def test_unloading_and_loading_again_is_clean(boot: Boot) -> None:
    with boot() as host:
        assert host.run("rmmod", "tdxhost").status == 0
        assert host.run("tdxhost", "status").status == 3
        load(host)
        assert host.json("cpu-enable", "--cpus", "1")["cpus"][0]["state"] == "enabled"
        assert host.run("rmmod", "tdxhost").status == 0
        load(host)
        # The TDX module remembers what the driver before did: that is no failure.
        document = host.json("enable")
        assert document["module"]["status"] == "initialized"
        assert {cpu["state"] for cpu in document["cpus"]} == {"enabled"}
        assert len(host.witness().succeeded("TDH.SYS.INIT")) == 1
        assert set(host.witness().cpus("TDH.SYS.LP.INIT").values()) == {1}
        assert host.kernel_complaints() == []


def test_metadata_is_what_the_platform_says(brought_up: BroughtUp) -> None:
    document = brought_up.host.json("info")

    assert document["module"]["version"].startswith("1.5.")
    assert document["packages"] == 2
    fields = {field["name"]: field for field in document["fields"]}
    assert int(fields["NUM_PKGS"]["value"], 16) == 2
    assert int(fields["MAX_TDMRS"]["value"], 16) == 64
    assert document["fields_not_read"] is None


def test_vmx_is_off_wherever_nothing_runs(brought_up: BroughtUp) -> None:
    """Every window is closed, VMXE first on and last off, on each CPU by itself."""
    state: dict[int, str] = {}
    for event in brought_up.witness.events:
        cpu, kind = event["cpu"], event["event"]
        if kind == "cr4.vmxe":
            assert state.get(cpu, "closed") == ("closed" if event["value"] else "open"), event
            state[cpu] = "open" if event["value"] else "closed"
        elif kind == "vmxon":
            assert state[cpu] == "open"
            assert event["result"] == "done"
            state[cpu] = "vmx"
        elif kind == "seamcall":
            assert state[cpu] == "vmx", event
        elif kind == "vmxoff":
            assert state[cpu] == "vmx"
            state[cpu] = "open"
    assert set(state.values()) == {"closed"}
