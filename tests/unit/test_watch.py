# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes as the kernel's events tell them: which matter, and how they are said.

The events are pyudev's own devices, made from an environment as udev makes one for a program.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli.watch import document_of, line_of
from tdxhost.events import Change, Monitor, MonitorMissing, Subject, standing
from tdxhost.host import LiveHost

PROJECT = Path(__file__).resolve().parents[2]
WHEN = datetime(2026, 1, 31, 12, 0, 0, 1500, tzinfo=UTC)
STAMP = "2026-01-31 12:00:00.001Z "

#: What the driver's events carry (kmod/status.c); step 8 is TDXHOST_STEP_CACHE_FLUSH.
STEP_8 = {"TDXHOST_STATUS": "unknown", "TDXHOST_STEP": "8", "TDXHOST_CPUS_ENABLED": "1"}
DEVICE = {"MAJOR": "10", "MINOR": "99", "DEVNAME": "/dev/tdxhost"}

#: An event's device is read from a process' first environment.
READ = """
import json, sys, pyudev
from pathlib import Path
from tdxhost.cli.watch import document_of, line_of
from tdxhost.events import change_of
from tdxhost.host import LiveHost
device = pyudev.Devices.from_environment(pyudev.Context())
change = change_of(device, LiveHost(Path(sys.argv[1])))
print(json.dumps(change and [line_of(change), document_of(change)]))
"""


