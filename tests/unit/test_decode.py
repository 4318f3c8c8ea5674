# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost decode: statuses bit by bit, and the command as people use it."""

import contextlib
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tdxhost.cli import decode as command
from tdxhost.cli import main as command_line
from tdxhost.cli import parser
from tdxhost.decode import Decoder, parse_cpuid, parse_leaf
from tdxhost.errors import DriverDenied, NotRead, Usage, Why
from tdxhost.host import LiveHost
from tdxhost.klog.lines import LogReader
from tdxhost.leaves import MODULE_LEAVES, PSEAMLDR_BIT, PSEAMLDR_LEAVES, leaf_name
from tdxhost.recording import Recording
from tdxhost.sieve import sieve_log
from tdxhost.status import Reference

#: The first example reads tables, and machines are slow at times.
UNHURRIED = settings(deadline=None)
PROJECT = Path(__file__).resolve().parents[2]
SAMPLES = PROJECT / "tests/data/klog"
DECODER = Decoder()
REFERENCE = Reference()
MAX = 2**64 - 1
WORDS = st.integers(0, MAX)
REGISTERS = st.dictionaries(st.sampled_from(["rcx", "rdx", "r8", "r9", "r10", "r11"]), WORDS)

Captured = pytest.CaptureFixture[str]


def _run(*words: str) -> int:
    return parser.dispatch(["decode", *words])


def _json(capsys: Captured, *words: str) -> tuple[int, dict[str, Any]]:
    code = _run("--format", "json", *words)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


@UNHURRIED
@given(status=WORDS, leaf=st.none() | WORDS, registers=REGISTERS, value=st.none() | WORDS)
def test_any_status_is_explained(
    status: int, leaf: int | None, registers: dict[str, int], value: int | None
) -> None:
    explained = DECODER.explain(status, leaf, registers, value)
    assert f"{status:#018x}" in explained.decoded.label or explained.is_known
    assert explained.is_known or explained.class_bits or (leaf is not None and leaf & PSEAMLDR_BIT)


@pytest.mark.parametrize("status", [value for value in REFERENCE.statuses if not value << 32 & MAX])
def test_a_status_is_told_at_least_as_the_reference_tells_it(status: int) -> None:
    for low in (0, 1, 0x10A, 0x0302):
        for leaf in (33, 35, 45, 21):
            known = REFERENCE.decode(status | low, leaf)
            explained = DECODER.explain(status | low, leaf)
            assert explained.decoded.name == known.name
            assert explained.says.startswith(known.says)
            assert known.meaning is not None
            assert explained.meaning == known.meaning.meaning
            assert explained.likely_cause == known.meaning.likely_cause
            assert explained.what_to_do == known.meaning.what_to_do
            assert explained.leaf_name == leaf_name(leaf)


def test_a_status_that_takes_the_whole_word_is_known() -> None:
    (whole,) = [value for value in REFERENCE.statuses if value << 32 & MAX]
    explained = DECODER.explain(whole)
    assert explained.is_known
    assert explained.decoded.name == REFERENCE.statuses[whole].name


def test_codes_of_kernels_and_of_the_loader_are_told_without_a_leaf() -> None:
    for value, meaning in REFERENCE.whole_words.items():
        assert DECODER.explain(value).decoded.name == meaning.name
    for value, meaning in REFERENCE.pseamldr.items():
        if value:
            assert DECODER.explain(value).decoded.name == meaning.name
            assert DECODER.explain(value).leaf_name == "P-SEAMLDR"


def test_an_msr_that_is_wrong_is_told_bit_by_bit() -> None:
    explained = DECODER.explain(0xC00009210000010A, 33, {}, 0x12AFC6B)
    assert explained.wrong == ("bit 8 TAA_NO has to be 1, and is 0",)
    assert any("8 TAA_NO" in said and "have to be 1" in said for said in explained.wanted)
    assert "bit 2 RSBA has to be 0" in explained.wanted


