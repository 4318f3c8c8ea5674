# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's ABI: structs and constants generated from the uapi header.

What cffi gives has no static types; the functions here are where that ends.
"""

from functools import cache
from struct import Struct
from typing import Any

from tdxhost.errors import NotBuilt

try:
    import tdxhost._tdxhost_abi as binding
except ImportError as error:
    raise NotBuilt(
        "tdxhost is not built: the binding made from kmod/include/uapi/linux/tdxhost.h is missing",
        "Run 'pip install .' (or 'pip install -e .') in the source tree.",
    ) from error

ffi: Any = binding.ffi
# Constants of the header by name; nothing is loaded, the process itself is "opened".
lib: Any = ffi.dlopen(None)

#: Types of the header, as the module struct writes them.
CODES = {"uint8_t": "B", "uint16_t": "H", "uint32_t": "I", "uint64_t": "Q"}

#: CPU, node or TDMR number that stands for "none" in every struct.
NONE_U32 = 0xFFFFFFFF
NONE_U64 = 0xFFFFFFFFFFFFFFFF


def new(struct: str, **members: int) -> Any:
    """Allocates a zeroed `struct` whose size member, where it has one, is set."""
    made = ffi.new(f"struct {struct} *")
    for name, value in members.items():
        setattr(made, name, value)
    if "size" in member_names(ffi.typeof(made)):
        made.size = ffi.sizeof(f"struct {struct}")
    return made


def new_array(struct: str, count: int) -> Any:
    """Allocates count zeroed entries."""
    return ffi.new(f"struct {struct}[]", count)


def size_of(struct: str) -> int:
    """Gives sizeof(struct) in bytes."""
    return int(ffi.sizeof(f"struct {struct}"))


def address_of(data: Any) -> int:
    """Gives the address of what new() or new_array() made; the caller keeps it alive."""
    return int(ffi.cast("uintptr_t", data))


def buffer_of(data: Any) -> Any:
    """Gives the writable bytes of what new() made."""
    return ffi.buffer(data)


def members_of(data: Any) -> dict[str, int]:
    """Reads every member of a struct."""
    kind = ffi.typeof(data)
    names, layout = _layout(kind)
    pointer = data if kind.kind == "pointer" else ffi.addressof(data)
    return dict(zip(names, layout.unpack(ffi.buffer(pointer)), strict=True))


@cache
def _layout(kind: Any) -> tuple[tuple[str, ...], Struct]:
    """Names of a struct's members, and how all are read at once: far faster than one by one."""
    names, struct = member_names(kind), _struct_of(kind)
    codes = "".join(CODES[field.type.cname] for _, field in struct.fields)
    layout = Struct(f"={codes}")
    # Headers of the ABI leave no gaps: what is read here is all of it.
    if layout.size != ffi.sizeof(struct):
        raise TypeError(f"{struct.cname} has gaps between its members")
    return names, layout


@cache
def member_names(kind: Any) -> tuple[str, ...]:
    """Names of the members of a struct, or of what a pointer to one leads to."""
    return tuple(name for name, _ in _struct_of(kind).fields)


def _struct_of(kind: Any) -> Any:
    return kind.item if kind.kind == "pointer" else kind
