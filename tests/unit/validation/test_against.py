# SPDX-License-Identifier: GPL-2.0-or-later
"""A run against another one: what is told, what is left out, and files that are no run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tdxhost.errors import BadData, TdxHostError, Usage
from tdxhost.validation.against import (
    Apart,
    Comparison,
    Fact,
    Turned,
    Value,
    compare_runs,
    read_run,
)
from tdxhost.validation.junit import junit
from tdxhost.validation.result import Measured, Outcome, Run, Unit, run_document
from tests.unit.validation.runs import HOST, LP_INIT_NS, lp_init, made, passed, run_of, sample

ENABLE = "cpus.enable (order=forwards)"


def measuring(*measured: Measured) -> Run:
    """A run whose one test has measured something."""
    return run_of(made("cpus.enable", "x", options={"order": "forwards"}, measured=measured))


def lp_inits(change: Callable[[int, int], int]) -> Run:
    """A run in which each CPU took another time."""
    return measuring(lp_init({cpu: change(cpu, time) for cpu, time in LP_INIT_NS.items()}))


def one(value: int, unit: Unit = Unit.NS) -> Run:
    """A run that measured one value."""
    return measuring(Measured(name="total", unit=unit, value=value))


def test_a_run_does_not_differ_from_itself() -> None:
    assert compare_runs(sample(), sample()) == Comparison(sample(), sample(), (), (), (), ())
    assert not compare_runs(sample(), sample()).differs


def test_facts_of_the_host_differ() -> None:
    later = HOST | {
        "bios_version": "D05",
        "microcode": [
            {"version": "0x21000291", "cpus": [0, 1, 2, 4, 5, 6, 7]},
            {"version": "0x21000240", "cpus": [3]},
        ],
        "cpus_online": 7,
        "hypervisor": True,
        "module_version": None,
        "memory_bytes": 1 << 39,
    }
    before = HOST | {"memory_bytes": 1 << 40}
    found = compare_runs(replace(passed(), host=later), replace(passed(), host=before)).facts
    assert found == (
        Fact("bios_version", "D05", "SE5C7411.86B.9535.D04"),
        Fact("microcode", "0x21000291 on CPUs 0-2,4-7; 0x21000240 on CPU 3", "0x21000240"),
        Fact("hypervisor", "yes", "no"),
        Fact("cpus_online", "7", "8"),
        Fact("memory_bytes", "512.0 GiB", "1.0 TiB"),
        Fact("module_version", "not known", "1.5.06"),
    )


def test_the_same_microcode_on_more_cpus_is_the_same() -> None:
    more = [{"version": "0x21000240", "cpus": list(range(16))}]
    assert not compare_runs(replace(passed(), host=HOST | {"microcode": more}), passed()).facts


def test_what_only_a_newer_tdxhost_tells_is_not_compared_and_what_both_tell_is() -> None:
    newer = replace(passed(), host=HOST | {"cxl_devices": 2})
    assert compare_runs(newer, passed()).facts == ()
    other = replace(passed(), host=HOST | {"cxl_devices": 3})
    assert compare_runs(newer, other).facts == (Fact("cxl_devices", "2", "3"),)


def test_tests_that_came_to_something_else_are_told_in_the_order_of_the_run() -> None:
    here = run_of(
        made("machine.able", "x", Outcome.COULD_NOT_RUN, message="no root"),
        made("enable.all", "x"),
        made("memory.pamts", "x", Outcome.FAILED, message="too small"),
        made("cpus.sane", "x"),
    )
    there = run_of(
        made("machine.able", "x"),
        made("enable.all", "x"),
        made("memory.pamts", "x"),
        made("hotplug.after", "x", Outcome.LOST),
    )
    assert compare_runs(here, there).tests == (
        Turned("x", "machine.able", Outcome.COULD_NOT_RUN, Outcome.PASSED, "no root"),
        Turned("x", "memory.pamts", Outcome.FAILED, Outcome.PASSED, "too small"),
        Turned("x", "cpus.sane", Outcome.PASSED, None, ""),
        Turned("x", "hotplug.after", None, Outcome.LOST, ""),
    )


def test_tests_are_told_apart_by_boot_options_and_turn() -> None:
    def orders(outcome: Outcome) -> Run:
        return run_of(
            made("cpus.enable", "x", options={"order": "forwards"}),
            made("cpus.enable", "x", outcome, options={"order": "backwards"}),
            made("cpus.enable", "y", options={"order": "backwards"}),
            made("enable.all", "y"),
            made("enable.all", "y", outcome),
        )

    found = compare_runs(orders(Outcome.BROKEN), orders(Outcome.PASSED)).tests
    assert [(turned.boot, turned.title) for turned in found] == [
        ("x", "cpus.enable (order=backwards)"),
        ("y", "enable.all"),
    ]


@pytest.mark.parametrize(
    ("here", "there", "differs"),
    [
        (1_250_000, 1_000_000, True),
        (1_249_999, 1_000_000, False),
        (1_000_000, 1_250_000, True),
        (1_000_000, 1_249_999, False),
        # Twice as long, and yet no more than an interrupt takes.
        (39_999, 20_000, False),
        (40_000, 20_000, True),
        (20_000, 0, True),
    ],
)
def test_times_differ_from_a_quarter_and_20_us_on(here: int, there: int, differs: bool) -> None:
    found = compare_runs(one(here), one(there)).values
    wanted = Value("x", ENABLE, "total", Unit.NS, "value", here, there)
    assert found == ((wanted,) if differs else ())


@pytest.mark.parametrize("unit", [Unit.BYTES, Unit.COUNT])
def test_sizes_and_counts_differ_by_any(unit: Unit) -> None:
    (found,) = compare_runs(one(4097, unit), one(4096, unit)).values
    assert (found.here, found.there, found.ratio) == (4097, 4096, 4097 / 4096)
    assert not compare_runs(one(4096, unit), one(4096, unit)).values


def test_a_ratio_to_nothing_is_not_told() -> None:
    (found,) = compare_runs(one(7, Unit.COUNT), one(0, Unit.COUNT)).values
    assert found.ratio is None


def test_a_machine_that_got_slower_as_a_whole_has_no_cpu_apart() -> None:
    found = compare_runs(lp_inits(lambda cpu, time: 2 * time), lp_inits(lambda cpu, time: time))
    assert found.values == (
        Value("x", ENABLE, "lp_init", Unit.NS, "median", 1_224_000, 612_000),
        Value("x", ENABLE, "lp_init", Unit.NS, "most", 3_620_000, 1_810_000, 0, 0),
    )
    assert found.cpus == ()


def test_a_cpu_that_got_slower_than_the_others_is_told_with_both_its_times() -> None:
    def slow(cpu: int, time: int) -> int:
        return 3_000_000 if cpu == 3 else time

    found = compare_runs(lp_inits(slow), lp_inits(lambda cpu, time: time))
    assert found.values == (
        Value("x", ENABLE, "lp_init", Unit.NS, "most", 3_000_000, 1_810_000, 3, 0),
    )
    (apart,) = found.cpus
    assert apart == Apart(
        "x", ENABLE, "lp_init", Unit.NS, 3, 3_000_000, 618_000, 3_000_000 / 618_000
    )


def test_a_cpu_that_stays_behind_a_machine_that_got_faster_is_apart() -> None:
    found = compare_runs(
        lp_inits(lambda cpu, time: time if cpu == 6 else time // 2),
        lp_inits(lambda cpu, time: time),
    )
    assert [(apart.cpu, apart.here, apart.there) for apart in found.cpus] == [(6, 611_000, 611_000)]
    assert found.cpus[0].beside == pytest.approx(2.0)


def test_counts_of_a_cpu_are_compared_each_for_itself() -> None:
    def retries(*numbers: int) -> Run:
        by_cpu = dict(enumerate(numbers))
        return measuring(Measured(name="retries", unit=Unit.COUNT, by_cpu=by_cpu))

    found = compare_runs(retries(0, 3, 8), retries(0, 0, 4)).cpus
    assert [(apart.cpu, apart.here, apart.there, apart.beside) for apart in found] == [
        (1, 3, 0, None),
        (2, 8, 4, 2.0),
    ]


def test_cpus_that_only_one_side_has_are_not_compared() -> None:
    found = compare_runs(
        measuring(lp_init({0: 600_000, 1: 600_000})),
        measuring(lp_init({0: 600_000, 2: 9_000_000})),
    )
    assert found.cpus == ()


def test_other_units_and_other_names_are_not_compared() -> None:
    assert not compare_runs(one(1, Unit.BYTES), one(1_000_000, Unit.NS)).values
    assert not compare_runs(measuring(lp_init()), one(5)).differs


def written(run: Run) -> dict[str, Any]:
    """The document of a run as JSON has it."""
    document: dict[str, Any] = json.loads(json.dumps(run_document(run)))
    return document


@pytest.mark.parametrize("run", [sample(), passed(), run_of()], ids=["sample", "passed", "empty"])
def test_a_run_is_read_back_from_its_file_and_its_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(run_document(run)), encoding="utf-8")
    assert read_run(tmp_path / "result.json") == run
    assert read_run(tmp_path) == run


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"result\.json can't be read: No such file"):
        read_run(tmp_path)


def cut(document: dict[str, Any], *path: str | int) -> None:
    """Takes a member out."""
    *way, last = path
    del inside(document, *way)[last]


def put(document: dict[str, Any], value: Any, *path: str | int) -> None:
    """Puts another value in place of a member."""
    *way, last = path
    inside(document, *way)[last] = value


def inside(document: Any, *path: str | int) -> Any:
    """What stands at a place."""
    for step in path:
        document = document[step]
    return document


LP = ("tests", 5, "measured", 0)
CALLS = ("tests", 2, "evidence", "calls", 0)
WRONG: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("schema",), "tdxhost/2", "schema", "is 'tdxhost/2', and this tdxhost reads 'tdxhost/1'"),
    (("seed",), True, "seed", "is True, and a whole number is wanted"),
    (("seed",), 1.5, "seed", "is 1.5, and a whole number is wanted"),
    (("plan", "name"), None, "plan.name", "is None, and a text is wanted"),
    (("tests",), {}, "tests", "is an object, and a list is wanted"),
    (("tests", 1), [], "tests[1]", "is a list, and an object is wanted"),
    (("tests", 1, "outcome"), "ok", "tests[1].outcome", "is 'ok', and not one of passed, failed"),
    (("tests", 1, "duration_s"), -1, "tests[1].duration_s", "is -1, which can't be"),
    ((*LP, "unit"), "s", "tests[5].measured[0].unit", "is 's', and not one of ns, bytes, count"),
    ((*LP, "by_cpu"), {"x": 1}, "tests[5].measured[0].by_cpu", "'x' is no CPU"),
    ((*LP, "by_cpu"), {"3": "1"}, "tests[5].measured[0].by_cpu.3", "is '1', and a whole number"),
    ((*LP, "value"), 1 << 64, "tests[5].measured[0].value", "which can't be"),
    ((*CALLS, "more"), "x", "tests[2].evidence.calls[0].more", "is not known to this tdxhost"),
    (("host", "microcode"), ["0x1"], "host.microcode[0]", "is '0x1', and an object is wanted"),
    (("host", "cpus_online"), "8", "host.cpus_online", "is '8', and a whole number is wanted"),
]


@pytest.mark.parametrize(("path", "value", "where", "says"), WRONG)
def test_what_is_wrong_in_a_file_is_named_with_its_place(
    path: tuple[str | int, ...], value: Any, where: str, says: str, tmp_path: Path
) -> None:
    document = written(sample())
    put(document, value, *path)
    file = tmp_path / "x.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BadData) as caught:
        read_run(file)
    assert caught.value.where == where
    assert says in caught.value.message
    assert caught.value.path == str(file)


#: Members without which there is no run; the host may be known to any degree.
NEEDED: list[tuple[tuple[str | int, ...], str]] = [
    (("schema",), "schema"),
    (("host",), "host"),
    (("plan", "file"), "plan.file"),
    (("tests", 0, "boot"), "tests[0].boot"),
    ((*LP, "by_cpu"), "tests[5].measured[0].by_cpu"),
    ((*CALLS, "registers"), "tests[2].evidence.calls[0].registers"),
]


@pytest.mark.parametrize(("path", "where"), NEEDED)
def test_what_is_missing_is_named(path: tuple[str | int, ...], where: str, tmp_path: Path) -> None:
    document = written(sample())
    cut(document, *path)
    file = tmp_path / "x.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BadData, match="is missing") as caught:
        read_run(file)
    assert caught.value.where == where


NO_JSON = {
    "nothing": (b"", "line 1, column 1"),
    "half": (b'{"schema":\n "tdx', "line 2, column 2"),
    "latin": (b'{"schema": "\xe9"}', "content"),
    "deep": (b"[" * 200_000, "content"),
    "nan": (b'{"schema": NaN}', "content"),
    "digits": (b"9" * 10_000, "content"),
    "list": (b"[]", "top level"),
    "half a letter": (
        json.dumps(run_document(passed())).replace("standard", "\\ud800").encode(),
        "content",
    ),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_is_bad_data(name: str, tmp_path: Path) -> None:
    content, where = NO_JSON[name]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadData) as caught:
        read_run(tmp_path / "x.json")
    assert caught.value.where == where


def test_nests_of_a_labs_own_that_go_too_deep_are_bad_data(tmp_path: Path) -> None:
    nest: Any = 1
    for _ in range(100):
        nest = {"x": [nest]}
    document = written(sample())
    put(document, nest, "tests", 0, "options")
    (tmp_path / "x.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BadData, match="is deeper than 16 levels"):
        read_run(tmp_path / "x.json")


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a document."""
    if path:
        yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from places(value, (*path, name))
    elif isinstance(document, list):
        for at, value in enumerate(document):
            yield from places(value, (*path, at))