def test_an_msr_that_differs_is_shown_without_wishes() -> None:
    explained = DECODER.explain(0xC00009200000003B, 35, {}, 0x10)
    assert explained.wanted == ()
    assert [row.label for row in explained.shown] == ["bit 4"]
    assert "TDH.MNG.INIT" in explained.hints[0]


@pytest.mark.parametrize(
    ("status", "value", "name"),
    [
        (0xC000090100000000, 0x850089 | 1 << 22, "LIMIT_CPUID_MAXVAL"),
        (0xC000091400000000, 0x450A, "SMRR"),
        (0xC000091300000000, 0x8D0A, "SMRR_LOCK"),
    ],
)
def test_statuses_that_have_no_msr_number_are_about_one_all_the_same(
    status: int, value: int, name: str
) -> None:
    explained = DECODER.explain(status, 33, {}, value)
    assert any(name in wrong for wrong in explained.wrong)


def test_an_operand_is_told_as_what_it_is_to_the_leaf() -> None:
    says = DECODER.explain(0xC000010000000008, 45).says
    assert says == (
        "operand R8 is not acceptable (of TDH.SYS.CONFIG: global KeyID, has to be private "
        "(bit 16: dynamic PAMT, on newer modules))"
    )
    assert "(of" not in DECODER.explain(0xC000010000000008).says


def test_a_metadata_field_that_was_asked_for_is_named() -> None:
    explained = DECODER.explain(0xC000050500000000, 34, {"rdx": 0x9100000100000008})
    assert "MAX_TDMRS" in explained.notes[0]


def test_the_upper_half_of_an_unknown_status_is_told() -> None:
    told = DECODER.explain(0xC0007F0000000000)
    assert not told.is_known
    assert "the call failed" in told.class_bits
    assert "class 0x7f" in told.class_bits
    assert "no failure" in DECODER.explain(0x0000081600000000).class_bits
    assert "fatal for the TD" in DECODER.explain(0xE000010000000000).class_bits


@pytest.mark.parametrize("number", [*MODULE_LEAVES, *PSEAMLDR_LEAVES])
def test_a_leaf_is_read_by_number_and_by_name(number: int) -> None:
    assert parse_leaf(str(number)) == parse_leaf(hex(number)) == number
    for name in leaf_name(number).split(" / "):
        assert parse_leaf(name) == parse_leaf(name.lower().replace(".", "_")) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("eax=0x2 ebx=0x3 ecx=0x4 edx=0x5", {"EAX": 2, "EBX": 3, "ECX": 4, "EDX": 5}),
        ("0x00000007 0x00: eax=0x00000002 ecx=0x10", {"EAX": 2, "ECX": 16}),
        ("2,3,0x4,5", {"EAX": 2, "EBX": 3, "ECX": 4, "EDX": 5}),
        ("0x10", None),
        ("a,b,c,d", None),
    ],
)
def test_cpuid_is_read_as_tools_print_it(text: str, value: dict[str, int] | None) -> None:
    assert parse_cpuid(text) == value


@UNHURRIED
@given(st.text())
def test_any_text_is_read_as_numbers_or_not_at_all(text: str) -> None:
    parse_leaf(text)
    parse_cpuid(text)
    with contextlib.suppress(Usage):
        command.parse_status(text)


def test_the_answer_stands_first(capsys: Captured) -> None:
    assert _run("0xc00009200000010a", "--leaf", "TDH.SYS.LP.INIT") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR"
    assert lines[1] == "MSR 0x10a IA32_ARCH_CAPABILITIES differs from the other CPUs"


@pytest.mark.parametrize(
    "text",
    ["0xC00009200000010A", "c00009200000010a", "13835068088325767434", "-4611675985383784182"],
)
def test_a_status_is_read_as_people_have_it(text: str, capsys: Captured) -> None:
    code, document = _json(capsys, text)
    assert code == 0
    assert (document["status"], document["decoded"]) == ("0xc00009200000010a", "status")
    assert document["status_name"] == "TDX_INCONSISTENT_MSR"


