# SPDX-License-Identifier: GPL-2.0-or-later
"""A plan is read as it says, and everything that is wrong with one is told at once, by line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.errors import Usage
from tdxhost.validation.nodes import PlanErrors
from tdxhost.validation.options import Option, at_least, duration, one_of
from tdxhost.validation.plan import Plan, Versions, with_time
from tdxhost.validation.plan_file import parse_plan, read_plan, ready_plans
from tdxhost.validation.requirement import Requirement
from tdxhost.validation.stage import BEFORE_CONFIG, Stage

ORDERS = ("at-once", "forwards", "backwards")
FOR = Option("how long it goes on", duration, 60.0)


def a_test(id_: str, needs: set[Stage] | frozenset[Stage], **more: Any) -> Requirement:
    """A test as a lab may have it."""
    return Requirement(id=id_, holds="x", source="y", needs=frozenset(needs), **more)


ANY_OF_THEM = set(Stage)
ORDER = {"order": Option("in which order", one_of(*ORDERS), "at-once")}
KNOWN = (
    a_test("some.cpus", {Stage.UNTOUCHED}, leaves=Stage.SOME_CPUS),
    a_test("all.cpus", {Stage.UNTOUCHED}, leaves=Stage.ALL_CPUS, options=ORDER),
    a_test("enable.all", BEFORE_CONFIG, leaves=Stage.INITIALIZED),
    a_test("memory.cmrs", {Stage.INITIALIZED}),
    a_test("log.clean", ANY_OF_THEM),
    a_test("machine.fits", ANY_OF_THEM, reads=("machine",)),
    a_test("time.each", ANY_OF_THEM, reads=("lp_init",)),
    a_test("time.whole", ANY_OF_THEM, reads=("total",)),
    a_test("soak.one", {Stage.INITIALIZED}, options={"for": FOR}),
    a_test(
        "soak.two", {Stage.INITIALIZED}, options={"for": FOR, "callers": Option("", at_least(1), 2)}
    ),
    a_test("power.off", {Stage.INITIALIZED}, disturbs="all work ends"),
)
TESTS = {test.id: test for test in KNOWN}

GOOD = """\
schema: tdxhost-plan/1
name: lab-7
about: What every machine of lab 7 has to pass.
disturbs: true
machine:
  packages: 2
  cpus: 224
  keyids: 64
  module: ">=1.5.06, <2.0.0"
  memory: 1.5 TiB
limits:
  lp_init: 50ms
  total: 10 s
boots:
  - name: slow
    about: One CPU after another.
    tests:
      - machine.fits
      - all.cpus: {order: backwards}
      - enable.all
      - time.each
      - time.whole
      - soak.two:
          for: 5m
          callers: 3
      - power.off
  - name: quick
    about: All CPUs at once.
    tests: [all.cpus, log.clean]