PLACES = list(places(written(sample())))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NO_RESET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read_or_refused(content: bytes, folder: Path) -> None:
    """What is read can be written and compared; what can't be is an error of the package's."""
    file = folder / "x.json"
    file.write_bytes(content)
    try:
        run = read_run(file)
    except TdxHostError:
        return
    assert isinstance(run, Run)
    json.dumps(run_document(run), ensure_ascii=False).encode()
    junit(run).encode()
    assert not compare_runs(run, run).differs
    compare_runs(run, sample())
    compare_runs(sample(), run)


@NO_RESET
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
def test_any_value_at_any_place_is_read_or_refused(
    changes: list[tuple[tuple[str | int, ...], Any]], tmp_path: Path
) -> None:
    document = written(sample())
    for path, value in changes:
        try:
            put(document, value, *path)
        except (KeyError, IndexError, TypeError):
            # An earlier change took the place away.
            continue
    read_or_refused(json.dumps(document).encode(), tmp_path)


@NO_RESET
@given(path=st.sampled_from(PLACES))
def test_a_run_without_any_of_its_members_is_read_or_refused(
    path: tuple[str | int, ...], tmp_path: Path
) -> None:
    document = written(sample())
    cut(document, *path)
    read_or_refused(json.dumps(document).encode(), tmp_path)


WHOLE = json.dumps(run_document(passed())).encode()


@NO_RESET
@given(at=st.integers(0, len(WHOLE) - 1), junk=st.binary(max_size=4), lost=st.integers(0, 9))
def test_any_bytes_in_a_file_are_read_or_refused(
    at: int, junk: bytes, lost: int, tmp_path: Path
) -> None:
    read_or_refused(WHOLE[:at] + junk + WHOLE[at + lost :], tmp_path)
