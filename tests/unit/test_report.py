# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost report: what it says, what it never says, and how its files appear."""

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli import info, memory, report, status
from tdxhost.cli.context import Context
from tdxhost.doctor.engine import Outcome
from tdxhost.errors import ExitCode, Usage
from tdxhost.findings import Judge
from tdxhost.recording import Recording, recorded_host
from tdxhost.records import Code, ModuleStatus, Step
from tdxhost.report.bundle import bundle
from tdxhost.report.collect import replay, take
from tdxhost.report.document import report_document
from tdxhost.report.model import Report
from tdxhost.report.output import replace_file
from tdxhost.report.page import page
from tdxhost.report.words import sentence
from tests.unit.machines import FakeHost, fake_host, many_cpus, no_driver
from tests.unit.samples import STATUS, FakeDriver, context, cpu, failed_cpu, untried_cpu

#: What the files of the host hold that nobody is to see.
PRIVATE = (
    "SERIAL-4711",
    "01234567-89ab-cdef-0123-456789abcdef",
    "secret-name",
    "1111-2222",
    "52:54:00:12:34:56",
)
UP = FakeDriver()
FAILED = FakeDriver(
    status=replace(STATUS, module_status=ModuleStatus.ERROR, step=Step.CPUS, error=5),
    cpus=(*(cpu(number) for number in range(3)), failed_cpu(3)),
)
UNTRIED = FakeDriver(
    status=replace(STATUS, module_status=ModuleStatus.UNKNOWN, step=Step.NONE),
    cpus=tuple(untried_cpu(number) for number in range(4)),
    steps=(),
)


def taken(host: FakeHost, driver: FakeDriver | None) -> tuple[Report, Recording]:
    """A report of a host, live."""
    opened = no_driver if driver is None else context(driver).open_driver
    return take(host, opened, Judge())  # type: ignore[arg-type]


def asked(
    driver: FakeDriver = UP,
    form: str = "table",
    **options: Any,
) -> Context:
    """What the command is given on a healthy host."""
    given = {"output": None, "bundle": None, "recording": None} | options
    return context(driver, form, **given).but(host=fake_host())


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_host_that_is_up_says_so() -> None:
    up, _ = taken(fake_host(), FakeDriver())
    assert up.headline.level is Outcome.PASS
    assert up.headline.text == "TDX is initialized: 4 of 4 CPUs enabled in 2 packages"


def test_a_cpu_that_failed_is_the_verdict_where_nothing_else_is_wrong() -> None:
    bad, _ = taken(fake_host(), FAILED)
    assert bad.headline.level is Outcome.FAIL
    assert "CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR" in bad.headline.text


def test_a_check_that_failed_is_the_verdict_before_what_follows_from_it() -> None:
    off = fake_host(changed={(cpu, 0x982): 0x1 for cpu in range(4)})
    bad, _ = taken(off, FAILED)
    assert bad.headline.level is Outcome.FAIL
    assert "memory encryption (TME)" in bad.headline.text
    assert "BIOS" in bad.headline.hint


def test_a_host_that_waits_says_what_to_run() -> None:
    waiting, _ = taken(
        fake_host(files={"/proc/iomem": "00100000-7fffffff : System RAM\n"}), UNTRIED
    )
    assert "sudo tdxhost enable" in waiting.headline.hint


def test_a_page_tells_what_failed_once() -> None:
    text = page(taken(fake_host(), FAILED)[0])
    told = re.findall(r"<h3>[^<]*<span[^>]*>.</span> ([^<]*)", text)
    assert len([one for one in told if "TDX_INCONSISTENT_MSR" in one]) == 1


def test_without_root_and_driver_what_was_not_looked_at_is_no_failure() -> None:
    blind, _ = taken(fake_host(root=False), None)
    assert blind.headline.level is not Outcome.FAIL
    whats = {one.what for one in blind.unread}
    assert {"the driver", "memory map", "MSRs", "kernel log"} <= whats
    assert report_document(blind)["status"] is None
    assert "Not looked at" in page(blind)


