# SPDX-License-Identifier: GPL-2.0-or-later
"""SEAMCALLs of the tracepoint: as the kernel's own text has them, in words, summed up, written.

recorded_trace.json has what tracefs of a machine on vtdx gave: pages as trace_pipe_raw has them,
and the same events as the kernel itself prints them (file "trace").
"""

import base64
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli.trace_output import Traced, call_line, summary_blocks
from tdxhost.errors import BadData
from tdxhost.records import Code, Provider
from tdxhost.ringbuffer import EventFormat, Page, PageLayout
from tdxhost.trace import Call, LeafSum, Tally, Words, chrome_trace, in_order
from tdxhost.tracefs import FIELDS, LOST, Event, TracingMissing, find

RECORDED: dict[str, Any] = json.loads(
    Path(__file__).with_name("recorded_trace.json").read_text(encoding="utf-8")
)
LAYOUT = PageLayout.parse(RECORDED["header_page"], "header_page")
FORMAT = EventFormat.parse(RECORDED["format"], FIELDS, "format")
WORDS = Words()
PROJECT = Path(__file__).resolve().parents[2]
NO_REGISTERS = (0,) * 6
ALL_ONES = (1 << 64) - 1

#: A line of the kernel's: CPU, seconds, then what TP_printk of kmod/trace.h says.
TEXT = re.compile(
    r"\[(\d+)\].* (\d+\.\d+): seamcall: leaf=(\d+) status=(0x\w+) code=(\d+) trap=(\d+) "
    r"duration_ns=(\d+) in=\{(.*?)\} out=\{(.*?)\}"
)


def _page(recorded: dict[str, Any]) -> Page:
    return Page(LAYOUT, zlib.decompress(base64.b64decode(recorded["zlib"])))


def _events() -> list[Event]:
    return [
        Event(recorded["cpu"], time, FORMAT.unpack(event))
        for recorded in RECORDED["pages"]
        for time, event in _page(recorded).events()
    ]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split(","))


def _of_text(line: str) -> tuple[int, str, dict[str, tuple[int, ...]]]:
    found = TEXT.search(line)
    assert found
    cpu, time, leaf, status, code, trap, duration, given, got = found.groups()
    fields = {"leaf": (int(leaf),), "status": (int(status, 16),), "duration_ns": (int(duration),)}
    fields |= {"code": (int(code),), "trap": (int(trap),)}
    return int(cpu), time, fields | {"in": _numbers(given), "out": _numbers(got)}


def call(leaf: int, inputs: Sequence[int] = (), outputs: Sequence[int] = (), **more: Any) -> Call:
    """A call that took 2 µs on CPU 3; registers that are not given are 0."""
    made = Call(
        cpu=3,
        start_ns=1_000_000,
        duration_ns=2000,
        leaf=leaf,
        status=0,
        code=Code.NONE,
        trap=0,
        inputs=(*inputs, *NO_REGISTERS)[:6],
        outputs=(*outputs, *NO_REGISTERS)[:6],
    )
    return replace(made, **more)


def test_raw_pages_say_what_the_kernels_own_text_says() -> None:
    read = [
        (event.cpu, f"{(event.time_ns + 500) // 1000 / 1e6:.6f}", event.fields)
        for event in sorted(_events(), key=lambda event: event.time_ns)
    ]
    assert read == [_of_text(line) for line in RECORDED["text"]]


def test_events_that_were_lost_are_counted() -> None:
    counted = {cpu: sum(map(int, LOST.findall(text))) for cpu, text in RECORDED["stats"].items()}
    assert counted == {"0": 0, "1": 0, "2": 1400, "3": 0}
    lost = [_page(recorded).lost for recorded in RECORDED["pages"] if recorded["cpu"] == 2]
    assert lost == [1400, 0, 0]


def test_a_page_that_lost_events_and_does_not_say_how_many_lost_one_at_least() -> None:
    page = bytes(8) + struct.pack("<Q", 1 << 31) + bytes(LAYOUT.size - 16)
    assert Page(LAYOUT, page).lost == 1
    assert list(Page(LAYOUT, page).events()) == []


