# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a plan from YAML, and finds everything that is wrong with it before anything runs.

A plan is a mapping:

* ``schema: tdxhost-plan/1``
* ``name`` (letters, digits, ``.``, ``_``, ``-``) and ``about`` (a sentence)
* ``disturbs: true`` where tests may disturb the machine's other work
* ``machine``, what it must be: ``packages``, ``cpus`` (online) and ``keyids`` (private KeyIDs) are
  exact numbers; ``module`` is a version of the TDX module, or a range such as
  ``">=1.5.06, <2.0.0"``; ``memory`` is the least System RAM, such as ``240 GiB``: firmware and
  kernel keep some of what is installed
* ``limits``, how fast it must be: ``lp_init`` (each CPU), ``spread`` (between the fastest and the
  slowest CPU), ``total`` (tdx_enable() as a whole), such as ``50ms``
* ``boots``, a list; each has ``name``, ``about`` and ``tests``, a list of ids, with options as
  ``cpus.enable: {order: backwards}``

What is stated has to be read by a test (machine.matches, time.*), and what a test reads has to be
stated: neither can be forgotten unnoticed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdxhost.errors import Usage
from tdxhost.reference import DATA, load
from tdxhost.validation.nodes import (
    Entry,
    Node,
    PlanErrors,
    Reader,
    line_of,
    nearest,
    told,
)
from tdxhost.validation.options import at_least, duration, one_of
from tdxhost.validation.plan import Item, Limits, Machine, Plan, Versions
from tdxhost.validation.plan_check import DraftBoot, DraftItem, check
from tdxhost.validation.requirement import Requirement

SCHEMA = "tdxhost-plan/1"
FOLDER = "plans"
REQUIRED = ("schema", "name", "about", "boots")
KEYS = ("schema", "name", "about", "disturbs", "machine", "limits", "boots")
BOOT_KEYS = ("name", "about", "tests")

SIZES = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
NS_PER_S = 1_000_000_000
LIST_TESTS = "All tests: tdxhost validate --list"

Parse = Callable[[Any], Any]


def read_plan(where: str, tests: Mapping[str, Requirement]) -> Plan:
    """Reads a ready plan by its name, or a file by its path; tests are those there are, by id.

    A ready plan's name goes before a file of that name: ./NAME is the file. PlanErrors with
    everything that is wrong; Usage where there is no such plan.
    """
    if where in _ready_names():
        file = f"data/{FOLDER}/{where}.yaml"
        return parse_plan((Path(DATA) / FOLDER / f"{where}.yaml").read_bytes(), file, tests)
    try:
        return parse_plan(Path(where).read_bytes(), where, tests)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise _no_plan(where, error) from error


def ready_plans() -> tuple[tuple[str, str], ...]:
    """Name and about of each plan that comes with the package, by name."""
    return tuple((name, str(load(f"{FOLDER}/{name}")["about"])) for name in _ready_names())


def parse_plan(content: bytes | str, file: str, tests: Mapping[str, Requirement]) -> Plan:
    """Reads a plan that is at hand; file names it in messages. PlanErrors as in read_plan()."""
    reader = Reader()
    text = content if isinstance(content, str) else _decoded(content, reader)
    root = None if reader.mistakes else reader.root(text)
    plan = _PlanReader(reader, tests).plan(root, file, text) if root else None
    if plan is None or reader.mistakes:
        raise PlanErrors(file, reader.mistakes)
    return plan


def _ready_names() -> list[str]:
    return sorted(path.stem for path in (Path(DATA) / FOLDER).glob("*.yaml"))


def _no_plan(where: str, error: Exception) -> Usage:
    ready = _ready_names()
    if isinstance(error, FileNotFoundError) and re.fullmatch(r"[\w-]+", where):
        near = nearest(where, ready)
        meant = f"Did you mean {near}? " if near else ""
        return Usage(
            f"there is no plan {where}",
            f"{meant}Ready plans: {', '.join(ready)}. A plan of your own is named by its file.",
        )
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Usage(f"plan {where}: {why}", f"Name a file, or a ready plan: {', '.join(ready)}.")


def _decoded(content: bytes, reader: Reader) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reader.wrong(line, "this is not UTF-8, which a plan has to be")
        return ""