CPUID = ("0xc000090000000000", "--leaf", "33", "--rcx", "0x7", "--rdx", "0")
MOVDIR64B = (*CPUID, "--reg", "r8=0x18000000", "--reg", "R09=0", "--r10", "0x18000000")


def test_registers_name_the_bits_of_cpuid(capsys: Captured) -> None:
    _, document = _json(capsys, *MOVDIR64B)
    assert document["wanted"] == [
        "CPUID leaf 0x7 sub-leaf 0x0: ECX bit 27 MOVDIRI has to be 1",
        "CPUID leaf 0x7 sub-leaf 0x0: ECX bit 28 MOVDIR64B has to be 1",
    ]
    _, document = _json(capsys, *MOVDIR64B, "--value", "eax=2 ebx=0 ecx=0x08000000 edx=0")
    (bits,) = document["cpuid_bits"]
    assert (bits["name"], bits["wanted"], bits["found"]) == ("MOVDIR64B", 1, 0)


def test_an_unknown_status_says_so_and_exits_with_1(capsys: Captured) -> None:
    assert _run("0xc0007f0000000001") == 1
    said = capsys.readouterr().out
    assert "unknown status 0xc0007f0000000001" in said
    assert "class 0x7f" in said
    code, document = _json(capsys, "0xc0007f0000000001")
    assert (code, document["status_name"]) == (1, None)


def test_an_msr_value_is_shown_with_what_is_wrong(capsys: Captured) -> None:
    assert _run("--msr", "0x982=0xf001600000001", "--msr", "IA32_MTRRCAP=0xdd0a") == 1
    said = capsys.readouterr().out
    assert "IA32_TME_ACTIVATE (MSR 0x982) = 0xf001600000001: 1 thing wrong with it" in said
    assert "TME_ENABLE: has to be 1" in said
    assert "IA32_MTRRCAP (MSR 0xfe) = 0xdd0a: nothing is wrong with it" in said
    assert _run("--msr", "0x3b=0") == 0
    capsys.readouterr()
    code, document = _json(capsys, "--msr", "0x982=0xf001600000001")
    assert (code, document["msrs"][0]["wrong"]) == (1, 1)