"""


def mistakes_of(text: str | bytes) -> list[tuple[int, str]]:
    """What is wrong with a plan, by line."""
    with pytest.raises(PlanErrors) as caught:
        parse_plan(text, "lab.yaml", TESTS)
    return [(mistake.line, mistake.says) for mistake in caught.value.mistakes]


def plan_of(*tests: str, more: str = "") -> str:
    """A plan of one boot, whose first test is in line 7."""
    head = (
        "schema: tdxhost-plan/1\nname: x\nabout: y\nboots:\n- {name: one, about: z,\n   tests: [\n"
    )
    return head + ",\n".join(tests) + "]}\n" + more


def read(text: str) -> Plan:
    """Reads a plan that is right."""
    return parse_plan(text, "lab.yaml", TESTS)


def test_a_plan_is_read_as_it_says() -> None:
    plan = read(GOOD)
    assert (plan.name, plan.about) == ("lab-7", "What every machine of lab 7 has to pass.")
    assert (plan.file, plan.text, plan.disturbs) == ("lab.yaml", GOOD, True)
    machine = plan.machine
    assert (machine.packages, machine.cpus, machine.keyids) == (2, 224, 64)
    assert machine.memory_bytes == 3 << 39
    assert str(machine.module) == ">=1.5.06, <2.0.0"
    limits = plan.limits
    assert (limits.lp_init_ns, limits.spread_ns, limits.total_ns) == (50_000_000, None, 10**10)
    slow, quick = plan.boots
    assert (slow.name, slow.about) == ("slow", "One CPU after another.")
    tests = [
        "machine.fits",
        "all.cpus",
        "enable.all",
        "time.each",
        "time.whole",
        "soak.two",
        "power.off",
    ]
    assert [item.test.id for item in slow.items] == tests
    assert [item.line for item in slow.items] == [18, 19, 20, 21, 22, 23, 26]
    assert [item.test.id for item in quick.items] == ["all.cpus", "log.clean"]


def test_options_are_parsed_and_defaults_filled_in() -> None:
    slow, quick = read(GOOD).boots
    assert slow.items[1].options == {"order": "backwards"}
    assert slow.items[1].said == {"order": "backwards"}
    assert slow.items[5].options == {"for": 300.0, "callers": 3}
    assert slow.items[5].said == {"for": "5m", "callers": 3}
    assert quick.items[0].options == {"order": "at-once"}
    assert quick.items[0].said == {}


def test_a_plan_without_machine_and_limits_states_nothing() -> None:
    plan = read(plan_of("log.clean"))
    assert plan.machine == type(plan.machine)()
    assert plan.limits == type(plan.limits)()
    assert plan.disturbs is False


#: Lines of GOOD, what is put in their places, and the mistakes that this makes.
WRONG: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("plan_mistakes.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("row", WRONG, ids=[row["instead"] for row in WRONG])
def test_each_mistake_is_told_once_with_its_line(row: dict[str, Any]) -> None:
    assert GOOD.count(row["line"]) == 1
    wrong = GOOD.replace(row["line"], row["instead"])
    assert mistakes_of(wrong) == list(row["says"].items())


@pytest.mark.parametrize(
    ("content", "mistakes"),
    [
        ("", [(1, "the file is empty, but a mapping is wanted")]),
        ("# nothing\n", [(1, "the file is empty, but a mapping is wanted")]),
        ("\n- schema\n", [(2, "the plan is a list, but a mapping is wanted")]),
        ("word", [(1, "the plan is word, but a mapping is wanted")]),
        (b"schema: x\nname: \xff\n", [(2, "this is not UTF-8, which a plan has to be")]),
        ("a: b\nc: \x07\n", [(2, "this is no YAML: the character U+0007 can't be")]),
        (
            "a: 1\n---\nb: 2\n",
            [
                (
                    2,
                    "this is no YAML: expected a single document in the stream, "
                    "but found another document",
                )
            ],
        ),
        ("[" * 5000, [(1, "lists or mappings are nested too deeply")]),
    ],
    ids=["empty", "comment", "list", "word", "not-utf-8", "bell", "two-documents", "deep"],
)
def test_a_file_that_is_no_plan_at_all_is_told_with_its_line(
    content: str | bytes, mistakes: list[tuple[int, str]]
) -> None:
    assert mistakes_of(content) == mistakes


def test_an_empty_mapping_lacks_every_key() -> None:
    lacking = ["the plan lacks about", "the plan lacks boots", "the plan lacks name"]
    assert mistakes_of("{}") == [(1, says) for says in [*lacking, "the plan lacks schema"]]


#: Mistakes that are one line each.
TOGETHER = {
    "schema: tdxhost-plan/9",
    "nmae: lab-7",
    "disturbs: 1",
    "packages: two",
    "module: 1.5",
    "lp_init: 50",
    "- machine.fist",
    "          for: 5",
}


def test_mistakes_are_told_all_at_once() -> None:
    rows = [row for row in WRONG if row["instead"] in TOGETHER]
    wrong = GOOD
    expected: dict[int, str] = {}
    for row in rows:
        wrong = wrong.replace(row["line"], row["instead"])
        expected |= row["says"]
    assert len(rows) == len(expected) == len(TOGETHER)
    assert mistakes_of(wrong) == sorted(expected.items())


def test_the_message_has_file_and_line_of_each_and_what_shows_the_tests() -> None:
    with pytest.raises(Usage) as caught:
        read(plan_of("memory.cmr", "log.clena"))
    assert caught.value.message.splitlines() == [
        "lab.yaml: 3 errors; nothing was run",
        "lab.yaml:7: memory.cmrs needs the TDX module initialised, but here it is untouched: "
        "as it is at boot",
        "lab.yaml:7: there is no test memory.cmr; did you mean memory.cmrs?",
        "lab.yaml:8: there is no test log.clena; did you mean log.clean?",
    ]
    assert caught.value.hint == "All tests: tdxhost validate --list"


def test_what_follows_a_test_that_nobody_knows_is_not_told_as_misplaced() -> None:
    assert mistakes_of(plan_of("no-such-thing", "memory.cmrs")) == [
        (7, "there is no test no-such-thing")
    ]


def test_a_wrong_option_makes_no_twin_of_a_test() -> None:
    wanted = "but one of at-once, forwards, backwards is wanted"
    bad = plan_of("all.cpus: {order: up}", "enable.all")
    assert mistakes_of(bad) == [(7, f"order is up, {wanted}")]
    first = plan_of("all.cpus", "log.clean", "all.cpus: {order: up}")
    assert [says for _, says in mistakes_of(first) if "already" in says] == []


def test_the_same_test_in_two_boots_is_no_mistake() -> None:
    text = plan_of("log.clean", more="- {name: two, about: z, tests: [log.clean]}\n")
    assert [boot.items[0].test.id for boot in read(text).boots] == ["log.clean"] * 2


def test_a_list_that_holds_itself_is_told() -> None:
    text = "schema: tdxhost-plan/1\nname: x\nabout: y\nboots: &all\n- *all\n"
    assert mistakes_of(text) == [(4, "a boot is a list, but a mapping is wanted")]


def _stage_after(tests: list[str]) -> Stage | None:
    """The reference: where a boot of these tests ends; None where one can't be at its place."""
    stage = Stage.UNTOUCHED
    for test in map(TESTS.__getitem__, tests):
        if stage not in test.needs:
            return None
        stage = stage if test.leaves is None else test.leaves
    return stage


