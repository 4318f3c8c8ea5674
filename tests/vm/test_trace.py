# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost trace against vtdx's own log: the same SEAMCALLs, and nothing left behind."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from tests.vm.hosts import Boot, Host
from tests.vm.witness import Call
from vtdx.vm.machine import Result

LP_INIT = "TDH.SYS.LP.INIT"
INSTANCES = "/sys/kernel/tracing/instances"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")

#: One CPU is refused once; on another, SEAMCALL faults.
REFUSED = f"{LP_INIT} cpu=1 times=1 status=TDX_INCONSISTENT_MSR detail=0x10a"
FAULTS = f"{LP_INIT} cpu=3 times=1 trap=GP"


def traced(host: Host, *words: str) -> tuple[Any, Result]:
    """The document of a trace, and how it ended."""
    ended = host.run("tdxhost", "trace", "--format", "json", *words)
    return ended.json(), ended


def from_trace(call: dict[str, Any]) -> tuple[object, ...]:
    """A call as the tracepoint told it; without answer there are no registers."""
    given = tuple(int(call["in"][name], 16) for name in ("rax", *REGISTERS))
    if call["out"] is None:
        return call["leaf"], given, None, None
    got = tuple(int(call["out"][name], 16) for name in REGISTERS)
    return call["leaf"], given, int(call["out"]["rax"], 16), got


def from_log(call: Call) -> tuple[object, ...]:
    """The same call as vtdx saw it."""
    given = tuple(call.registers_in[name] for name in ("rax", *REGISTERS))
    if call.result != "done":
        return call.leaf, given, None, None
    got = tuple(call.registers_out[name] for name in REGISTERS)
    return call.leaf, given, call.registers_out["rax"], got


def check_same(host: Host, calls: list[dict[str, Any]]) -> None:
    """Every call of vtdx's log is in the trace, in the same order on each CPU, and no other."""
    seen = host.witness().calls
    for cpu in {call.cpu for call in seen} | {call["cpu"] for call in calls}:
        mine = [from_trace(call) for call in calls if call["cpu"] == cpu]
        assert mine == [from_log(call) for call in seen if call.cpu == cpu]
    begun = [call["start_ns"] for call in calls]
    assert begun == sorted(begun)


def check_nothing_left(host: Host) -> None:
    """The instance is gone, and the event is off for everyone else."""
    assert host.run("ls", INSTANCES).stdout == ""
    event = "/sys/kernel/tracing/events/tdxhost/seamcall/enable"
    assert host.run("cat", event).stdout.strip() == "0"