def _sentence(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text is wanted (in quotes, where it looks like a number)")
    return value.strip()


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", value):
        raise ValueError("a name is wanted: letters, digits, . _ and -, at most 60")
    return value


def _yes_or_no(value: Any) -> bool:
    if value is not True and value is not False:
        raise ValueError("true or false is wanted")
    return value


def _versions(value: Any) -> Versions:
    return Versions.parse(str(value))


def _size(value: Any) -> int:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(MiB|GiB|TiB)", str(value))
    size = int(float(found[1]) * SIZES[found[2]]) if found else 0
    if not size:
        raise ValueError("a size is wanted: a number with MiB, GiB or TiB")
    return size


def _time(value: Any) -> int:
    return round(duration(value) * NS_PER_S)


def _with_said(parse: Parse) -> Callable[[Any], tuple[Any, Any]]:
    """A parser of a value that gives it as it stands, and parsed."""
    return lambda value: (value, parse(value))


#: Keys of machine: the member that each sets, and how it is read.
MACHINE: Mapping[str, tuple[str, Parse]] = {
    "packages": ("packages", at_least(1)),
    "cpus": ("cpus", at_least(1)),
    "keyids": ("keyids", at_least(1)),
    "module": ("module", _versions),
    "memory": ("memory_bytes", _size),
}
#: The same of limits.
LIMITS: Mapping[str, tuple[str, Parse]] = {
    "lp_init": ("lp_init_ns", _time),
    "spread": ("spread_ns", _time),
    "total": ("total_ns", _time),
}
STATED = {"machine": MACHINE, "limits": LIMITS}


@dataclass(frozen=True, slots=True)
class _PlanReader:
    """Makes a plan of nodes; what can't be read is noted and left out."""

    reader: Reader
    tests: Mapping[str, Requirement]

    def plan(self, root: Node, file: str, text: str) -> Plan | None:
        """The plan, which is worth nothing where something is noted."""
        top = self.reader.members(root, "the plan", KEYS, REQUIRED)
        self._scalar(top, "schema", one_of(SCHEMA))
        name, about = self._scalar(top, "name", _name), self._scalar(top, "about", _sentence)
        disturbs = self._scalar(top, "disturbs", _yes_or_no)
        machine, limits = self._stated(top, "machine"), self._stated(top, "limits")
        boots = [self._boot(node) for node in self._elements(top, "boots")]
        stated = {key: entry.line for key, entry in limits.entries.items()}
        if "machine" in top:
            stated["machine"] = top["machine"].line
        # A value that is neither true nor false is told already.
        may_disturb = "disturbs" in top if disturbs is None else disturbs
        check(boots, stated, self.reader, disturbs=may_disturb)
        return Plan(
            name=name or "",
            about=about or "",
            file=file,
            text=text,
            boots=tuple(boot.made() for boot in boots),
            disturbs=may_disturb,
            machine=Machine(**machine.values),
            limits=Limits(**limits.values),
        )

    def _scalar(self, members: Mapping[str, Entry], key: str, parse: Parse) -> Any:
        entry = members.get(key)
        return self.reader.value(entry, key, parse) if entry else None

    def _elements(self, members: Mapping[str, Entry], key: str) -> list[Node]:
        entry = members.get(key)
        return self.reader.elements(entry, key) if entry else []

    def _stated(self, top: Mapping[str, Entry], key: str) -> "_Stated":
        """What the machine has to be, or how fast."""
        known = STATED[key]
        if key not in top:
            return _Stated({}, {})
        node = top[key].node
        entries = self.reader.members(node, key, known)
        if node.id == "mapping" and not node.value:
            self.reader.wrong(line_of(node), f"{key} is empty; it may have {', '.join(known)}")
        read = {known[name][0]: self._scalar(entries, name, known[name][1]) for name in entries}
        return _Stated(entries, read)

    def _boot(self, node: Node) -> DraftBoot:
        members = self.reader.members(node, "a boot", BOOT_KEYS, BOOT_KEYS)
        name = self._scalar(members, "name", _name)
        about = self._scalar(members, "about", _sentence)
        line = members["name"].line if "name" in members else line_of(node)
        items = [self._item(test) for test in self._elements(members, "tests")]
        return DraftBoot(name or "", about or "", line, items)

    def _item(self, node: Node) -> DraftItem:
        """A test, with its options where it has any."""
        if node.id == "scalar":
            return self._test(node, None)
        if node.id == "mapping" and len(node.value) == 1 and node.value[0][0].id == "scalar":
            return self._test(*node.value[0])
        wanted = "the id of a test is wanted, or one id with options: {ID: {OPTION: VALUE}}"
        if node.id == "mapping" and len(node.value) > 1:
            wanted += "; options stand below the id, further to the right"
        self.reader.wrong(line_of(node), f"this is {told(node)}, but {wanted}")
        return DraftItem(None, sure=False)

    def _test(self, node: Node, options: Node | None) -> DraftItem:
        """The test; one that is misspelled counts as the one that is nearest."""
        line, known = line_of(node), self.tests.get(str(node.value))
        if known is None:
            near = nearest(str(node.value), self.tests)
            meant = f"; did you mean {near}?" if near else ""
            self.reader.wrong(line, f"there is no test {told(node)}{meant}", LIST_TESTS)
            known = self.tests.get(near)
        if known is None:
            return DraftItem(None, sure=False)
        before = len(self.reader.mistakes)
        said, chosen = self._options(known, options) if options is not None else ({}, {})
        defaults = {name: option.default for name, option in known.options.items()}
        item = Item(test=known, options=defaults | chosen, said=said, line=line)
        return DraftItem(item, sure=len(self.reader.mistakes) == before)

    def _options(self, test: Requirement, node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options as they stand in the plan, and as they are parsed."""
        entries = self.reader.members(node, test.id, tuple(test.options), kind="option")
        said, parsed = {}, {}
        for name, entry in entries.items():
            both = self.reader.value(entry, name, _with_said(test.options[name].parse))
            if both is not None:
                said[name], parsed[name] = both
        return said, parsed


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a mapping states: where, and what of it could be read, by member."""

    entries: Mapping[str, Entry]
    values: Mapping[str, Any]
