# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the few lines of a log that can be about TDX in the many that are not, block by block.

Memory is that of a block, whatever comes: a log of any size, or one line without end.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Of a longer line the rest is left out: the kernel prints no longer ones.
MAX_LINE = 4096
#: A character of UTF-8 takes no more bytes.
MOST_BYTES = 4
#: What a block is best: it stays in the processor's cache while it is gone through.
BLOCK_BYTES = 256 << 10

#: Lines without any of these are about something else, and most lines of a log are.
INTEREST = re.compile(
    r"tdx|seam|kvm\S*: (?:disabled|no hardware)|initialize kvm|tme:|keyid|\bcmr|command line"
    r"|linux version|hypervisor det"
    r"|hot-adding|online_pages|address sizes|model name|mchec|production pl|mk_tme|tdh[._]|vmx",
    re.IGNORECASE | re.ASCII,
)
REGISTER = re.compile(
    r"\b(r(?:[abcd]x|[sd]i|0?8|0?9|1[0-5]))\b[\s:=]*(0x[0-9a-f]+)", re.IGNORECASE | re.ASCII
)
#: Registers are printed on the lines that follow, and other CPUs print between them.
REGISTER_LINES = 6
#: One of these is in each line that INTEREST fits, in small letters. Looking for one after the
#: other takes half of the time that the same takes as one pattern.
WORDS = (
    *(b"tdx", b"seam", b"kvm", b"tme", b"keyid", b"cmr", b"command line", b"linux version"),
    *(b"hypervisor det", b"hot-adding", b"online_pages", b"address sizes", b"model name"),
    *(b"mchec", b"production pl", b"tdh", b"vmx"),
)


@dataclass(slots=True)
class Interest:
    """Takes the lines of a log that can be about TDX; is asked of them in order."""

    #: The last line that may go on, with registers, with one that was taken.
    goes_on: int = 0

    def takes(self, number: int, raw: str) -> bool:
        """Whether a line, cut to MAX_LINE, can be about TDX."""
        if INTEREST.search(raw):
            self.goes_on = number + REGISTER_LINES
            return True
        return number <= self.goes_on and REGISTER.search(raw) is not None


def lines_of_interest(blocks: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The lines that Interest takes, each with its number, the first being 1.

    How the log is cut into blocks makes no difference; a line ends with a newline, or with the
    last block.
    """
    interest, before = Interest(), 0
    for block in _whole_lines(blocks):
        at, number = 0, before + 1
        for start in _candidates(block, interest.goes_on - before):
            number += block.count(b"\n", at, start)
            at = start
            line = _line_at(block, start)
            if interest.takes(number, line):
                yield number, line
        before += block.count(b"\n")


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same blocks, each ending where a line does; of an endless line only the beginning."""
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = b""
        rest = (rest + block[end:])[: MAX_LINE * MOST_BYTES]
    if rest:
        yield rest


def _candidates(block: bytes, first: int) -> list[int]:
    """Where lines begin that have one of the words or may go on with one, and the first lines."""
    text = block.lower()
    found: set[int] = set()
    _note(text, 0, first, found)
    for word in WORDS:
        at = text.find(word)
        while at >= 0:
            start = text.rfind(b"\n", 0, at) + 1
            if start not in found:
                _note(text, start, 1 + REGISTER_LINES, found)
            end = text.find(b"\n", at)
            at = text.find(word, end) if end >= 0 else end
    return sorted(found)


def _note(text: bytes, start: int, lines: int, found: set[int]) -> None:
    """Notes where so many lines begin, the first at start."""
    for _ in range(lines):
        if start == len(text):
            return
        found.add(start)
        start = text.find(b"\n", start) + 1 or len(text)


def _line_at(block: bytes, start: int) -> str:
    """A line as text, cut to MAX_LINE."""
    most = start + MAX_LINE * MOST_BYTES
    end = block.find(b"\n", start, most)
    return block[start : most if end < 0 else end].decode(errors="replace")[:MAX_LINE]
