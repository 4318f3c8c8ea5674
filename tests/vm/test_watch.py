# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost watch: what is done to a host is told, line by line, in order, as it happens."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.vm.hosts import Boot, Host
from tests.vm.test_memory_hotplug import BLOCK, LATE, PLATFORM, place, plug

STEPS = (
    *("platform", "cpus", "module_info", "memory", "tdmr_layout", "pamt_alloc"),
    *("config", "cache_flush", "key_config", "tdmr_init"),
)


def begin(host: Host, *words: str) -> None:
    """A watch in the background, which heeds SIGINT; returns when it has begun."""
    watch = f"env --default-signal=INT tdxhost watch {' '.join(words)} >/tmp/out 2>/tmp/err"
    host.sh(f"({watch} & echo $! >/tmp/pid; wait $!; echo $? >/tmp/code) 2>/dev/null &")
    wait_for(host, 1)


def shown(host: Host) -> list[str]:
    """The lines up to now, each as soon as it is written."""
    return host.run("cat", "/tmp/out").stdout.splitlines()


def wait_for(host: Host, lines: int) -> list[str]:
    """Wait until there are so many."""
    until = time.monotonic() + 60
    while len(found := shown(host)) < lines:
        assert time.monotonic() < until, (found, host.run("cat", "/tmp/err").stdout)
        time.sleep(0.1)
    return found


def wait_for_text(host: Host, text: str) -> None:
    """Wait until a line has it."""
    until = time.monotonic() + 60
    while not any(text in line for line in shown(host)):
        assert time.monotonic() < until, shown(host)
        time.sleep(0.1)


def end_by(host: Host, signal: str) -> int:
    """Send it a signal; its exit code."""
    host.sh(f"kill -{signal} $(cat /tmp/pid)")
    until = time.monotonic() + 60
    while not (code := host.run("cat", "/tmp/code").stdout):
        assert time.monotonic() < until, "the watch does not end"
        time.sleep(0.1)
    return int(code)


def do(host: Host, script: str, expected: str) -> None:
    """Do something to the host, and wait until that is told."""
    ran = host.sh(script)
    assert ran.status == 0, ran
    wait_for_text(host, expected)


def test_each_change_is_a_line_in_order_and_ctrl_c_ends_it(boot: Boot, tmp_path: Path) -> None:
    file = tmp_path / "roomy.ini"
    file.write_text(PLATFORM, encoding="utf-8")
    where = f"memory {place(LATE):#x}-{place(LATE) + BLOCK - 1:#x}"
    with boot(str(file), warm=True, plug_bytes=8 * BLOCK) as host:
        cpus = int(host.run("nproc").stdout)
        begin(host)
        do(host, "echo 0 >/sys/devices/system/cpu/cpu1/online", "CPU 1 offline")
        do(host, "echo 1 >/sys/devices/system/cpu/cpu1/online", "CPU 1 online")
        do(host, "rmmod tdxhost", "module tdxhost unloaded")
        do(host, "insmod /usr/lib/vtdx/tdxhost.ko", "provider direct")
        plug(host, LATE, "online")
        wait_for_text(host, f"{where} online")
        do(host, "modprobe kvm_intel", "module kvm_intel loaded")
        do(host, "tdxhost enable", "TDX initialized")
        code = end_by(host, "INT")
        lines = shown(host)
        errors = host.run("cat", "/tmp/err").stdout

    first, *told = [line.partition("Z ")[2] for line in lines]
    assert (code, errors) == (0, "")
    assert first.startswith(f"now: TDX unknown, provider direct, {cpus} of {cpus} CPUs")
    # udev handles events of different devices side by side, and these come together.
    came = ("module tdxhost loaded", "TDX unknown, driver there, provider direct")
    gone = ("driver gone: there is no /dev/tdxhost", "module tdxhost unloaded")
    expected = ["CPU 1 offline", "CPU 1 online", {*gone}, {*came}]
    expected += [{f"{where} added", f"{where} online"}, "module kvm_intel loaded"]
    for thing in expected:
        things = thing if isinstance(thing, set) else {thing}
        assert set(told[: len(things)]) == things, told
        told = told[len(things) :]
    assert told[-1] == (f"TDX initialized, TDX module 1.5.16, step tdmr_init, {cpus} CPUs enabled")
    steps = [line.partition("step ")[2].partition(",")[0] for line in told if "step " in line]
    assert sorted(set(steps), key=steps.index) == [step for step in STEPS if step in steps]
    assert {"config", "key_config", "tdmr_init"} <= set(steps)
    stamps = [line.partition("Z ")[0] for line in lines]
    assert stamps == sorted(stamps)


def documents(host: Host) -> list[Any]:
    """What --format json has written, a document a line."""
    return [json.loads(line) for line in shown(host)]


def test_json_lines_say_the_same_and_a_reader_that_goes_away_ends_it(boot: Boot) -> None:
    with boot(warm=True) as host:
        begin(host, "--format", "json")
        host.run("tdxhost", "cpu-enable", "--cpus", "2")
        found = wait_for(host, 2)
        terminated = end_by(host, "TERM")
        told = documents(host)
        watch = "tdxhost watch | head -1 | cut -c1-2; echo ${PIPESTATUS[0]}"
        piped = host.run("setpriv", "--reuid=nobody", "bash", "-c", watch)

    start, change, *_ = told
    assert len(found) >= 2
    assert (start["schema"], start["subject"], start["source"]) == ("tdxhost/1", "start", "udev")
    assert start["driver"] == {
        "provider": "direct",
        "status": "unknown",
        "module_version": None,
    }
    assert (change["subject"], change["action"], change["name"]) == ("driver", "change", "tdxhost")
    assert (change["status"], change["cpus_enabled"]) == ("unknown", 1)
    assert terminated == 128 + 15
    # Who is not root may watch, too.
    assert piped.stdout.splitlines() == ["20", "141"]
    assert piped.stderr == ""