def check_chrome(trace: Any, calls: list[dict[str, Any]]) -> None:
    """A JSON object trace (Trace Event Format): complete events on tracks that have names."""
    events = trace["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {event["ph"] for event in events} == {"M", "X"}
    assert Counter((names[e["tid"]], e["name"]) for e in slices) == Counter(
        (f"CPU {call['cpu']}", call["leaf"]) for call in calls
    )
    assert [e["dur"] * 1000 for e in slices] == pytest.approx([c["duration_ns"] for c in calls])
    assert min(e["ts"] for e in slices) > 0
    for track in names:
        mine = [event for event in slices if event["tid"] == track]
        assert all(a["ts"] + a["dur"] <= b["ts"] + 0.001 for a, b in pairwise(mine))


def start_in_background(host: Host, *words: str) -> None:
    """A trace that heeds SIGINT, whose process id is in /tmp/pid and exit code in /tmp/code."""
    trace = f"env --default-signal=INT tdxhost trace {' '.join(words)} >/tmp/out 2>/tmp/err"
    host.sh(
        f"rm -f /tmp/code; ({trace} & echo $! >/tmp/pid; wait $!; echo $? >/tmp/code) 2>/dev/null &"
    )
    until = time.monotonic() + 60
    while host.sh(f"cat {INSTANCES}/*/events/tdxhost/seamcall/enable").stdout.strip() != "1":
        assert time.monotonic() < until, host.run("cat", "/tmp/err").stdout
        time.sleep(0.1)


def end_by(host: Host, signal: str) -> int:
    """Send it a signal; its exit code."""
    host.sh(f"kill -{signal} $(cat /tmp/pid)")
    until = time.monotonic() + 60
    while not (code := host.run("cat", "/tmp/code").stdout):
        assert time.monotonic() < until, "the trace does not end"
        time.sleep(0.1)
    return int(code)


def test_every_seamcall_of_a_bring_up_is_traced(boot: Boot) -> None:
    with boot(warm=True) as host:
        document, ended = traced(host, "--output", "/tmp/trace.json", "--", "tdxhost", "enable")
        calls = document["calls"]
        check_same(host, calls)
        check_nothing_left(host)
        check_chrome(json.loads(host.run("cat", "/tmp/trace.json").stdout), calls)
        steps = host.json("status")
        durations = {call.leaf: call.event["duration_ns"] for call in host.witness().calls}

    assert ended.status == 0
    assert (document["schema"], document["lost"], document["driver_reloads"]) == ("tdxhost/1", 0, 0)
    # What the command says stays apart from the document.
    assert "TDX initialized; 4 of 4 CPUs enabled" in ended.stderr
    counted = Counter(call["leaf"] for call in calls)
    assert {found["leaf"]: found["count"] for found in document["summary"]} == counted
    assert {found["failures"] for found in document["summary"]} == {0}
    # The driver's own records lie around the calls, in the same clock.
    enabled = {cpu["cpu"]: cpu for cpu in steps["cpus"]}
    for call in calls:
        if call["leaf"] == LP_INIT:
            record = enabled[call["cpu"]]
            assert record["start_ns"] <= call["start_ns"]
            assert call["duration_ns"] <= record["duration_ns"]
    assert set(durations) == set(counted)


def test_what_fails_is_shown_with_its_cause_and_the_exit_code_is_the_commands(boot: Boot) -> None:
    with boot(warm=True, faults=(REFUSED, FAULTS)) as host:
        document, ended = traced(host, "--", "tdxhost", "enable")
        check_same(host, document["calls"])
        again = host.run("tdxhost", "trace", "--", "tdxhost", "enable", "--retry")
        witness = host.witness()

    failed = {call["cpu"]: call for call in document["calls"] if call["code"] != "none"}
    assert ended.status == 1
    assert sorted(failed) == [1, 3]
    assert failed[1]["status_name"] == "TDX_INCONSISTENT_MSR"
    assert failed[1]["seam_status"] == "0xc00009200000010a"
    assert "MSR 0x10a IA32_ARCH_CAPABILITIES" in failed[1]["answer"]
    assert (failed[3]["code"], failed[3]["trap"]) == ("no_seamrr", 13)
    assert failed[3]["seam_status"] is None
    assert failed[3]["answer"].startswith("fault #GP")
    (sums,) = [found for found in document["summary"] if found["leaf"] == LP_INIT]
    assert (sums["count"], sums["failures"]) == (len(witness.of(LP_INIT)) - 2, 2)
    assert again.status == 0
    assert "none of them failed" in again.stdout


@pytest.mark.slow
def test_lines_fit_a_narrow_terminal_and_quiet_leaves_the_summary(boot: Boot) -> None:
    enable = ("tdxhost", "cpu-enable")
    with boot(warm=True) as host:
        narrow = host.machine.run(
            ["tdxhost", "trace", "--", *enable], terminal=(60, 24), env={"NO_COLOR": "1"}
        )
        quiet = host.run("tdxhost", "trace", "--quiet", "--for", "0.5")
        none = host.run("tdxhost", "trace", "--", "sh", "-c", "kill -TERM $$")
        missing = host.run("tdxhost", "trace", "--", "no-such-command")
        check_nothing_left(host)

    lines = [ESCAPE.sub("", line).rstrip() for line in narrow.stdout.splitlines()]
    assert narrow.status == 0
    assert max(map(len, lines)) <= 60
    assert sum(LP_INIT in line and "TDX_SUCCESS" in line for line in lines) == 4
    assert not COLOUR.search(narrow.stdout)
    assert quiet.status == 0
    assert quiet.stdout.startswith("No SEAMCALL was traced in ")
    assert len(quiet.stdout.splitlines()) == 1
    assert none.status == 128 + 15
    assert (missing.status, missing.stdout) == (127, "")
    assert missing.stderr == "tdxhost: no-such-command: No such file or directory\n"


def test_ctrl_c_and_kill_end_a_trace_in_good_order(boot: Boot) -> None:
    with boot(warm=True) as host:
        for signal, code in (("INT", 0), ("TERM", 128 + 15)):
            start_in_background(host, "--output", "/tmp/trace.json")
            assert host.run("tdxhost", "cpu-enable", "--cpus", "1").status == 0
            assert end_by(host, signal) == code
            assert "in " in host.run("cat", "/tmp/out").stdout
            assert json.loads(host.run("cat", "/tmp/trace.json").stdout)["traceEvents"]
            check_nothing_left(host)
        # What SIGKILL leaves behind, the next run removes.
        start_in_background(host)
        end_by(host, "KILL")
        left = host.run("ls", INSTANCES).stdout
        host.run("tdxhost", "trace", "--quiet", "--", "true")
        check_nothing_left(host)

    assert left.startswith("tdxhost-")


def test_ctrl_c_ends_the_command_and_the_summary_follows(boot: Boot) -> None:
    with boot(warm=True) as host:
        host.control.latency(LP_INIT, "400ms")
        start_in_background(host, "--", "tdxhost", "cpu-enable")
        until = time.monotonic() + 60
        while not host.witness().of(LP_INIT):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert end_by(host, "INT") == 130
        shown = host.run("cat", "/tmp/out").stdout
        made = len(host.witness().of(LP_INIT))
        check_nothing_left(host)

    assert 0 < made < 4
    assert f"{LP_INIT}  TDX_SUCCESS" in shown
    assert f"{LP_INIT} " in shown.splitlines()[-1] or "TDH.SYS.INIT" in shown.splitlines()[-1]


def test_a_reader_that_goes_away_ends_the_trace(boot: Boot) -> None:
    with boot(warm=True) as host:
        ended = host.run("bash", "-c", "tdxhost trace | head -0; echo ${PIPESTATUS[0]}")
        check_nothing_left(host)

    assert (ended.stdout, ended.stderr) == ("141\n", "")


def test_who_may_not_trace_is_told_why(boot: Boot) -> None:
    with boot(warm=True) as host:
        nobody = host.run("setpriv", "--reuid=nobody", "tdxhost", "trace", "--", "true")
        host.run("umount", "/sys/kernel/tracing")
        host.run("umount", "/sys/kernel/debug")
        unmounted = host.run("tdxhost", "trace", "--", "true")
        host.run("rmmod", "tdxhost")
        absent = host.run("tdxhost", "trace", "--", "true")

    assert nobody.status == 4
    assert "sudo tdxhost" in nobody.stderr
    assert unmounted.status == 1
    assert "sudo mount -t tracefs tracefs /sys/kernel/tracing" in unmounted.stderr
    assert absent.status == 3
    assert "sudo modprobe tdxhost" in absent.stderr


def test_what_was_lost_is_told_by_cpu(boot: Boot) -> None:
    with boot(warm=True) as host:
        start_in_background(host, "--quiet", "--format", "json")
        # It does not read while it is stopped, and a page of its buffer holds 28 SEAMCALLs.
        small = f"for cpu in {INSTANCES}/*/per_cpu/cpu*; do echo 8 >$cpu/buffer_size_kb; done"
        assert host.sh(f"kill -STOP $(cat /tmp/pid) && {small}").status == 0
        assert host.run("tdxhost", "enable").status == 0
        host.sh("kill -CONT $(cat /tmp/pid)")
        assert end_by(host, "INT") == 0
        document = json.loads(host.run("cat", "/tmp/out").stdout)
        told = host.run("cat", "/tmp/err").stdout
        made = len(host.witness().calls)
        check_nothing_left(host)

    seen = sum(found["count"] for found in document["summary"])
    assert document["calls"] is None
    assert document["lost"] > 0
    assert seen + document["lost"] == made
    assert sum(lost["lost"] for lost in document["lost_by_cpu"]) == document["lost"]
    for lost in document["lost_by_cpu"]:
        assert f"{lost['lost']} SEAMCALLs of CPU {lost['cpu']} were lost" in told


@pytest.mark.slow
def test_a_driver_that_is_loaded_anew_is_traced_and_the_gap_is_told(boot: Boot) -> None:
    script = "rmmod tdxhost && insmod /usr/lib/vtdx/tdxhost.ko && udevadm settle && sleep 1"
    with boot(warm=True) as host:
        document, ended = traced(host, "--", "sh", "-c", f"{script} && tdxhost cpu-enable >&2")
        check_nothing_left(host)

    assert ended.status == 0
    assert document["driver_reloads"] == 1
    assert "the driver was loaded anew meanwhile" in ended.stderr
    assert Counter(call["leaf"] for call in document["calls"])[LP_INIT] == 4