@given(
    st.lists(
        st.sampled_from(["some.cpus", "enable.all", "memory.cmrs", "log.clean"]),
        min_size=1,
        unique=True,
    )
)
def test_a_boot_is_read_exactly_when_each_test_can_be_at_its_place(tests: list[str]) -> None:
    text = plan_of(*tests)
    if _stage_after(tests) is not None:
        assert [item.test.id for item in read(text).boots[0].items] == tests
    else:
        assert all("needs the TDX module" in says for _, says in mistakes_of(text))


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "about",
                    "tests",
                    "boots",
                    "for",
                    "machine",
                    "limits",
                    "all.cpus",
                    "soak.one",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(TREES)
def test_any_yaml_is_read_or_refused_with_lines(tree: object) -> None:
    text = yaml.safe_dump(tree)
    lines = text.count("\n") + 1
    assert all(1 <= line <= lines for line, _ in mistakes_of(text))


@given(st.text())
def test_any_text_is_refused_with_lines(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 2 for line, _ in mistakes_of(text))


@given(st.integers(1, len(GOOD.splitlines())), st.integers(0, 9))
def test_a_plan_with_a_damaged_line_is_read_or_refused(number: int, cut: int) -> None:
    lines = GOOD.splitlines()
    lines[number - 1] = lines[number - 1][cut:]
    damaged = "\n".join(lines)
    try:
        assert read(damaged).text == damaged
    except PlanErrors as caught:
        error = caught
    else:
        return
    assert all(1 <= mistake.line <= len(lines) + 1 for mistake in error.mistakes)


