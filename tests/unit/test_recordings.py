# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings: what was read of a host is read again the same, on any machine."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tdxhost.errors import (
    BadData,
    DriverMissing,
    NoEnabledCpu,
    NotRead,
    TdxAbsent,
    TdxHostError,
    Unsupported,
    Usage,
    Why,
)
from tdxhost.host import Host, LiveHost
from tdxhost.recording import (
    MEMBER,
    DriverRecorder,
    NothingKnown,
    RecordedDriver,
    Recorder,
    Recording,
    recorded_driver,
    recorded_host,
    recording_driver,
)
from tests.unit.samples import FakeDriver, context


@pytest.fixture
def live(tmp_path: Path) -> Host:
    """A host with a text file, a binary one and a folder."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/one").write_text("uno\n")
    (tmp_path / "proc/two").write_bytes(b"\xff\x00")
    return LiveHost(tmp_path)


def _again(recording: Recording) -> Host:
    """The host as it is read from the recording's own text."""
    return recorded_host(Recording.of(json.loads(recording.text()), "recording"))


def test_files_and_folders_are_as_they_were(live: Host) -> None:
    recorder = Recorder(live)
    asked = (recorder.text("/proc/one"), recorder.data("/proc/two"), recorder.names("/proc"))
    again = _again(recorder.recording)
    assert asked == ("uno", b"\xff\x00", ("one", "two"))
    assert (again.text("/proc/one"), again.data("/proc/two"), again.names("/proc")) == asked


def test_what_could_not_be_read_can_t_be_read_for_the_same_reason(live: Host) -> None:
    recorder = Recorder(live)
    with pytest.raises(NotRead):
        recorder.msr(3, 0x87)
    with pytest.raises(NotRead) as caught:
        _again(recorder.recording).msr(3, 0x87)
    assert caught.value.why is Why.ABSENT
    assert caught.value.what == "MSRs of CPU 3"
    assert "modprobe msr" in caught.value.hint


def test_what_was_not_asked_is_not_recorded(live: Host) -> None:
    with pytest.raises(NotRead) as caught:
        _again(Recorder(live).recording).text("/proc/one")
    assert caught.value.why is Why.NOT_RECORDED


def test_a_host_is_asked_once(live: Host, tmp_path: Path) -> None:
    recorder = Recorder(live)
    recorder.text("/proc/one")
    (tmp_path / "proc/one").write_text("changed\n")
    assert recorder.text("/proc/one") == "uno"


READS: tuple[Callable[[DriverRecorder | RecordedDriver], object], ...] = (
    lambda driver: driver.get_info(),
    lambda driver: driver.get_status(),
    lambda driver: driver.get_cpus(),
    lambda driver: driver.get_steps(),
    lambda driver: driver.get_memory(),
    lambda driver: driver.sys_rd([1, 2]),
)


@pytest.mark.parametrize("read", READS)
def test_a_driver_answers_as_it_did(
    read: Callable[[DriverRecorder | RecordedDriver], object],
) -> None:
    recording = Recording()
    asked = read(DriverRecorder(FakeDriver(fields={1: 7}), recording))
    again = RecordedDriver(Recording.of(json.loads(recording.text()), "recording"))
    assert read(again) == asked


@pytest.mark.parametrize(
    "error",
    [
        NoEnabledCpu(6, "SYS_RD", "Enable one first"),
        TdxAbsent("SYS_RD: this host has no TDX", "See the log", 3),
        Unsupported(95, "SYS_RD", "hint", "words of its own"),
    ],
)
def test_a_driver_refuses_as_it_did(error: TdxHostError) -> None:
    recording = Recording()
    with pytest.raises(type(error)):
        DriverRecorder(FakeDriver(fields=error), recording).sys_rd([1])
    again = RecordedDriver(Recording.of(json.loads(recording.text()), "recording"))
    with pytest.raises(type(error)) as caught:
        again.sys_rd([1])
    assert vars(caught.value) == vars(error)


def test_a_driver_that_is_not_loaded_is_not_loaded_in_the_recording() -> None:
    def missing() -> FakeDriver:
        raise DriverMissing("there is no /dev/tdxhost", "Load it")

    recording = Recording()
    with pytest.raises(DriverMissing), recording_driver(missing, recording):  # type: ignore[arg-type]
        pass
    with pytest.raises(DriverMissing, match="there is no /dev/tdxhost"), recorded_driver(recording):
        pass


def test_a_driver_that_is_loaded_opens(live: Host) -> None:
    recording = Recording()
    with recording_driver(context(FakeDriver()).open_driver, recording) as source:
        info = source.get_info()
    with recorded_driver(recording) as source:
        assert source.get_info() == info


def test_a_recording_is_found_in_a_bundle(live: Host, tmp_path: Path) -> None:
    recorder = Recorder(live)
    recorder.text("/proc/one")
    file = tmp_path / MEMBER
    file.write_text(recorder.recording.text())
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as bundle:
        bundle.add(file, arcname=f"host/{MEMBER}")
    assert recorded_host(Recording.load(tmp_path / "b.tar.gz")).text("/proc/one") == "uno"
    assert recorded_host(Recording.load(file)).text("/proc/one") == "uno"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "Expecting value"),
        ("[]", "is no recording"),
        ('{"schema": "tdxhost-recording/9", "answers": {}}', "tdxhost-recording/9"),
        ('{"schema": "tdxhost-recording/1", "answers": {}}', "taken_at"),
    ],
)
def test_what_is_no_recording_says_so(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(BadData, match=says):
        Recording.load(tmp_path / "x")


def test_a_bundle_without_recording_says_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w"):
        pass
    with pytest.raises(BadData, match="no recording"):
        Recording.load(tmp_path / "b.tar")


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="No such file"):
        Recording.load(tmp_path / "none")


def test_nothing_is_known_of_no_host() -> None:
    nothing = NothingKnown()
    assert nothing.text_or("/proc/cmdline", "-") == "-"
    assert not nothing.has("/proc/cmdline")
    for read in (nothing.log, lambda: nothing.names("/"), lambda: nothing.msr(0, 0x87)):
        with pytest.raises(NotRead):
            read()
