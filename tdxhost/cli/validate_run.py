# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a plan of tests and files what came of it, for tdxhost validate."""

import argparse
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tdxhost.cli.context import Context, document_text, write_document
from tdxhost.cli.tables import show
from tdxhost.cli.validate_documents import comparison_document, list_document
from tdxhost.cli.validate_lists import list_blocks
from tdxhost.cli.validate_progress import Lines
from tdxhost.cli.validate_reboot import reboot_for, say_next, say_over, unattended
from tdxhost.cli.validate_tables import comparison_blocks, run_blocks
from tdxhost.errors import ExitCode, TdxAbsent, Usage
from tdxhost.report.output import replace_file
from tdxhost.validation import reboot
from tdxhost.validation.against import compare_runs, read_run
from tdxhost.validation.collect import find_tests
from tdxhost.validation.journal import Journal, Kept, alone
from tdxhost.validation.junit import junit
from tdxhost.validation.options import duration
from tdxhost.validation.page import page
from tdxhost.validation.plan import Plan, with_time
from tdxhost.validation.plan_file import parse_plan, read_plan, ready_plans
from tdxhost.validation.plugin import now
from tdxhost.validation.result import Run, RunOutcome, run_document
from tdxhost.validation.runner import BOOT_ID, Bench, Paused, Runner, begin
from tdxhost.words import count

#: What a run keeps of its command line for those that go on with it, and what stays as it was.
KEPT_PATHS = ("output", "against")
AS_BEGUN = ("only", "tests", "seed", "time")
#: Seeds are printed, and typed by people.
SEEDS = 1_000_000


def validate(context: Context) -> ExitCode:
    """Runs a plan, or what else was asked for."""
    given = context.arguments
    if given.list:
        return _list(context)
    if given.check:
        return _check(context)
    top = _runs(context)
    with stopping() as came, alone(top), unattended(came, wanted=given.reboot):
        return _go_on(context) if given.resume else _run(context, _begun(context))


def _runs(context: Context) -> Path:
    """The folder of all runs; what keeps a run from being begun or found is said first."""
    given = context.arguments
    top: Path = given.state / "validate"
    if given.reboot:
        reboot.check(given.state)
    if given.resume:
        Journal.latest(top)
        said = [name for name in AS_BEGUN if getattr(given, name) is not None]
        if said:
            raise Usage(f"--{said[0]} is for a new run: --resume goes on with one as it was begun")
    else:
        _check_files(context)
        check_host(context)
    return top


def _run(context: Context, runner: Runner) -> ExitCode:
    """Goes on with a run as far as this boot of the machine allows it."""
    if context.arguments.reboot:
        reboot.enable()
    try:
        done = runner.go_on()
    except Paused as paused:
        _file(context, runner.journal, paused.run)
        raise
    _file(context, runner.journal, done)
    if done.needs_reboot and context.arguments.reboot:
        reboot_for(done, runner.journal)
    elif context.arguments.reboot:
        reboot.disable()
    elif done.needs_reboot:
        say_next(done, began=runner.run)
    return exit_code(done)


def _go_on(context: Context) -> ExitCode:
    """Goes on with the run that was begun last, unless that is over."""
    journal = Journal.latest(context.arguments.state / "validate")
    if context.arguments.reboot:
        # Before anything that a machine might not survive.
        journal.add("resumed", boot_id=context.host.text_or(BOOT_ID, "unknown"), at=now())
    kept = journal.read()
    context = _as_begun(context, kept)
    _check_files(context)
    if kept.over:
        _file(context, journal, kept.run)
        say_over(kept.run)
        reboot.disable()
        return exit_code(kept.run)
    if context.arguments.reboot:
        if error := reboot.too_often(kept):
            _file(context, journal, kept.run)
            raise error
        reboot.load_driver()
    return _run(context, _resumed(context, journal, kept))


def _check_files(context: Context) -> None:
    """What is wrong with what results are compared with, and where they go."""
    given = context.arguments
    if given.against:
        read_run(given.against)
    if given.output:
        _make_folder(given.output)


def exit_code(run: Run) -> ExitCode:
    """The exit code that a run comes to."""
    return ExitCode.OK if run.outcome is RunOutcome.PASSED else ExitCode.FAILED