@pytest.mark.parametrize("sample", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
@pytest.mark.parametrize("columns", [60, 100])
def test_what_people_read_fits_the_width(
    sample: Path, columns: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code = _run(str(sample))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].strip()
    assert code in (0, 1)


def test_a_log_that_shows_a_failure_exits_with_1_and_else_with_0(capsys: Captured) -> None:
    code, document = _json(capsys, str(SAMPLES / "linux-6.8-nosmt.syslog"))
    assert (code, document["failed"], document["verdict"]["cause"]) == (1, True, "cpus-missing")
    (finding,) = document["findings"]
    assert finding["seamcall"]["leaf_name"] == "TDH.SYS.CONFIG"
    assert finding["lines"][0]["number"] == 4
    code, document = _json(capsys, str(SAMPLES / "linux-6.8-up.log"))
    assert (code, document["failed"], document["verdict"]["cause"]) == (0, False, "host-ok")


def test_yaml_says_the_same_as_json(capsys: Captured) -> None:
    _, document = _json(capsys, str(SAMPLES / "tree-6.2-localised.log"))
    _run("--format", "yaml", str(SAMPLES / "tree-6.2-localised.log"))
    assert yaml.safe_load(capsys.readouterr().out) == document


@pytest.mark.parametrize("words", [["-"], []])
def test_a_log_comes_by_standard_input(
    words: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (SAMPLES / "linux-6.17-hibernation.log").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, document = _json(capsys, *words)
    assert (code, document["verdict"]["cause"]) == (1, "hibernation")


@pytest.mark.parametrize("encoding", ["gzip", "utf-16", "latin-1"])
def test_a_log_is_read_however_it_was_saved(
    encoding: str, tmp_path: Path, capsys: Captured
) -> None:
    text = "[1.0] dépôt\n" + (SAMPLES / "linux-6.17-hibernation.log").read_text(encoding="utf-8")
    content = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    path = tmp_path / "kern.log"
    path.write_bytes(content)
    code, document = _json(capsys, str(path))
    assert (code, document["verdict"]["cause"]) == (1, "hibernation")


def test_a_pasted_line_is_decoded_too(capsys: Captured) -> None:
    code, document = _json(capsys, "virt/tdx: SEAMCALL (0x21) failed: 0xc000090000000000")
    assert (code, document["verdict"]["cause"]) == (1, "cpuid-value")


def test_the_kernel_log_of_this_machine_is_decoded(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("virt/tdx: initialization failed: Hibernation support is enabled",)
    monkeypatch.setattr(LiveHost, "log", lambda self: lines)
    code, document = _json(capsys, "--dmesg")
    assert (code, document["verdict"]["cause"]) == (1, "hibernation")


def test_the_log_of_a_recording_is_decoded(tmp_path: Path, capsys: Captured) -> None:
    text = (SAMPLES / "linux-6.8-nosmt.syslog").read_text(encoding="utf-8")
    lines = list(sieve_log(text.splitlines()))
    path = tmp_path / "host.json"
    path.write_text(Recording("2026-01-01T00:00:00Z", "1", {"log": {"lines": lines}}).text())
    code, document = _json(capsys, "--from", str(path))
    assert (code, document["verdict"]["cause"]) == (1, "cpus-missing")
    assert any("nosmt" in said for said in document["findings"][0]["says"])


@pytest.mark.parametrize("sample", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_a_recording_keeps_every_line_that_is_known(sample: Path) -> None:
    lines = sample.read_text(encoding="utf-8").splitlines()
    whole, kept = (LogReader.load().read(log) for log in (lines, sieve_log(lines)))
    assert [event.id for event in kept.events] == [event.id for event in whole.events]
    assert [call.registers for call in kept.calls] == [call.registers for call in whole.calls]


def test_a_kernel_log_that_cant_be_read_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: LiveHost) -> tuple[str, ...]:
        raise NotRead("the kernel's log", Why.DENIED, "Operation not permitted")

    monkeypatch.setattr(LiveHost, "log", denied)
    with pytest.raises(DriverDenied) as caught:
        _run("--dmesg")
    assert "sudo" in caught.value.hint
    assert command_line.main(["decode", "--dmesg"]) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["/nonexistent/kern.log"],
        ["-5"],
        ["0x1c000090000000000"],
        ["0xc000090000000000", "--leaf", "TDH.SYS.NONE"],
        ["0xc000090000000000", "--reg", "rip=0x1"],
        ["0xc000090000000000", "--rcx", "20000001f"],
        ["0xc000090000000000", "--value", "x"],
        ["--msr", "0x982"],
        ["--msr", "NO_SUCH_MSR=1"],
        [str(SAMPLES / "linux-6.8-up.log"), "--leaf", "33"],
    ],
)
def test_what_cant_be_read_is_wrong_usage(words: list[str], capsys: Captured) -> None:
    assert command_line.main(["decode", *words]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("tdxhost: ")


def test_nothing_to_decode_at_a_keyboard_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Keyboard", (), {"isatty": lambda self: True})())
    assert command_line.main(["decode"]) == 2


def test_it_works_without_device_and_binding(tmp_path: Path) -> None:
    """Neither the modules that talk to the device nor the generated binding are imported."""
    code = (
        "import sys; from tdxhost.klog.diagnoser import Diagnoser; from tdxhost.cli import decode; "
        "Diagnoser().diagnose(['virt/tdx: module initialized']); "
        "print([name for name in ('tdxhost.device', 'tdxhost.abi', 'tdxhost.records') "
        "if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert run.stdout.strip() == "[]"


def test_help_shows_examples(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        _run("--help")
    said = capsys.readouterr().out
    assert "journalctl -k -b | tdxhost decode -" in said
    assert all(len(line) <= 95 for line in said.splitlines())
