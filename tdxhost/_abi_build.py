# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns the uapi header into the cffi module `tdxhost/_tdxhost_abi.py`.

Runs when the package is built; imports nothing of the package. The header keeps to a
subset of C that needs no preprocessor: includes, its guard, plain-number defines,
`_IO(TYPE, nr)` lines, flat structs of fixed-width members, comments. Any other line is an
AbiError that names it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

MODULE = "tdxhost._tdxhost_abi"

TYPES = {
    "__u8": "uint8_t",
    "__u16": "uint16_t",
    "__u32": "uint32_t",
    "__u64": "uint64_t",
    "__aligned_u64": "uint64_t",
}

NUMBER = r"0x[0-9A-Fa-f]+|[0-9]+"
SKIPPED = re.compile(r"#include <[\w/.]+>|#ifndef _UAPI_\w+|#define _UAPI_\w+|#endif")
DEFINE = re.compile(rf"#define ([A-Z]\w*) ({NUMBER})")
IOCTL = re.compile(rf"#define ([A-Z]\w*) _IO\((\w+), ({NUMBER})\)")
STRUCT = re.compile(r"struct (tdxhost_\w+) \{")
MEMBER = re.compile(rf"({'|'.join(TYPES)}) (\w+);")
END = "};"


class AbiError(Exception):
    """A line of the header is outside the subset."""


class _Translator:
    """Reads the header line by line and gathers the cdef."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.cdef: list[str] = []
        self.in_struct = False

    def take(self, line: str) -> bool:
        """Translates one line without comments; False when it is outside the subset."""
        if self.in_struct:
            return self._take_member(line)
        return self._take_define(line) or self._take_struct(line) or bool(SKIPPED.fullmatch(line))

    def _take_define(self, line: str) -> bool:
        if found := DEFINE.fullmatch(line):
            return self._add(found[1], int(found[2], 0))
        found = IOCTL.fullmatch(line)
        kind = self._number(found[2]) if found else None
        if not found or kind is None:
            return False
        # asm-generic/ioctl.h: _IO() is the type in bits 15:8 and the number in bits 7:0.
        return self._add(found[1], kind << 8 | int(found[3], 0))

    def _number(self, text: str) -> int | None:
        return int(text, 0) if re.fullmatch(NUMBER, text) else self.numbers.get(text)

    def _add(self, name: str, value: int) -> bool:
        if name in self.numbers:
            return False
        self.numbers[name] = value
        self.cdef.append(f"#define {name} {value}")
        return True

    def _take_struct(self, line: str) -> bool:
        found = STRUCT.fullmatch(line)
        if not found:
            return False
        self.in_struct = True
        self.cdef.append(line)
        return True

    def _take_member(self, line: str) -> bool:
        if line == END:
            self.in_struct = False
            self.cdef.append(line)
            return True
        found = MEMBER.fullmatch(line)
        if not found:
            return False
        self.cdef.append(f"    {TYPES[found[1]]} {found[2]};")
        return True


def _code_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields line number and code of each line that has code, comments taken out."""
    bare = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(bare.splitlines(), start=1):
        if code := line.strip():
            yield number, code


def cdef_of(text: str, name: str) -> str:
    """Translates the text of the header called name; AbiError names a line it can't."""
    translator = _Translator()
    for number, line in _code_lines(text):
        if not translator.take(line):
            raise AbiError(f"{name}:{number}: not in the subset that cffi is given: {line}")
    if translator.in_struct:
        raise AbiError(f"{name}: the last struct does not end")
    return "\n".join(translator.cdef) + "\n"


def write_module(header: Path, target: Path) -> None:
    """Writes the out-of-line ABI-mode module for header to target."""
    from cffi import FFI

    ffi = FFI()
    ffi.set_source(MODULE, None)
    ffi.cdef(cdef_of(header.read_text(encoding="utf-8"), str(header)))
    target.parent.mkdir(parents=True, exist_ok=True)
    ffi.emit_python_code(str(target))