@contextmanager
def stopping() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: all is kept. Gives those that came."""
    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _list(context: Context) -> ExitCode:
    """All tests, the lab's own too, and the ready plans."""
    tests = find_tests(context.arguments.tests)
    plans = [read_plan(name, tests) for name, _ in ready_plans()]
    if context.for_people:
        show(list_blocks(tests.values(), plans, verbose=context.verbose))
    else:
        write_document(list_document(tests.values(), plans), context.arguments.format)
    return ExitCode.OK


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Usage(f"--output {folder}: {error.strerror}") from error


def _check(context: Context) -> ExitCode:
    plan = read_plan(context.arguments.plan, find_tests(context.arguments.tests))
    tests = sum(len(boot.items) for boot in plan.boots)
    print(f"{plan.file}: {count(len(plan.boots), 'boot')}, {count(tests, 'test')}, no errors")
    return ExitCode.OK


def _begun(context: Context) -> Runner:
    given = context.arguments
    plan = _timed(_chosen(read_plan(given.plan, find_tests(given.tests)), given.only), given.time)
    bench = _bench(context)
    seed = secrets.randbelow(SEEDS) if given.seed is None else given.seed
    begun = begin(bench, plan, seed)
    kept = {"tests": str(given.tests.absolute()) if given.tests else None}
    kept |= {"only": given.only, "time": given.time}
    kept |= {name: _absolute(getattr(given, name)) for name in KEPT_PATHS}
    reboot.disable()
    journal = Journal.create(given.state / "validate", begun, plan.text, kept)
    return Runner(bench, plan, begun, journal, given.tests)


def _chosen(plan: Plan, only: list[str] | None) -> Plan:
    """The plan with only the tests that were asked for."""
    if not only:
        return plan
    known = {item.test.id for boot in plan.boots for item in boot.items}
    if missing := [one for one in only if one not in known]:
        raise Usage(f"--only {missing[0]}: plan {plan.name} has no such test")
    boots = (
        replace(boot, items=tuple(item for item in boot.items if item.test.id in only))
        for boot in plan.boots
    )
    return replace(plan, boots=tuple(boot for boot in boots if boot.items))


def _timed(plan: Plan, time: str | None) -> Plan:
    """The plan with its soak tests taking this time in all."""
    if time is None:
        return plan
    try:
        return with_time(plan, duration(time))
    except ValueError as error:
        raise Usage(f"--time {time}: {error}") from error


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


def _as_begun(context: Context, kept: Kept) -> Context:
    """Results go where they were to go when the run was begun, unless told otherwise."""
    given = vars(context.arguments).copy()
    for name in KEPT_PATHS:
        if given[name] is None and kept.arguments.get(name):
            given[name] = Path(kept.arguments[name])
    return context.but(arguments=argparse.Namespace(**given))


def _resumed(context: Context, journal: Journal, kept: Kept) -> Runner:
    check_host(context)
    said = kept.arguments
    folder = Path(said["tests"]) if said["tests"] else None
    plan = parse_plan(journal.plan_text(), str(kept.run.plan["file"]), find_tests(folder))
    plan = _timed(_chosen(plan, said["only"]), said["time"])
    return Runner(_bench(context), plan, kept.run, journal, folder, kept.boot_id)


def _bench(context: Context) -> Bench:
    """The host to run on."""
    return Bench(context.host, context.open_driver, context.judge, Lines(sys.stderr))


def check_host(context: Context) -> None:
    """An absent driver, TDX or permission ends it here."""
    with context.open_driver() as driver:
        info = driver.get_info()
    verdict = context.judge.host(info)
    if verdict and verdict.exit_code is ExitCode.ABSENT:
        found = verdict.findings[0]
        raise TdxAbsent(found.message, found.hint)


def _file(context: Context, journal: Journal, run: Run) -> None:
    """Puts the results where they are looked for, and shows them."""
    given = context.arguments
    other = read_run(given.against) if given.against else None
    comparison = compare_runs(run, other) if other else None
    document = run_document(run)
    files = {
        "result.json": document_text(document, "json"),
        "junit.xml": junit(run),
        "report.html": page(run, comparison),
    }
    for folder in filter(None, (journal.folder, given.output)):
        for name, text in files.items():
            replace_file(folder / name, text.encode(errors="replace"))
    if not context.for_people:
        found = {"against": comparison_document(comparison)} if comparison else {}
        write_document(document | found, given.format)
        return
    where = given.output or journal.folder
    show(run_blocks(run, context.verbose, str(where)))
    if comparison:
        show(["", *comparison_blocks(comparison)])