def test_events_of_every_coding_are_told_apart() -> None:
    def head(kind: int, delta: int) -> bytes:
        return struct.pack("<I", kind | delta << 5)

    parts = [
        *(head(2, 5), b"12345678"),
        # Absolute time, in two parts of 27 bits and the rest.
        *(head(31, 7), struct.pack("<I", 3), head(1, 1), b"abcd"),
        # A discarded event of 8 bytes.
        *(head(29, 1), struct.pack("<I", 4)),
        *(head(30, 2), struct.pack("<I", 1), head(0, 0), struct.pack("<I", 12), b"longlong"),
        # Nothing more in this page, whatever its length says.
        *(head(29, 0), b"\xff" * 8),
    ]
    body = b"".join(parts)
    page = struct.pack("<QQ", 1000, len(body)) + body.ljust(LAYOUT.size - 16, b"\0")
    late = 7 + (3 << 27) + 1
    assert list(Page(LAYOUT, page).events()) == [
        (1005, b"12345678"),
        (late, b"abcd"),
        (late + 1 + 2 + (1 << 27), b"longlong"),
    ]


def test_a_format_is_read_from_the_kernels_file_wherever_its_fields_lie() -> None:
    text = """name: seamcall
ID: 7
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:u64 in[2];\toffset:24;\tsize:16;\tsigned:0;
\tfield:int code;\toffset:12;\tsize:4;\tsigned:1;
"""
    event = struct.pack("<HxxxxxxxxxxixxxxxxxxQQ", 7, -1, 8, 9)
    form = EventFormat.parse(text, ("in", "code"), "format")
    assert form.is_of(event)
    assert form.unpack(event) == {"code": (-1,), "in": (8, 9)}
    assert not form.is_of(struct.pack("<H", 8) + event[2:])
    assert not form.is_of(event[:-1])


def test_a_format_without_what_is_needed_is_bad_data_that_names_it() -> None:
    text = RECORDED["format"].replace("u64 duration_ns", "u64 took")
    with pytest.raises(BadData, match="there is no duration_ns"):
        EventFormat.parse(text, FIELDS, "format")
    with pytest.raises(BadData, match="there is no 'commit'"):
        PageLayout.parse(RECORDED["header_page"].replace("commit", "length"), "header_page")


def test_a_call_began_before_its_event_was_written() -> None:
    fields: dict[str, tuple[int, ...]] = dict.fromkeys(FIELDS, (1,))
    fields |= {"in": NO_REGISTERS, "out": NO_REGISTERS}
    made = Call.of(Event(2, 5000, fields | {"duration_ns": (1200,)}))
    assert (made.cpu, made.start_ns, made.duration_ns, made.end_ns) == (2, 3800, 1200, 5000)
    assert made.failed


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (call(33), ""),
        (call(33, [1]), "attributes 0x1"),
        (call(35), ""),
        (call(31), ""),
        # Metadata fields of the reference: MAX_TDMRS, element 3 of CMR_BASE.
        (call(34, [0, 0x9100000100000008], [0, 0, 64]), "MAX_TDMRS = 0x40"),
        (call(34, [0, 0x9000000300000083], [0, 0, 0x1000]), "CMR_BASE[3] = 0x1000"),
        (call(34, [0, 0x123], code=Code.SEAMCALL), "field 0x123"),
        (call(34, [0, ALL_ONES], [0, 0, 5]), "first field = 0x5"),
        (call(37, [0, 0x5000, ALL_ONES]), "to 0x5000 from first field"),
        (call(45, [0x2000, 3, 32]), "3 TDMRs listed at 0x2000, global KeyID 32"),
        (
            call(45, [0x2000, 1, 0x10020]),
            "1 TDMR listed at 0x2000, global KeyID 32, dynamic PAMT",
        ),
        (call(36, [4 << 30], [0, 5 << 30]), "TDMR 0x100000000, done up to 0x140000000"),
        (call(36, [4 << 30], code=Code.SEAMCALL), "TDMR 0x100000000"),
        (
            call(32, [0x1000, 1024, 0x2000, 32]),
            "information to 0x1000 (1024 B), 32 CMRs to 0x2000",
        ),
        (call(24, [0x7000]), "page 0x7000"),
        (call(52, [5]), "handoff version 0x5"),
        (call(1 << 63, [0x3000]), "buffer 0x3000"),
        (call(9, [0x1000, 0, 2]), "RCX 0x1000, R8 0x2"),
    ],
)
def test_registers_are_said_in_the_words_of_the_leaf(made: Call, says: str) -> None:
    assert WORDS.asked(made) == says


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (call(35), "TDX_SUCCESS"),
        (
            call(35, status=0xC00009200000010A, code=Code.SEAMCALL),
            "TDX_INCONSISTENT_MSR (0xc00009200000010a): MSR 0x10a IA32_ARCH_CAPABILITIES differs "
            "from the other CPUs",
        ),
        (
            call(35, code=Code.NO_MODULE),
            "VMfailInvalid: no TDX module is there to answer",
        ),
        (
            call(35, code=Code.NO_SEAMRR, trap=13),
            "fault #GP, general protection: the SEAM range is not enabled",
        ),
        (call(35, code=Code.TRAP, trap=3), "fault vector 3"),
    ],
)
def test_an_answer_is_said_by_name_with_its_detail(made: Call, says: str) -> None:
    assert WORDS.answer(made) == says


