# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's ABI: structs and constants generated from the uapi header.

What cffi gives has no static types; the functions here are where that ends.
"""

from functools import cache
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
    return {name: int(getattr(data, name)) for name in member_names(ffi.typeof(data))}


@cache
def member_names(kind: Any) -> tuple[str, ...]:
    """Names of the members of a struct, or of what a pointer to one leads to."""
    struct = kind.item if kind.kind == "pointer" else kind
    return tuple(name for name, _ in struct.fields)
