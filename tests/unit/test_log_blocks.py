# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs that are read block by block: the same as line by line, in bounded memory."""

import gzip
import io
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdxhost.cli import main as command_line
from tdxhost.klog.blocks import (
    BLOCK_BYTES,
    INTEREST,
    MAX_LINE,
    REGISTER_LINES,
    Interest,
    lines_of_interest,
)
from tdxhost.klog.diagnoser import Diagnoser
from tdxhost.klog.input import log_blocks_of
from tdxhost.klog.lines import MOST_ALIKE, LogReader

#: The first example reads tables, and machines are slow at times.
UNHURRIED = settings(deadline=None)
PROJECT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((PROJECT / "tests/data/klog").iterdir())
READER = LogReader.load()
DIAGNOSER = Diagnoser()
MSR = "virt/tdx: SEAMCALL (0x0000000000000023) failed: 0xc00009200000010a"
UP = "virt/tdx: module initialized"
OTHER = "usb 1-1: according to the driver, version r8169 is new\n"
DECODE = (sys.executable, "-m", "tdxhost", "decode")


def _log_lines() -> st.SearchStrategy[bytes]:
    """What logs are made of, and what they are not made of but may hold."""
    samples = [line for path in SAMPLES for line in path.read_bytes().splitlines()]
    return st.one_of(
        st.sampled_from(samples),
        st.sampled_from([b"R9 0x5", b"rcx: 0x1, rdi 0x2", MSR.encode(), UP.encode()]),
        st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")),
        st.text("tdxseamkvR8 0:", max_size=30).map(str.encode),
        st.integers(MAX_LINE - 3, MAX_LINE * 5).map(lambda n: b"\xc3\xa9" * n + b" tdx"),
        st.integers(MAX_LINE - 9, MAX_LINE).map(lambda n: b"x" * n + b" SEAMCALL"),
    )


def _cut(content: bytes, places: list[int]) -> Iterator[bytes]:
    ends = sorted(place % (len(content) + 1) for place in places)
    for start, end in zip([0, *ends], [*ends, len(content)], strict=True):
        yield content[start:end]


@UNHURRIED
@given(
    lines=st.lists(_log_lines(), max_size=8),
    places=st.lists(st.integers(0, 1 << 20), max_size=12),
    ended=st.booleans(),
)
def test_however_a_log_is_cut_it_reads_the_same(
    lines: list[bytes], places: list[int], ended: bool
) -> None:
    content = b"\n".join(lines) + b"\n" * ended
    whole = content.decode(errors="replace").split("\n")
    expected = [(n, line[:MAX_LINE]) for n, line in enumerate(whole, 1)]
    interest = Interest()
    wanted = [(n, line) for n, line in expected if interest.takes(n, line)]
    assert list(lines_of_interest(_cut(content, places))) == wanted
    assert READER.read_blocks(_cut(content, places)) == READER.read(whole)


@UNHURRIED
@given(
    line=st.from_regex(INTEREST, fullmatch=False),
    before=st.text(max_size=3),
)
def test_no_line_of_interest_is_passed_over(line: str, before: str) -> None:
    raw = (before + line).encode(errors="replace").replace(b"\n", b" ").decode()[:MAX_LINE]
    found = [text for _, text in lines_of_interest([f"\n{raw}\n".encode()])]
    assert found == ([raw] if INTEREST.search(raw) else [])


@pytest.mark.parametrize("size", [1, 40, 1 << 20])
def test_registers_are_taken_of_so_many_lines_and_no_more(size: int) -> None:
    registers = "[1.0] R9 0x5 rsi: 0x6"
    for between in range(REGISTER_LINES + 2):
        content = "\n".join([MSR, *["[1.0] usb"] * between, registers]).encode()
        log = READER.read_blocks(content[at : at + size] for at in range(0, len(content), size))
        near = between < REGISTER_LINES
        assert log.calls[0].registers == ({"r9": 5, "rsi": 6} if near else {})


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_a_sample_has_the_same_diagnosis_in_blocks_of_any_size(sample: Path, size: int) -> None:
    content = sample.read_bytes()
    blocks = [content[at : at + size] for at in range(0, len(content), size)]
    lines = content.decode().splitlines()
    assert DIAGNOSER.diagnose_blocks(blocks) == DIAGNOSER.diagnose(lines)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\0", b"\0\0\n", b"\xff\xfe\xc3"])
def test_a_last_line_counts_however_it_ends(end: bytes) -> None:
    log = READER.read_blocks([b"\xff\0 other\n" + MSR.encode() + end])
    (call,) = log.calls
    assert (call.leaf, call.status, call.line.number) == (35, 0xC00009200000010A, 2)


