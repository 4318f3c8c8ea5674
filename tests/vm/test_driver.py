# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver as its users meet it: events, tracepoint, sysfs."""

from __future__ import annotations

import re

from tests.vm.hosts import Boot, BroughtUp


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
    with boot(warm=True) as host:
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
    with boot(warm=True) as host:
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