def test_the_registers_of_a_failure_make_its_status_more_exact() -> None:
    # CPUID leaf 7 sub-leaf 0, bit 4 of EBX (leaves.yaml: RCX, RDX and R8 of TDH.SYS.INIT).
    made = call(33, [], [7, 0x10 << 32], status=0xC000090000000000, code=Code.SEAMCALL)
    assert WORDS.status_name(made) == "TDX_INCORRECT_CPUID_VALUE"
    assert "CPUID leaf 0x7 sub-leaf 0x0 (bits checked: EBX 0x10)" in WORDS.answer(made)


def test_a_line_has_time_cpu_duration_leaf_registers_and_status() -> None:
    made = call(36, [4 << 30], [0, 5 << 30], start_ns=1_002_000_345)
    assert call_line(made, WORDS, 1_000_000_000) == (
        "  0.002000    3     2 µs  TDH.SYS.TDMR.INIT TDMR 0x100000000, done up to 0x140000000"
        "  TDX_SUCCESS"
    )


def test_calls_are_summed_up_by_leaf_and_the_longest_comes_first() -> None:
    tally = Tally()
    for duration in (5, 1, 9, 3):
        tally.add(call(34, duration_ns=duration, cpu=1))
    tally.add(call(35, duration_ns=100, code=Code.SEAMCALL))
    assert tally.sums() == [
        LeafSum("TDH.SYS.LP.INIT", 1, 1, 100, 100, 100),
        LeafSum("TDH.SYS.RD", 4, 0, 3, 9, 18),
    ]
    assert (tally.count, tally.failures, tally.cpus) == (5, 1, {1, 3})


def test_a_chrome_trace_has_a_named_track_a_cpu_and_each_call_on_its_own() -> None:
    late, early = call(35, start_ns=9_001_500), call(34, cpu=0, start_ns=9_000_500)
    trace = chrome_trace([late, early], WORDS, began_ns=9_000_000)
    events = trace["traceEvents"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    assert tracks == {1: "CPU 0", 4: "CPU 3"}
    assert [(e["name"], e["tid"], e["ts"], e["dur"]) for e in slices] == [
        ("TDH.SYS.RD", 1, 0.5, 2.0),
        ("TDH.SYS.LP.INIT", 4, 1.5, 2.0),
    ]
    assert slices[1]["args"]["status"] == "0x0000000000000000"
    assert slices[1]["args"]["in"]["rcx"] == "0x0000000000000000"
    json.dumps(trace, allow_nan=False)


def test_calls_are_ordered_by_when_they_began() -> None:
    long, short = call(35, start_ns=1, duration_ns=50), call(35, start_ns=2, duration_ns=5)
    assert in_order([short, long]) == [long, short]


@pytest.mark.parametrize("provider", [Provider.KERNEL, Provider.OBSERVER])
def test_where_the_kernel_makes_seamcalls_the_summary_says_that_these_are_not_traced(
    provider: Provider,
) -> None:
    told = [block for block in summary_blocks(Traced(provider, False)) if isinstance(block, str)]
    assert told[0].startswith("No SEAMCALL was traced")
    assert "are not traced" in told[-1]
    assert "are not traced" not in str(summary_blocks(Traced(Provider.DIRECT, False)))


def test_a_host_without_mounted_tracefs_is_told_how_to_mount_it(tmp_path: Path) -> None:
    with pytest.raises(TracingMissing) as missing:
        find((tmp_path,))
    assert missing.value.hint == f"Mount it with: sudo mount -t tracefs tracefs {tmp_path}"
    with pytest.raises(TracingMissing, match="built without tracing"):
        find((tmp_path / "none",))
    (tmp_path / "instances").mkdir()
    assert find((tmp_path / "none", tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--for", "0"], "a number of seconds above 0"),
        (["--for", "nan"], "a number of seconds above 0"),
        (["--for", "1", "--", "true"], "it is one or the other"),
        (["--output", "/", "--", "true"], "is a folder"),
        (["--output", "/nowhere/x.json"], "there is no folder /nowhere"),
    ],
)
def test_wrong_usage_is_told_before_the_driver_is_looked_for(words: list[str], says: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tdxhost", "trace", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert ran.returncode == 2
    assert says in ran.stderr
