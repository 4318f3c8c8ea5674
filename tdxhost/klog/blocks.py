# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the few lines of a log that can be about TDX in the many that are not, block by block.

Memory is that of a block, whatever comes: a log of any size, or one line without end.
"""

import re
from collections.abc import Iterable, Iterator

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
    r"|hot-adding|online_pages|address sizes|model name|mchec|production pl|mk_tme"
    r"|\br(?:cx|dx|0?8)\b|tdh[._]|vmx",
    re.IGNORECASE | re.ASCII,
)
REGISTER = re.compile(
    r"\b(r(?:[abcd]x|[sd]i|0?8|0?9|1[0-5]))\b[\s:=]*(0x[0-9a-f]+)", re.IGNORECASE | re.ASCII
)
#: One of these is in each line that INTEREST or REGISTER fits, in small letters. Looking for one
#: after the other takes a third of the time that the same takes as one pattern.
WORDS = (
    *(b"tdx", b"seam", b"kvm", b"tme", b"keyid", b"cmr", b"command line", b"linux version"),
    *(b"hypervisor det", b"hot-adding", b"online_pages", b"address sizes", b"model name"),
    *(b"mchec", b"production pl", b"tdh", b"vmx"),
)
#: Begins with a letter that has to be there: that alone makes it fast.
REGISTER_WORD = re.compile(rb"r(?:[abcd]x|[sd]i|0?[89]|1[0-5])(?![0-9a-z_])")


def is_of_interest(raw: str) -> bool:
    """Whether a line, cut to MAX_LINE, can be about TDX."""
    return bool(INTEREST.search(raw) or REGISTER.search(raw))


def lines_of_interest(blocks: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The lines that can be about TDX, each with its number, the first being 1.

    How the log is cut into blocks makes no difference; a line ends with a newline, or with the
    last block.
    """
    before = 0
    for block in _whole_lines(blocks):
        at, number = 0, before + 1
        for start in _candidates(block):
            number += block.count(b"\n", at, start)
            at = start
            line = _line_at(block, start)
            if is_of_interest(line):
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


def _candidates(block: bytes) -> list[int]:
    """Where the lines begin that have one of the words, in order."""
    text = block.lower()
    found: set[int] = set()
    for word in WORDS:
        at = text.find(word)
        while at >= 0:
            end = _note(text, at, found)
            at = text.find(word, end)
    match = REGISTER_WORD.search(text)
    while match:
        match = REGISTER_WORD.search(text, _note(text, match.start(), found))
    return sorted(found)


def _note(text: bytes, at: int, found: set[int]) -> int:
    """Notes the beginning of the line that is at at; gives its end."""
    found.add(text.rfind(b"\n", 0, at) + 1)
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end


def _line_at(block: bytes, start: int) -> str:
    """A line as text, cut to MAX_LINE."""
    most = start + MAX_LINE * MOST_BYTES
    end = block.find(b"\n", start, most)
    return block[start : most if end < 0 else end].decode(errors="replace")[:MAX_LINE]
