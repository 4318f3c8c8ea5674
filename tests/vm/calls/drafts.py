# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls with up to three things about them that are out of the ordinary."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tdxhost import abi
from tests.vm.calls.facts import ENTRIES, STRUCTS, members, number, position
from tests.vm.calls.memory import ARRAY, END, NOWHERE, PAGE, READ_ONLY, STRUCT, STRUCT_END, Write
from tests.vm.calls.wire import Call, Descriptor

# More than any array here has.
_ROOM = 64
_FIELDS_ROOM = 3

_U32 = (1 << 32) - 1
_MANY = (63, 64, 1023, 1024, 1025, 1 << 31, _U32)
_BIG = (4095, 4096, 4097, 1 << 16, 1 << 31, _U32)

# NUM_PKGS, BUILD_DATE, MAX_TDMRS, and what is no field.
_IDS = (0x200000000, 0x8800000200000001, 0x9100000100000008, 0, (1 << 64) - 1)

_ARRAYS = ("result", "results", "fields", "ranges")

# A mask lies here: behind any struct that a twist puts at the begin of its page.
_MASK = STRUCT + 2048


@dataclass
class Draft:
    """A call before it is bytes."""

    command: str
    number: int
    members: dict[str, int]
    size: int
    address: int = STRUCT
    tail: bytes = b""
    mask: bytes = b""
    fields: list[bytes] = field(default_factory=list)

    @property
    def struct(self) -> str:
        """The struct's name."""
        return STRUCTS[self.command]

    @property
    def array(self) -> str:
        """The member that has the array's address."""
        return next(name for name in _ARRAYS if name in self.members)

    def finish(self, descriptor: Descriptor, nobody: bool) -> Call:
        """The call."""
        writes = [(self.address, self._struct_bytes())]
        if self.mask:
            writes.append((self.members["mask"], self.mask))
        size = self.members.get("entry_size", 0)
        for index, entry in enumerate(self.fields):
            writes.append((self.members["fields"] + index * size, entry))
        kept = (part for address, data in writes for part in _clipped(address, data))
        return Call(self.number, self.address, tuple(kept), descriptor, nobody=nobody)

    def _struct_bytes(self) -> bytes:
        data = bytearray(abi.size_of(self.struct))
        for name, value in {**self.members, "size": self.size}.items():
            at, size = position(self.struct, name)
            data[at : at + size] = value.to_bytes(size, "little")
        # As many bytes as the size says, as far as a struct may go at all.
        wanted = max(4, min(self.size, PAGE))
        return (bytes(data) + self.tail).ljust(wanted, b"\0")[:wanted]


def _clipped(address: int, data: bytes) -> list[Write]:
    """Those of the bytes that have memory to go to."""
    found = []
    for low, high in ((STRUCT, STRUCT_END), (ARRAY, END)):
        first, last = max(low, address), min(high, address + len(data))
        if first < last:
            found.append(Write(first, data[first - address : last - address]))
    return found


def _ordinary(command: str) -> Draft:
    """A call that nothing is wrong with."""
    draft = Draft(
        command,
        number(command),
        dict.fromkeys(members(STRUCTS[command]), 0),
        abi.size_of(STRUCTS[command]),
    )
    if command in ENTRIES:
        draft.members[draft.array] = ARRAY
        draft.members["entry_size"] = abi.size_of(ENTRIES[command])
    if "count" in draft.members:
        draft.members["count"] = _ROOM
    if command == "SYS_RD":
        draft.members["count"] = _FIELDS_ROOM
        draft.fields = [bytes(abi.size_of("tdxhost_field"))] * _FIELDS_ROOM
    return draft


def _bit(rng: Random) -> int:
    return 1 << rng.randrange(32)


def _size(rng: Random, whole: int) -> int:
    """A size: about that of what it is for, or far off."""
    return rng.choice(_BIG) if rng.random() < 0.3 else rng.randint(0, whole + 64)


def _twist_size(rng: Random, draft: Draft) -> None:
    draft.size = _size(rng, abi.size_of(draft.struct))


def _twist_tail(rng: Random, draft: Draft) -> None:
    """A struct from a newer header: zeros behind what this one knows, or more than that."""
    last = b"\x01" if rng.random() < 0.5 else b"\x00"
    draft.tail = bytes(rng.randint(0, 40)) + last + bytes(rng.randint(0, 8))
    draft.size = abi.size_of(draft.struct) + len(draft.tail)


