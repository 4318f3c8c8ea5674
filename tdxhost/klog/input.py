# SPDX-License-Identifier: GPL-2.0-or-later
"""A log as it was saved: plain, compressed with gzip, or in UTF-16; block by block."""

import codecs
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from tdxhost.errors import Usage
from tdxhost.klog.blocks import BLOCK_BYTES

GZIP = b"\x1f\x8b"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: zlib: the format of gzip, with the largest window.
GZIP_FORMAT = 16 + zlib.MAX_WBITS


class Readable(Protocol):
    """A file or a pipe that gives what is there, and waits only where nothing is."""

    def read1(self, size: int, /) -> bytes: ...


def log_blocks_of(file: Readable) -> Iterator[bytes]:
    """The text of a log, in UTF-8 or near it; Usage where it is compressed and damaged."""
    blocks = iter(lambda: file.read1(BLOCK_BYTES), b"")
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(GZIP):
            break
    whole = chain((head,), blocks)
    text = _inflated(whole) if head.startswith(GZIP) else whole
    yield from _as_utf_8(text)


def _inflated(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The text that blocks of a gzip file hold, which may be several after one another."""
    inflate = zlib.decompressobj(GZIP_FORMAT)
    try:
        for block in blocks:
            left = block
            while left:
                if inflate.eof:
                    inflate = zlib.decompressobj(GZIP_FORMAT)
                yield inflate.decompress(left, BLOCK_BYTES)
                left = inflate.unconsumed_tail or inflate.unused_data
        while not inflate.eof and (more := inflate.decompress(b"", BLOCK_BYTES)):
            yield more
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if not inflate.eof:
        raise _damaged("its end is missing")


def _damaged(reason: str) -> Usage:
    return Usage(f"the log is compressed, and damaged: {reason}")


def _as_utf_8(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same text in UTF-8, where it begins as UTF-16 does."""
    rest = iter(blocks)
    head = b""
    for block in rest:
        head += block
        if len(head) >= len(codecs.BOM_UTF16_LE):
            break
    whole = chain((head,), rest)
    if not head.startswith(UTF_16):
        yield from whole
        return
    decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
    for block in whole:
        yield decoder.decode(block).encode(errors="replace")
    yield decoder.decode(b"", final=True).encode(errors="replace")