@pytest.mark.parametrize("command", ["status", "info", "memory"])
def test_the_document_holds_those_of_other_commands(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = FakeDriver(fields={0x0A00000100000000: 7})
    {"status": status, "info": info, "memory": memory}[command].run(asked(driver, "json"))
    alone = json.loads(capsys.readouterr().out)
    report.run(asked(driver, "json"))
    assert json.loads(capsys.readouterr().out)[command] == alone


def test_the_document_has_what_is_wrong_with_an_msr_by_cpu() -> None:
    odd, _ = taken(fake_host(changed={(3, 0x3A): 0x4}), FakeDriver())
    msrs = {one["address"]: one for one in report_document(odd)["msrs"]}
    most, other = msrs["0x3a"]["values"]
    assert (most["value"], most["cpus"], most["wrong"]) == ("0x0000000000000005", [0, 1, 2], [])
    assert (other["value"], other["cpus"]) == ("0x0000000000000004", [3])
    assert [(bits["low"], bits["name"], bits["wanted"]) for bits in other["wrong"]] == [
        (0, "LOCK", "1")
    ]


def test_what_the_kernels_log_shows_is_decoded() -> None:
    line = "[    2.000000] virt/tdx: SEAMCALL (0x0000000000000023) failed: 0xc00009200000010a"
    host = replace(fake_host(), lines=(line, "[    3.000000] eth0: link is up"))
    made, _ = taken(host, None)
    kernel = report_document(made)["kernel"]
    assert kernel["log"] == [line]
    (found,) = [one for one in kernel["log_findings"] if one["kind"] == "failure"]
    assert "0x10a" in json.dumps(found)
    assert line.partition("] ")[2] in found["lines"][0]["text"]
    assert found["title"][1:] in page(made)


def test_an_msr_that_the_processor_lacks_is_told_from_one_that_was_not_read() -> None:
    lacking = fake_host()
    msrs = {key: value for key, value in lacking.msrs.items() if key != (2, 0x1402)}
    of_all, _ = taken(replace(lacking, msrs=msrs | {(0, 0x1402): 1, (1, 0x1402): 1}), None)
    found = {one["address"]: one for one in report_document(of_all)["msrs"]}
    assert found["0x1402"]["faults"] == [2, 3]


@pytest.mark.parametrize("driver", [FakeDriver(), FAILED, None])
def test_nothing_private_is_in_any_file(driver: FakeDriver | None) -> None:
    host = fake_host()
    held = json.dumps(dict(host.files)) + "".join(host.lines)
    assert all(secret in held for secret in PRIVATE)
    made, recording = taken(host, driver)
    with tarfile.open(fileobj=io.BytesIO(bundle(made, recording))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            text = file.read().decode(errors="replace")
            assert [secret for secret in PRIVATE if secret in text] == [], member.name
            assert not re.search(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", text), member.name


@pytest.mark.parametrize("driver", [FakeDriver(), FAILED, None])
def test_a_bundle_gives_the_same_document_anywhere(
    driver: FakeDriver | None, tmp_path: Path
) -> None:
    made, recording = taken(fake_host(), driver)
    (tmp_path / "b.tar.gz").write_bytes(bundle(made, recording))
    again = replay(Recording.load(tmp_path / "b.tar.gz"), Judge())
    assert report_document(again) == report_document(made)
    assert page(again) == page(made)


def test_a_bundle_of_a_bundle_is_the_same_byte_by_byte(tmp_path: Path) -> None:
    made, recording = taken(fake_host(), FakeDriver())
    content = bundle(made, recording)
    (tmp_path / "b.tar.gz").write_bytes(content)
    recording = Recording.load(tmp_path / "b.tar.gz")
    assert bundle(replay(recording, Judge()), recording) == content


def test_a_bundle_says_nothing_of_who_made_it() -> None:
    made, recording = taken(fake_host(), FakeDriver())
    made, recording.taken_at = replace(made, taken_at="2026-11-26T02:00:00Z"), ""
    with tarfile.open(fileobj=io.BytesIO(bundle(made, recording))) as archive:
        members = archive.getmembers()
    assert {(one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, "", "")}
    assert {one.mtime for one in members} == {1795658400}
    names = [one.name for one in members]
    assert names[:3] == [f"tdxhost-report/{name}" for name in REPORT_FILES]
    assert {"tdxhost-report/raw/proc/cmdline", "tdxhost-report/raw/dmesg"} <= set(names)


REPORT_FILES = ("report.html", "report.json", "recording.json")


def test_status_reads_from_a_bundle_what_it_reads_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, recording = taken(fake_host(), FAILED)
    (tmp_path / "b.tar.gz").write_bytes(bundle(made, recording))
    loaded = Recording.load(tmp_path / "b.tar.gz")
    for command in (status, info, memory):
        command.run(asked(FAILED))
        live = capsys.readouterr()
        command.run(asked().but(host=recorded_host(loaded), recording=loaded))
        assert capsys.readouterr() == live


def test_a_page_needs_nothing_beside_it() -> None:
    text = page(taken(fake_host(), FakeDriver())[0])
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text


def test_what_firmware_says_is_text_on_a_page() -> None:
    evil = fake_host(files={"/sys/class/dmi/id/product_name": "<script>alert(1)</script>\n"})
    text = page(taken(evil, FakeDriver())[0])
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_page_has_every_cpu_of_a_large_host() -> None:
    failed = [failed_cpu(17), failed_cpu(241)]
    text = page(taken(fake_host(2, 112, 2), many_cpus(2, 112, 2, failed))[0])
    titles = re.findall(r'class="cell (\w+)" role="img" tabindex="[-0-9]+" title="CPU (\d+)', text)
    assert sorted(int(number) for _, number in titles) == list(range(448))
    assert sorted(int(number) for kind, number in titles if kind == "failed") == [17, 241]


def test_without_options_a_page_is_written_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.run(asked()) is ExitCode.OK
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "TDX is initialized: 4 of 4 CPUs enabled in 2 packages.",
        "Written: tdxhost-report.html",
    ]
    assert (folder / "tdxhost-report.html").read_text().startswith("<!DOCTYPE html>")
    assert names(folder) == ["tdxhost-report.html"]


def test_a_failure_exits_with_one(folder: Path) -> None:
    assert report.run(asked(FAILED)) is ExitCode.FAILED


def test_a_dash_is_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.run(asked(output="-"))
    told = capsys.readouterr()
    assert told.out.startswith("<!DOCTYPE html>")
    assert told.err.startswith("TDX is initialized")
    assert names(folder) == []


def test_a_bundle_alone_writes_no_page(folder: Path) -> None:
    report.run(asked(bundle="b.tar.gz"))
    assert names(folder) == ["b.tar.gz"]


def test_a_document_goes_where_it_is_told_to(folder: Path) -> None:
    report.run(asked(form="json", output="x.json"))
    assert json.loads((folder / "x.json").read_text())["schema"] == "tdxhost/1"


def test_a_file_is_its_owners_alone(folder: Path) -> None:
    report.run(asked())
    assert stat.S_IMODE((folder / "tdxhost-report.html").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_regular_file_is_left_as_it_is(folder: Path, kind: str) -> None:
    target = folder / "x.html"
    if kind == "folder":
        target.mkdir()
    elif kind == "link":
        target.symlink_to("elsewhere")
    else:
        os.mkfifo(target)
    before = target.lstat()
    with pytest.raises(Usage, match="is left as it is"):
        report.run(asked(output="x.html"))
    assert target.lstat().st_mode == before.st_mode
    assert names(folder) == ["x.html"]


def test_a_folder_that_is_not_there_is_wrong_usage(folder: Path) -> None:
    with pytest.raises(Usage, match="there is no folder"):
        report.run(asked(output="none/x.html"))


def test_an_older_file_is_replaced(folder: Path) -> None:
    (folder / "tdxhost-report.html").write_text("old")
    report.run(asked())
    assert (folder / "tdxhost-report.html").read_text() != "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_fails_while_it_writes_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    def fail(_fd: int) -> None:
        raise error

    (folder / "x").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((KeyboardInterrupt, Usage)):
        replace_file(folder / "x", b"new")
    assert (folder / "x").read_text() == "old"
    assert names(folder) == ["x"]


#: Writes a file, and waits in the middle of it.
SLOW = """
import os, time
from pathlib import Path
from tdxhost.report.output import replace_file, unwinding
def wait(fd):
    print("there", flush=True)
    time.sleep(60)
os.fsync = wait
with unwinding():
    replace_file(Path("x"), b"new")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_old_file_and_nothing_else(folder: Path, number: int) -> None:
    (folder / "x").write_text("old")
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A shell's background jobs, and what nohup runs, ignore some of them.
    default = f"--default-signal={signal.Signals(number).name.removeprefix('SIG')}"
    command = ["env", default, sys.executable, "-c", SLOW]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=paths, cwd=folder
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert len(names(folder)) == 2
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == -number
    assert (folder / "x").read_text() == "old"
    assert names(folder) == ["x"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("memory encryption is off", "Memory encryption is off."),
        ("kvm_intel is not loaded", "kvm_intel is not loaded."),
        ("0x10a differs", "0x10a differs."),
        ("step config: too late.", "Step config: too late."),
    ],
)
def test_a_sentence_keeps_names_as_they_are(text: str, says: str) -> None:
    assert sentence(text) == says


def test_a_host_without_tdx_is_told_by_the_drivers_finding() -> None:
    absent = replace(UNTRIED, info=replace(UNTRIED.info, code=Code.NO_MODULE))
    assert report_document(taken(fake_host(), absent)[0])["status"]["code"] == "no_module"
