# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost report --format openmetrics and nfd, as a timer runs it for a service to read."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli import parser, report
from tdxhost.cli.commands import COMMANDS
from tdxhost.cli.context import Context
from tdxhost.cli.main import main
from tdxhost.cli.parser import FORMATS
from tdxhost.errors import DriverDenied, DriverMissing, ExitCode
from tdxhost.records import Code
from tests import golden
from tests.unit.machines import fake_host, no_driver
from tests.unit.samples import INFO, FakeDriver, context, failed_cpu

FORMS = ("openmetrics", "nfd")
OTHERS = [command for command in COMMANDS if command != "report"]
FAILED = FakeDriver(cpus=(failed_cpu(0),))
ABSENT = FakeDriver(info=replace(INFO, valid=0, code=Code.NO_KEYIDS), cpus=(), steps=())


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Each of the formats."""
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, of a process that by itself gives files to its owner alone."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    yield tmp_path
    os.umask(before)


def asked(form: str, driver: FakeDriver, **options: Any) -> Context:
    """What the command is given on a healthy host."""
    given = {"output": None, "bundle": None, "recording": None} | options
    return context(driver, form, **given).but(host=fake_host())


def test_without_a_file_it_is_standard_output(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.run(asked(form, FakeDriver())) is ExitCode.OK
    written = capsys.readouterr()
    assert "tdxhost" in written.out
    assert written.err == ""
    assert list(folder.iterdir()) == []


def test_a_file_is_whole_for_everyone_to_read_and_nothing_is_said(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.run(asked(form, FakeDriver()))
    whole = capsys.readouterr().out
    (folder / "x.prom").write_text("older")
    assert report.run(asked(form, FakeDriver(), output="x.prom")) is ExitCode.OK
    written = (folder / "x.prom").read_text()
    assert _without_time(written) == _without_time(whole)
    assert stat.S_IMODE((folder / "x.prom").stat().st_mode) == 0o644
    assert [one.name for one in folder.iterdir()] == ["x.prom"]
    assert capsys.readouterr() == ("", "")


def _without_time(text: str) -> list[str]:
    return [line for line in text.splitlines() if "timestamp" not in line]


def test_a_public_file_is_not_given_to_who_called_sudo(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, ...]] = []
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "5678")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *ids: given.append(ids[1:]))
    report.run(asked("nfd", FakeDriver(), output="tdxhost"))
    assert given == []
    report.run(asked("json", FakeDriver(), output="x.json"))
    assert given == [(1234, 5678)]


def test_a_bundle_beside_it_stays_its_owners_alone(form: str, folder: Path) -> None:
    report.run(asked(form, FakeDriver(), output="x.prom", bundle="b.tar.gz"))
    assert stat.S_IMODE((folder / "b.tar.gz").stat().st_mode) == 0o600


@pytest.mark.parametrize(("driver", "code"), [(FAILED, ExitCode.FAILED), (ABSENT, ExitCode.ABSENT)])
def test_what_is_wrong_is_told_and_written(
    form: str,
    driver: FakeDriver,
    code: ExitCode,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report.run(asked(form, driver, output="x.prom")) is code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err
    assert "tdxhost" in (folder / "x.prom").read_text()


@pytest.mark.parametrize("error", [DriverMissing("none"), DriverDenied("not for you")])
def test_a_driver_that_cant_be_asked_is_an_error_after_the_file_is_there(
    form: str, error: Exception, folder: Path
) -> None:
    def refuse() -> Any:
        raise error

    (folder / "x.prom").write_text("tdxhost_up 1")
    with pytest.raises(type(error)):
        report.run(asked(form, FakeDriver(), output="x.prom").but(open_driver=refuse))
    text = (folder / "x.prom").read_text()
    assert ("tdxhost_up 0" if form == "openmetrics" else "tdxhost.verdict=") in text
    assert "initialized" not in text


def test_without_the_driver_the_exit_code_is_3(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Any = no_driver
    asked_for = asked(form, FakeDriver()).but(open_driver=opened)
    monkeypatch.setattr(Context, "given", lambda _: asked_for)
    assert main(["report", "--format", form]) == 3
    written = capsys.readouterr()
    assert "tdxhost" in written.out
    assert "/dev/tdxhost" in written.err


@pytest.mark.parametrize("name", ["spr-2s", "module-absent", "seamrr-off-one-cpu"])
def test_the_exit_code_is_that_of_status_from_a_bundle_too(
    form: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(golden.path_of(name))
    assert main(["report", "--from", path, "--format", form]) == main(["status", "--from", path])
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", OTHERS)
def test_they_are_formats_of_report_alone(
    command: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([command, "--format", form], ["--format", form, command]):
        with pytest.raises(SystemExit) as ended:
            parser.parse(words)
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert f"{form} is a format of report alone, not of {command}" in told


def test_they_stand_before_or_after_report(form: str) -> None:
    for words in (["report", "--format", form], ["--format", form, "report"]):
        assert parser.parse(words).format == form


@pytest.mark.parametrize("command", OTHERS)
def test_help_and_completion_of_others_do_not_offer_them(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse([command, "--help"])
    told = capsys.readouterr().out
    assert f"--format {{{','.join(FORMATS)}}}" in told
    assert not any(form in told for form in FORMS)


def test_help_of_report_says_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse(["report", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--format openmetrics writes metrics for node_exporter's textfile collector" in told
    assert "--format nfd features for Node Feature Discovery's local source" in told