def _peak(blocks: Iterator[bytes]) -> int:
    READER.read([])
    tracemalloc.start()
    try:
        READER.read_blocks(blocks)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", [OTHER, "x" * 999, f"{MSR}\n{UP}\n"], ids=["others", "no newline", "all about TDX"]
)
def test_memory_does_not_grow_with_the_log(text: str) -> None:
    block = text.encode() * (32768 // len(text))
    less, more = (_peak(block for _ in range(times)) for times in (8, 32))
    assert more < 1.2 * less + 4096
    assert more < 8 << 20


def test_of_lines_alike_the_first_and_the_last_are_kept_and_the_rest_counted() -> None:
    times = MOST_ALIKE + 50
    diagnosis = DIAGNOSER.diagnose([*[MSR] * times, UP, MSR])
    cause, up = diagnosis.findings
    assert (cause.cause, up.cause) == ("cpus-differ", "host-ok")
    assert len(cause.lines) == MOST_ALIKE
    assert (cause.lines[0].number, cause.lines[-1].number) == (1, times + 2)
    assert diagnosis.left_out == 51


def test_registers_belong_to_the_last_call_also_where_many_are_alike() -> None:
    log = READER.read([*[MSR] * (MOST_ALIKE + 5), "virt/tdx: RCX 0x0000000000000007"])
    assert log.calls[-1].registers == {"rcx": 7}


class _Dribble(io.RawIOBase):
    """Gives a byte at a time, as the slowest of pipes."""

    def __init__(self, content: bytes) -> None:
        self._left = io.BytesIO(content)

    def read1(self, _size: int = -1, /) -> bytes:
        return self._left.read(1)


@pytest.mark.parametrize("form", ["plain", "gzip", "two gzips", "utf-16"])
def test_a_pipe_that_gives_a_byte_at_a_time_is_read_whole(form: str) -> None:
    text = f"é\n{OTHER}{MSR}\n"
    content = {
        "plain": text.encode(),
        "gzip": gzip.compress(text.encode()),
        "two gzips": gzip.compress(text[:20].encode()) + gzip.compress(text[20:].encode()),
        "utf-16": text.encode("utf-16"),
    }[form]
    assert b"".join(log_blocks_of(_Dribble(content))) == text.encode()
    assert b"".join(log_blocks_of(io.BytesIO(content))) == text.encode()


@pytest.mark.parametrize("content", [b"", b"\n", b"\x1f", b"x"])
def test_a_log_of_next_to_nothing_is_read(content: bytes) -> None:
    assert b"".join(log_blocks_of(io.BytesIO(content))) == content


def test_a_large_compressed_log_comes_in_blocks() -> None:
    packed = gzip.compress(b"\n" * (BLOCK_BYTES * 20))
    sizes = [len(block) for block in log_blocks_of(io.BytesIO(packed))]
    assert sum(sizes) == BLOCK_BYTES * 20
    assert max(sizes) <= BLOCK_BYTES


@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_damaged_compressed_log_is_wrong_usage(
    left: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = gzip.compress("".join(f"{n}{OTHER}" for n in range(999)).encode())
    path = tmp_path / "kern.log.gz"
    path.write_bytes(packed[: int(len(packed) * left)])
    assert command_line.main(["decode", str(path)]) == 2
    assert "compressed, and damaged" in capsys.readouterr().err


def test_ctrl_c_while_a_pipe_is_waited_for_leaves_without_a_traceback() -> None:
    with subprocess.Popen(
        DECODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT
    ) as run:
        assert run.stdin is not None
        assert run.stderr is not None
        run.stdin.write(MSR.encode() + b"\n")
        run.stdin.flush()
        _wait_until_read(run.stdin.fileno())
        run.send_signal(signal.SIGINT)
        said = run.stderr.read().decode()
        assert run.wait(60) == 130
    assert said == "tdxhost: interrupted\n"


def _wait_until_read(pipe: int) -> None:
    """Waits until what was written was read, and the reader waits for more."""
    import fcntl
    import termios

    end = time.monotonic() + 60
    while time.monotonic() < end:
        left = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
        if not any(left):
            return
        time.sleep(0.01)
    raise AssertionError("nobody has read the pipe")


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    path = tmp_path / "kern.log"
    path.write_text(MSR)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        run = subprocess.run(
            [*DECODE, str(path)],
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
            cwd=PROJECT,
        )
    assert run.stderr == b""
    assert run.returncode == command_line.BROKEN_PIPE


def test_what_was_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kern.log"
    path.write_text(f"{MSR}\n" * (MOST_ALIKE + 3))
    assert command_line.main(["decode", str(path)]) == 1
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "3 more lines" in said