VERSION = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.5.06", [(1, 5, 6)], [(1, 5, 5), (1, 5, 7), (1, 6, 6), (2, 5, 6)]),
        ("==1.5.06", [(1, 5, 6)], [(1, 5, 7)]),
        (">=1.5.06, <2.0.0", [(1, 5, 6), (1, 5, 16), (1, 9, 0)], [(1, 5, 5), (2, 0, 0)]),
        (">1.5.06,<=2.0.0", [(1, 5, 7), (2, 0, 0)], [(1, 5, 6), (2, 0, 1)]),
        (">= 1.5.06", [(1, 5, 6), (9, 0, 0)], [(1, 4, 99)]),
    ],
)
def test_versions_are_compared_number_by_number(
    text: str, inside: list[tuple[int, int, int]], outside: list[tuple[int, int, int]]
) -> None:
    versions = Versions.parse(text)
    assert [version for version in inside if not versions.allow(version)] == []
    assert [version for version in outside if versions.allow(version)] == []


@given(
    st.lists(
        st.tuples(st.sampled_from([">=", ">", "<", "<=", "=="]), VERSION), min_size=1, max_size=4
    )
)
def test_a_range_is_refused_exactly_when_no_version_is_in_it(
    conditions: list[tuple[str, tuple[int, int, int]]],
) -> None:
    text = ", ".join(sign + ".".join(map(str, version)) for sign, version in conditions)
    every = [
        (major, minor, update) for major in range(5) for minor in range(5) for update in range(6)
    ]
    made = Versions(text, tuple(conditions))
    if any(map(made.allow, every)):
        assert Versions.parse(text) == made
    else:
        with pytest.raises(ValueError, match="there is none"):
            Versions.parse(text)


SOAK = plan_of("enable.all", "soak.one", "soak.two: {for: 3m}", "log.clean")


@given(st.floats(0.1, 1e6))
def test_a_time_is_shared_out_as_the_plan_has_it(seconds: float) -> None:
    items = with_time(read(SOAK), seconds).boots[0].items
    assert items[1].options["for"] == pytest.approx(seconds / 4)
    assert items[2].options["for"] == pytest.approx(seconds * 3 / 4)
    assert items[2].options["callers"] == 2
    assert [dict(items[0].options), dict(items[3].options)] == [{}, {}]


def test_a_time_that_was_set_is_what_the_plan_says() -> None:
    items = with_time(read(SOAK), 60).boots[0].items
    assert [dict(item.said) for item in items] == [{}, {"for": "15s"}, {"for": "45s"}, {}]
    assert [item.said["for"] for item in items[1:3]] == ["15s", "45s"]
    assert with_time(read(SOAK), 240).boots[0].items[1].options == {"for": 60.0}


def test_a_time_can_not_be_set_where_nothing_goes_on_for_one() -> None:
    with pytest.raises(Usage, match="no test of the plan x goes on for a time"):
        with_time(read(plan_of("log.clean")), 60)
    with pytest.raises(Usage, match="0 s is no time"):
        with_time(read(SOAK), 0)


def test_a_plan_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert read_plan(str(path), TESTS) == parse_plan(GOOD, str(path), TESTS)


@pytest.mark.parametrize(
    ("where", "message", "hint"),
    [
        ("smok", "there is no plan smok", "Did you mean smoke? Ready plans: "),
        ("zzz", "there is no plan zzz", "Ready plans: "),
        ("/nowhere/lab.yaml", "plan /nowhere/lab.yaml: No such file or directory", "Name a file"),
        ("/proc", "plan /proc: Is a directory", "Name a file"),
        ("a\0b", "plan a\0b: embedded null byte", "Name a file"),
    ],
)
def test_a_plan_that_is_not_there_is_wrong_usage(where: str, message: str, hint: str) -> None:
    with pytest.raises(Usage) as caught:
        read_plan(where, TESTS)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)
    assert all(name in caught.value.hint for name, _ in ready_plans())
