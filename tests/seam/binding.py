# SPDX-License-Identifier: GPL-2.0-or-later
"""The seam ABI in Python: declarations read from seam.h, calls through cffi."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cffi import FFI

REPO = Path(__file__).resolve().parents[2]
HEADER = REPO / "vtdx" / "seam" / "seam.h"

REGISTERS = ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *tuple(f"r{n}" for n in range(8, 16)))
ALL_ONES = (1 << 64) - 1

DONE, VMFAILINVALID, FATAL = 0, 1, 2


def declarations(header: Path = HEADER) -> tuple[str, dict[str, int]]:
    """seam.h as a cdef without a preprocessor, and its plain-number defines."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    defines = {
        name: int(value, 0)
        for name, value in re.findall(r"^#define (\w+) (\d\w*)\s*$", text, flags=re.MULTILINE)
    }
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE).replace("SEAM_EXPORT", "")
    for name, value in defines.items():
        text = re.sub(rf"\b{name}\b", str(value), text)
    return text, defines


_CDEF, CONSTANTS = declarations()
ffi: Any = FFI()
ffi.cdef(_CDEF)


class Platform(Protocol):
    """The machine behind struct seam_ops."""

    def read_pa(self, pa: int, size: int) -> bytes | None: ...
    def write_pa(self, pa: int, data: bytes) -> bool: ...
    def rdmsr(self, lp: int, msr: int) -> int | None: ...
    def cpuid(self, lp: int, leaf: int, subleaf: int) -> tuple[int, int, int, int]: ...
    def rdrand(self, lp: int) -> int | None: ...
    def pconfig(self, lp: int, keyid: int, ctrl: int) -> int: ...
    def seam_capabilities(self, lp: int) -> int: ...
    def hold(self, lp: int, leaf: int) -> None: ...
    def interrupt_pending(self, lp: int) -> bool: ...


class Library:
    """A seam library, loaded by path."""

    def __init__(self, path: Path) -> None:
        self._lib: Any = ffi.dlopen(str(path))
        version = self._lib.seam_abi_version()
        if version != CONSTANTS["SEAM_ABI_VERSION"]:
            raise RuntimeError(f"{path}: ABI version {version}")

    def leaf_name(self, rax: int) -> str | None:
        return self._text(self._lib.seam_leaf_name(rax))

    def status_name(self, status: int) -> str | None:
        return self._text(self._lib.seam_status_name(status))

    def create(self, config: Mapping[str, Any], platform: Platform) -> Module | None:
        """A platform with a fresh module, or None where the library refuses the numbers."""
        c_config = ffi.new("struct seam_config *", {"size": ffi.sizeof("struct seam_config")})
        for name, value in config.items():
            setattr(c_config, name, value)
        ops = _Ops(platform)
        handle = self._lib.seam_create(c_config, ops.table, ffi.NULL)
        return Module(self._lib, handle, ops) if handle != ffi.NULL else None

    @staticmethod
    def _text(pointer: Any) -> str | None:
        return None if pointer == ffi.NULL else bytes(ffi.string(pointer)).decode()


class _Ops:
    """struct seam_ops over a Platform; has to outlive the module."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.errors: list[BaseException] = []
        self._callbacks = {
            name: ffi.callback(signature, getattr(self, "_" + name), onerror=self._keep)
            for name, signature in (
                ("read_pa", "int(void *, uint64_t, void *, uint64_t)"),
                ("write_pa", "int(void *, uint64_t, const void *, uint64_t)"),
                ("rdmsr", "int(void *, uint32_t, uint32_t, uint64_t *)"),
                ("cpuid", "void(void *, uint32_t, uint32_t, uint32_t, uint32_t *)"),
                ("rdrand", "int(void *, uint32_t, uint64_t *)"),
                ("pconfig", "int(void *, uint32_t, uint32_t, uint32_t)"),
                ("seam_capabilities", "uint64_t(void *, uint32_t)"),
                ("hold", "void(void *, uint32_t, uint64_t)"),
                ("interrupt_pending", "int(void *, uint32_t)"),
            )
        }
        size = ffi.sizeof("struct seam_ops")
        self.table = ffi.new("struct seam_ops *", {"size": size, **self._callbacks})

    def _keep(self, _kind: Any, error: BaseException, _traceback: Any) -> None:
        """C can't pass an exception on: Module.call() raises it."""
        self.errors.append(error)

    def _read_pa(self, _opaque: Any, pa: int, buf: Any, size: int) -> int:
        data = self._platform.read_pa(pa, size)
        if data is None:
            return -1
        ffi.memmove(buf, data, size)
        return 0

    def _write_pa(self, _opaque: Any, pa: int, buf: Any, size: int) -> int:
        return 0 if self._platform.write_pa(pa, bytes(ffi.buffer(buf, size))) else -1

    def _rdmsr(self, _opaque: Any, lp: int, msr: int, value: Any) -> int:
        number = self._platform.rdmsr(lp, msr)
        if number is None:
            return -1
        value[0] = number
        return 0

    def _cpuid(self, _opaque: Any, lp: int, leaf: int, subleaf: int, regs: Any) -> None:
        for index, value in enumerate(self._platform.cpuid(lp, leaf, subleaf)):
            regs[index] = value

    def _rdrand(self, _opaque: Any, lp: int, value: Any) -> int:
        number = self._platform.rdrand(lp)
        if number is None:
            return 0
        value[0] = number
        return 1

    def _pconfig(self, _opaque: Any, lp: int, keyid: int, ctrl: int) -> int:
        return self._platform.pconfig(lp, keyid, ctrl)

    def _seam_capabilities(self, _opaque: Any, lp: int) -> int:
        return self._platform.seam_capabilities(lp)

    def _hold(self, _opaque: Any, lp: int, leaf: int) -> None:
        self._platform.hold(lp, leaf)

    def _interrupt_pending(self, _opaque: Any, lp: int) -> int:
        return int(self._platform.interrupt_pending(lp))


class Module:
    """One struct seam."""

    def __init__(self, lib: Any, handle: Any, ops: _Ops) -> None:
        self._lib = lib
        self._handle = ffi.gc(handle, lib.seam_destroy)
        self._ops = ops

    def call(self, lp: int, **registers: int) -> tuple[int, dict[str, int]]:
        """One SEAMCALL: how the instruction ended, and all registers after it."""
        regs = ffi.new("struct seam_regs *", registers)
        result = int(self._lib.seam_call(self._handle, lp, regs))
        if self._ops.errors:
            raise self._ops.errors.pop()
        return result, {name: int(getattr(regs, name)) for name in REGISTERS}

    def reload(self, keep_handoff: bool) -> None:
        self._lib.seam_reload(self._handle, int(keep_handoff))

    def state(self) -> dict[str, int]:
        state = ffi.new("struct seam_state *", {"size": ffi.sizeof("struct seam_state")})
        self._lib.seam_get_state(self._handle, state)
        return {"sys": state.sys, "lps": state.lps, "packages": state.packages}
