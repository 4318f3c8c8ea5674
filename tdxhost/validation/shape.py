# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a document is that of a run, and where it is not: it may be from anywhere."""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from math import isfinite
from typing import Any

from tdxhost.documents import SCHEMA
from tdxhost.validation.result import Outcome, Unit

#: How deep what a lab's own test says of itself may be: documents are walked by recursion.
DEEPEST = 16
U64_MAX = (1 << 64) - 1
CPU = re.compile(r"[0-9]{1,7}")


class WrongShape(Exception):
    """Something in a document is not what it has to be; where says what."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


#: Raises WrongShape where a value at a place is not as it has to be.
Check = Callable[[Any, str], None]


def check_run(document: Any) -> None:
    """Checks that Run.of() can read a document, and that its values make sense; WrongShape."""
    RUN(document, "")


def _kind(types: type | tuple[type, ...], what: str) -> Check:
    def check(value: Any, where: str) -> None:
        # To Python, true is a number.
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            raise WrongShape(where, f"is {_shown(value)}, and {what} is wanted")

    return check


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = str(value) if isinstance(value, (bool, type(None))) else repr(value)
    return text if len(text) < 40 else f"{text[:36]}..."


def _list_of(one: Check) -> Check:
    def check(value: Any, where: str) -> None:
        A_LIST(value, where)
        for at, item in enumerate(value):
            one(item, f"{where}[{at}]")

    return check


def _each(one: Check, name: re.Pattern[str] | None = None) -> Check:
    """A mapping, of which every value is as one has it, and every name matches."""

    def check(value: Any, where: str) -> None:
        AN_OBJECT(value, where)
        for key, item in value.items():
            if name and not name.fullmatch(key):
                raise WrongShape(where, f"{_shown(key)} is no CPU")
            one(item, f"{where}.{key}")

    return check


def _members(wanted: Mapping[str, Check], may: Iterable[str] = (), *, only: bool = False) -> Check:
    """A mapping that has some members, but for those that may be missing; only: no others."""

    def check(value: Any, where: str) -> None:
        AN_OBJECT(value, where)
        if only and (more := value.keys() - wanted.keys()):
            raise WrongShape(f"{where}.{min(more)}", "is not known to this tdxhost")
        for name, one in wanted.items():
            place = f"{where}.{name}".removeprefix(".")
            if name in value:
                one(value[name], place)
            elif name not in may:
                raise WrongShape(place, "is missing")

    return check


def _open(wanted: Mapping[str, Check], may: Iterable[str] = ()) -> Check:
    """A mapping that is kept with all its members, those that are not known included."""
    known = _members(wanted, may)

    def check(value: Any, where: str) -> None:
        FREE(value, where)
        known(value, where)

    return check


def _or_null(one: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None:
            one(value, where)

    return check


def _word_of(words: type[StrEnum]) -> Check:
    def check(value: Any, where: str) -> None:
        known = [str(word) for word in words]
        if value not in known:
            raise WrongShape(where, f"is {_shown(value)}, and not one of {', '.join(known)}")

    return check


def _schema(value: Any, where: str) -> None:
    if value != SCHEMA:
        raise WrongShape(where, f"is {_shown(value)}, and this tdxhost reads {SCHEMA!r}")


def _number(value: Any, where: str) -> None:
    NUMBER(value, where)
    if not 0 <= value <= U64_MAX:
        raise WrongShape(where, f"is {_shown(value)}, which can't be")


def _whole(value: Any, where: str) -> None:
    WHOLE(value, where)
    _number(value, where)


def _anything(value: Any, where: str, deep: int = 0) -> None:
    if deep > DEEPEST:
        raise WrongShape(where[:80], f"is deeper than {DEEPEST} levels")
    if isinstance(value, float) and not isfinite(value):
        raise WrongShape(where, "is no number")
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            _anything(item, f"{where}.{key}", deep + 1)


TEXT = _kind(str, "a text")
FLAG = _kind(bool, "true or false")
WHOLE = _kind(int, "a whole number")
NUMBER = _kind((int, float), "a number")
A_LIST = _kind(list, "a list")
AN_OBJECT = _kind(dict, "an object")
FREE = _each(_anything)

MEASURED = _members(
    {
        "name": TEXT,
        "unit": _word_of(Unit),
        "value": _or_null(_whole),
        "by_cpu": _each(_whole, CPU),
    }
)
CALL = _members(
    {
        **dict.fromkeys(("where", "leaf", "status", "name", "says", "hint"), TEXT),
        "registers": _each(TEXT),
    },
    only=True,
)
EVIDENCE = _members(
    {
        "details": TEXT,
        "driver": FREE,
        "calls": _list_of(CALL),
        "log": _list_of(TEXT),
        "diagnosis": _list_of(TEXT),
        "snapshot": TEXT,
    }
)
TEST = _members(
    {
        **dict.fromkeys(("id", "boot", "holds", "source", "message", "started_at"), TEXT),
        "options": FREE,
        "outcome": _word_of(Outcome),
        "duration_s": _number,
        "measured": _list_of(MEASURED),
        "evidence": _or_null(EVIDENCE),
    }
)
MICROCODE = _list_of(_members({"version": TEXT, "cpus": _list_of(_whole)}))
HOST_TEXTS = (
    "sys_vendor",
    "product_name",
    "board_name",
    "bios_vendor",
    "bios_version",
    "bios_date",
    "cpu",
    "signature",
    "generation",
    "kernel",
    "provider",
    "module_version",
)
HOST_NUMBERS = ("packages", "cpus_present", "cpus_online", "memory_bytes")
#: Members of the host; what a newer tdxhost says of it beside them stays, whatever it is.
HOST = {
    **dict.fromkeys(HOST_TEXTS, _or_null(TEXT)),
    **dict.fromkeys(HOST_NUMBERS, _or_null(_whole)),
    "hypervisor": _or_null(FLAG),
    "microcode": _or_null(MICROCODE),
}


RUN = _members(
    {
        "schema": _schema,
        "run": TEXT,
        "plan": _open(dict.fromkeys(("name", "about", "file"), TEXT)),
        "seed": WHOLE,
        "started_at": TEXT,
        "ended_at": _or_null(TEXT),
        "tdxhost": TEXT,
        "host": _open(HOST, may=HOST),
        "tests": _list_of(TEST),
    }
)