def _twist_flags(rng: Random, draft: Draft) -> None:
    draft.members["flags"] = rng.choice((rng.randint(0, 8), _bit(rng), _U32))


def _twist_reserved(rng: Random, draft: Draft) -> None:
    draft.members["__reserved"] = _bit(rng)


def _twist_entry_size(rng: Random, draft: Draft) -> None:
    draft.members["entry_size"] = _size(rng, abi.size_of(ENTRIES[draft.command]))


def _twist_count(rng: Random, draft: Draft) -> None:
    many = rng.random() < 0.2
    draft.members["count"] = rng.choice(_MANY) if many else rng.randint(0, 12)


def _twist_nothing_but_count(rng: Random, draft: Draft) -> None:
    draft.members[draft.array] = 0
    draft.members["count"] = rng.randint(0, 1)


def _place(rng: Random, size: int, end: int) -> int:
    """Where something of ``size`` bytes is put: inside, up to an end, over it, nowhere."""
    return rng.choice(
        (
            STRUCT + rng.randint(0, 200),
            ARRAY + rng.randint(0, 200),
            max(0, end - size + rng.randint(-8, 8)),
            READ_ONLY + rng.randint(-64, 64),
            END - rng.randint(1, 16),
            rng.choice(NOWHERE),
        )
    )


def _twist_address(rng: Random, draft: Draft) -> None:
    draft.address = _place(rng, min(draft.size, PAGE), STRUCT_END)


def _twist_array(rng: Random, draft: Draft) -> None:
    size = rng.randint(1, 12) * min(draft.members["entry_size"], PAGE)
    draft.members[draft.array] = _place(rng, size, READ_ONLY)


def _twist_mask(rng: Random, draft: Draft) -> None:
    size = rng.randint(1, 16)
    bits = rng.randint(0, 15) if rng.random() < 0.7 else rng.getrandbits(8 * size)
    draft.mask = bits.to_bytes(size, "little")
    draft.members.update(mask=_MASK, mask_bytes=size)


def _twist_mask_place(rng: Random, draft: Draft) -> None:
    draft.members["mask"] = rng.choice((0, _place(rng, 16, STRUCT_END)))


def _twist_mask_bytes(rng: Random, draft: Draft) -> None:
    draft.members["mask_bytes"] = _size(rng, 0)


def _twist_fields(rng: Random, draft: Draft) -> None:
    """Entries with ids of their own, now and then with bytes behind them that are not 0."""
    size = min(draft.members["entry_size"], PAGE)
    whole = abi.size_of("tdxhost_field")
    draft.fields = []
    for _ in range(rng.randint(1, 4)):
        entry = rng.choice(_IDS).to_bytes(8, "little").ljust(size, b"\0")[:size]
        if size > whole and rng.random() < 0.2:
            entry = entry[:-1] + b"\x01"
        draft.fields.append(entry)


def _twist_number(rng: Random, draft: Draft) -> None:
    """Now and then a number without a call, or that of one with a size or direction in it."""
    if rng.random() < 0.75:
        return
    draft.number = rng.choice(
        (
            0xBB00 | rng.randint(9, 255),
            rng.choice((0xBA, 0xBC, 0xC7)) << 8 | draft.number & 0xFF,
            draft.number | rng.randint(1, (1 << 16) - 1) << 16,
        )
    )


# What may be out of the ordinary, and the member that a struct must have for it.
_TWISTS = (
    (_twist_size, "size"),
    (_twist_tail, "size"),
    (_twist_flags, "flags"),
    (_twist_address, "size"),
    (_twist_number, "size"),
    (_twist_reserved, "__reserved"),
    (_twist_entry_size, "entry_size"),
    (_twist_array, "entry_size"),
    (_twist_count, "count"),
    (_twist_nothing_but_count, "count"),
    (_twist_mask, "mask"),
    (_twist_mask_place, "mask"),
    (_twist_mask_bytes, "mask"),
    (_twist_fields, "fields"),
)
_TWISTS_OF = {
    command: [twist for twist, member in _TWISTS if member in members(struct)]
    for command, struct in STRUCTS.items()
}


def random_call(rng: Random) -> Call:
    """One call of any kind."""
    draft = _ordinary(rng.choice(tuple(STRUCTS)))
    for _ in range(rng.randint(0, 3)):
        rng.choice(_TWISTS_OF[draft.command])(rng, draft)
    descriptor = rng.choice(tuple(Descriptor))
    return draft.finish(descriptor, nobody=rng.random() < 0.1)
