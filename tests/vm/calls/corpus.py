# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of calls at once, and the ones that tell what a host answers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tdxhost import abi
from tests.vm.calls.drafts import random_call
from tests.vm.calls.facts import ENTRIES, STRUCTS, Facts, Picture, State, number, position
from tests.vm.calls.memory import ARRAY, STRUCT, Write
from tests.vm.calls.wire import Call, Outcome

_SEED = 3

# Calls whose whole answer tells what later ones must say. ENABLE comes last: it acts.
_ASKED = ("GET_INFO", "GET_STATUS", "GET_CPUS", "GET_STEPS", "GET_MEMORY", "ENABLE")
_ROOM = 128


def generate(least: int) -> list[Call]:
    """At least that many calls, no two the same, in every way to make them.

    The same ones each time: they go to the guest in a file, made before it boots.
    There each is made on memory of its own, so that none has to be found again in
    fewer or smaller ones, which is what hypothesis would be for.
    """
    rng = Random(_SEED)
    found: dict[Call, None] = {}
    while len(found) < least:
        found.update(dict.fromkeys(random_call(rng).ways()))
    return list(found)


def questions() -> list[Call]:
    """The calls that facts() reads."""
    asked = []
    for command in _ASKED:
        data = bytearray(abi.size_of(STRUCTS[command]))
        _set(data, command, "size", len(data))
        if command in ENTRIES:
            member = "ranges" if command == "GET_MEMORY" else "results"
            _set(data, command, member, ARRAY)
            _set(data, command, "count", _ROOM)
            _set(data, command, "entry_size", abi.size_of(ENTRIES[command]))
        asked.append(Call(number(command), STRUCT, (Write(STRUCT, bytes(data)),)))
    return asked


def _set(data: bytearray, command: str, member: str, value: int) -> None:
    at, size = position(STRUCTS[command], member)
    data[at : at + size] = value.to_bytes(size, "little")


def facts(state: State, answered: Sequence[Outcome]) -> Facts:
    """What the outcomes of questions() say of a host in a state."""
    structs: dict[str, Picture] = {}
    entries: dict[str, tuple[Picture, ...]] = {}
    for command, call, outcome in zip(_ASKED, questions(), answered, strict=True):
        if command == "ENABLE" and not state.has_tdx:
            continue
        assert outcome.error == "0", (command, outcome)
        memory = call.memory()
        for change in outcome.changes:
            memory.write(change.address, change.data)
        size = abi.size_of(STRUCTS[command])
        struct = Picture.of(STRUCTS[command], memory.read(STRUCT, size))
        if command in ENTRIES:
            each = abi.size_of(ENTRIES[command])
            places = range(ARRAY, ARRAY + struct.get("count") * each, each)
            entries[command] = tuple(
                Picture.of(ENTRIES[command], memory.read(place, each)) for place in places
            )
        if command not in ENTRIES or command == "GET_MEMORY":
            structs[command] = struct
    return Facts(state, structs, entries)