def _read(root: Path, subsystem: str, path: str, action: str, **more: str) -> Any:
    """What comes of an event: its line without time, and its document."""
    told = {"ACTION": action, "SUBSYSTEM": subsystem, "DEVPATH": path, "SEQNUM": "7"}
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(root)],
        capture_output=True,
        text=True,
        check=True,
        env={**told, **more, "PYTHONPATH": str(PROJECT)},
    )
    answer = json.loads(ran.stdout)
    return answer and (answer[0][len(STAMP) :], answer[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with blocks of 128 MiB, three of them online, and a driver."""
    files = {
        "sys/devices/system/memory/block_size_bytes": "8000000\n",
        "sys/devices/system/cpu/online": "0-2\n",
        "sys/devices/system/cpu/present": "0-3\n",
        "sys/class/misc/tdxhost/provider": "direct\n",
        "sys/class/misc/tdxhost/status": "initialized\n",
        "sys/class/misc/tdxhost/module_version": "unknown\n",
        "sys/module/tdxhost/version": "1\n",
        "sys/module/kvm_intel/version": "1\n",
    }
    files |= {f"sys/devices/system/memory/memory{n}/online": f"{int(n < 3)}\n" for n in range(4)}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("subsystem", "path", "action", "line"),
    [
        ("cpu", "/devices/system/cpu/cpu3", "offline", "CPU 3 offline"),
        ("cpu", "/devices/system/cpu/cpu3", "online", "CPU 3 online"),
        ("cpu", "/devices/system/cpu/cpu12", "add", "CPU 12 added"),
        # Block 34 of 128 MiB begins at 34 times 0x8000000.
        (
            "memory",
            "/devices/system/memory/memory34",
            "online",
            "memory 0x110000000-0x117ffffff online",
        ),
        (
            "memory",
            "/devices/system/memory/memory34",
            "remove",
            "memory 0x110000000-0x117ffffff removed",
        ),
        ("module", "/module/kvm_intel", "add", "module kvm_intel loaded"),
        ("module", "/module/tdxhost", "remove", "module tdxhost unloaded"),
    ],
)
def test_an_event_of_the_kernels_is_said_in_one_line(
    root: Path, subsystem: str, path: str, action: str, line: str
) -> None:
    assert _read(root, subsystem, path, action)[0] == line


@pytest.mark.parametrize(
    ("subsystem", "path"),
    [("module", "/module/ext4"), ("misc", "/devices/virtual/misc/fuse")],
)
def test_what_has_nothing_to_do_with_tdx_is_passed_over(
    root: Path, subsystem: str, path: str
) -> None:
    assert _read(root, subsystem, path, "add", **(DEVICE if subsystem == "misc" else {})) is None


def test_the_drivers_event_is_believed_before_what_sysfs_says_meanwhile(root: Path) -> None:
    path = "/devices/virtual/misc/tdxhost"
    line, document = _read(root, "misc", path, "change", **DEVICE, **STEP_8)
    assert line == "TDX unknown, step cache_flush, 1 CPU enabled"
    assert document["status"] == "unknown"
    assert (document["step"], document["cpus_enabled"]) == ("cache_flush", 1)
    assert document["provider"] == "direct"


def test_a_driver_that_comes_says_where_it_stands_and_one_that_goes_nothing(root: Path) -> None:
    path = "/devices/virtual/misc/tdxhost"
    (root / "sys/class/misc/tdxhost/module_version").write_text("1.5.6\n", encoding="utf-8")
    came, _ = _read(root, "misc", path, "add", **DEVICE)
    gone, document = _read(root, "misc", path, "remove", **DEVICE)
    assert came == "TDX initialized, TDX module 1.5.6, driver there, provider direct"
    assert gone == "driver gone: there is no /dev/tdxhost"
    assert "status" not in document


def test_a_watch_begins_with_where_things_stand(root: Path) -> None:
    change = Change(WHEN, Subject.START, "start", state=standing("udev", LiveHost(root)))
    assert line_of(change) == (
        f"{STAMP}now: TDX initialized, provider direct, kvm_intel loaded, "
        "3 of 4 CPUs online, 384.0 MiB of memory online"
    )
    document = document_of(change)
    assert document["schema"] == "tdxhost/1"
    assert document["time"] == "2026-01-31T12:00:00.001Z"
    driver = {"provider": "direct", "status": "initialized", "module_version": None}
    assert document["driver"] == driver
    assert document["memory_online_bytes"] == 3 * 128 << 20


def test_a_host_that_tells_nothing_has_nulls(tmp_path: Path) -> None:
    state = standing("kernel", LiveHost(tmp_path))
    assert {name for name, value in state.items() if value is None} == {
        *("driver", "cpus_online", "cpus_present", "memory_online_bytes")
    }
    assert line_of(Change(WHEN, Subject.START, "start", state=state)) == (
        f"{STAMP}now: driver not loaded"
    )


def test_addresses_are_registers_in_documents() -> None:
    state = {"base_pa": 0x110000000, "bytes": 1 << 27}
    document = document_of(Change(WHEN, Subject.MEMORY, "online", "memory34", state))
    assert document["base_pa"] == "0x0000000110000000"
    assert document["name"] == "memory34"


def test_udev_is_the_source_where_it_runs(tmp_path: Path) -> None:
    assert Monitor(LiveHost(tmp_path)).source == "kernel"
    (tmp_path / "run/udev").mkdir(parents=True)
    (tmp_path / "run/udev/control").touch()
    assert Monitor(LiveHost(tmp_path)).source == "udev"


def test_without_pyudev_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyudev", None)
    with pytest.raises(MonitorMissing) as missing:
        Monitor(LiveHost())
    assert "apt-get install python3-pyudev" in missing.value.hint


def _watch(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tdxhost", "watch", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_are_one_for_each_change(form: str) -> None:
    import yaml

    ran = _watch("--for", "0.1", "--format", form)
    assert ran.returncode == 0, ran.stderr
    first, *_ = ran.stdout.splitlines() if form == "json" else (ran.stdout,)
    documents = [json.loads(first)] if form == "json" else list(yaml.safe_load_all(first))
    assert documents[0]["subject"] == "start"


def test_a_time_that_is_none_is_wrong_usage() -> None:
    for word in ("0", "-1", "nan", "soon"):
        assert _watch(f"--for={word}").returncode == 2
