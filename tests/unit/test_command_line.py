# SPDX-License-Identifier: GPL-2.0-or-later
"""The command as a process: options, exit codes, messages, interruptions."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tdxhost.cli import main as command_line
from tdxhost.cli import parser
from tdxhost.device import Device, _refusal
from tdxhost.errors import (
    BadData,
    CpuUnavailable,
    DriverDenied,
    DriverMissing,
    DriverRefused,
    Interrupted,
    NoEnabledCpu,
    OptionUnsupported,
    TdxAbsent,
    TdxHostError,
    Unsupported,
    Usage,
)
from tdxhost.opening import open_device, open_failure

PROJECT = Path(__file__).resolve().parents[2]
NO_DEVICE = not Path("/dev/tdxhost").exists()


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tdxhost", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Usage("x"), 2),
        (CpuUnavailable(7, "is offline"), 2),
        (DriverMissing("x"), 3),
        (TdxAbsent("x"), 3),
        (DriverDenied("x"), 4),
        (DriverRefused(errno.EIO, "ENABLE"), 1),
        (Unsupported(errno.ENOTTY, "ENABLE"), 1),
        (BadData("/sys/x", "line 1", "is no number"), 1),
        (TdxHostError("x"), 1),
        (OSError(errno.EIO, "gone"), 1),
        (KeyboardInterrupt(), 130),
        (Interrupted("x"), 130),
        (OptionUnsupported("--skip-non-cmr"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_a_message(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(parser, "dispatch", lambda words: _raise(error))
    monkeypatch.setattr(command_line, "_discard_output", lambda: None)
    assert command_line.main([]) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("tdxhost: ")


@pytest.mark.skipif(not NO_DEVICE, reason="this machine has /dev/tdxhost")
@pytest.mark.parametrize("command", ["status", "enable", "cpu-enable", "info", "memory"])
def test_without_the_driver_a_command_says_how_to_load_it(command: str) -> None:
    run = _run(command)
    assert run.returncode == 3
    assert run.stdout == ""
    assert "/dev/tdxhost" in run.stderr
    assert "modprobe tdxhost" in run.stderr
    assert "scripts/install" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "words",
    [[], ["fly"], ["status", "--format", "xml"], ["--form", "json", "status"], ["enable", "x"]],
)
def test_wrong_usage_exits_with_2(words: list[str]) -> None:
    run = _run(*words)
    assert run.returncode == 2
    assert "usage: tdxhost" in run.stderr


def test_a_cpu_list_that_cant_be_read_is_wrong_usage() -> None:
    run = _run("cpu-enable", "--cpus", "0-x")
    assert run.returncode == 2
    assert "0-x" in run.stderr


@pytest.mark.parametrize(
    "words",
    [["--format", "json", "status"], ["status", "--format", "json"], ["-v", "status", "-v"]],
)
def test_common_options_stand_before_or_after_the_command(words: list[str]) -> None:
    arguments = parser.parse(words)
    if "json" in words:
        assert arguments.format == "json"
    else:
        assert arguments.verbose


def test_version_and_help_need_nothing() -> None:
    assert _run("--version").stdout.startswith("tdxhost ")
    for words in (["--help"], ["enable", "--help"], ["cpu-enable", "--help"]):
        run = _run(*words)
        assert run.returncode == 0
        assert run.stdout.startswith("usage: tdxhost")
        assert all(len(line) <= 95 for line in run.stdout.splitlines())


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        run = subprocess.run(
            [sys.executable, "-m", "tdxhost", "--help"],
            # Unbuffered, argparse itself swallows the error.
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=PROJECT,
        )
    assert run.stderr == ""
    assert run.returncode == command_line.BROKEN_PIPE


@pytest.mark.parametrize("end", [">/dev/full", ">&-"])
def test_output_that_cant_be_written_gives_no_traceback(end: str) -> None:
    run = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m tdxhost --help {end}"],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr
    assert run.returncode == (1 if "full" in end else 0)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENODEV, TdxAbsent),
        (errno.EOPNOTSUPP, Unsupported),
        (errno.ENOTTY, Unsupported),
        (errno.ENXIO, NoEnabledCpu),
        (errno.EPERM, DriverDenied),
        (errno.EINVAL, DriverRefused),
        (errno.E2BIG, DriverRefused),
        (errno.ENOMEM, DriverRefused),
        (errno.ENOSPC, DriverRefused),
    ],
)
def test_each_errno_of_a_call_is_told_with_the_command(
    number: int, kind: type[TdxHostError]
) -> None:
    error = _refusal(number, "ENABLE")
    assert type(error) is kind
    assert "ENABLE" in error.message


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, DriverMissing),
        (errno.ENXIO, DriverMissing),
        (errno.EPERM, DriverDenied),
        (errno.EACCES, DriverDenied),
        (errno.EMFILE, DriverRefused),
    ],
)
def test_each_errno_of_open_is_told_with_what_to_do(number: int, kind: type[TdxHostError]) -> None:
    error = open_failure("/dev/tdxhost", OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert "/dev/tdxhost" in error.message


def test_a_file_that_is_no_tdxhost_device_is_refused_by_name(tmp_path: Path) -> None:
    plain = tmp_path / "tdxhost"
    plain.touch()
    with Device(open_device(str(plain))) as device, pytest.raises(Unsupported, match="GET_INFO"):
        device.get_info()
    device.close()
