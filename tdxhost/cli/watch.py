# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost watch: follows changes of the driver, of CPUs and of memory."""

import argparse
import json
import math
import select
import shutil
import signal
import sys
import textwrap
import time
from typing import Any

from tdxhost.cli.context import Context, write_document
from tdxhost.cli.running import Stops, check_reader, ended_by
from tdxhost.documents import SCHEMA, Document
from tdxhost.errors import ExitCode, Usage
from tdxhost.events import Change, Monitor, Subject
from tdxhost.words import count, register, size, span

DESCRIPTION = """\
Follows what changes, one line each with its time (UTC): the state of the TDX module, step by
step; CPUs and memory that come, go, or are brought online or offline; tdxhost and kvm_intel
being loaded and unloaded. Begins with where things stand. With --format json each line is a
JSON object, with yaml each change is a document. Needs no root.

It goes on until Ctrl-C, which is its regular end: exit code 0."""

#: Where nobody says how wide a line may be, it may be as long as it is.
ENDLESS = 0
INDENT = " " * len("2026-01-01 00:00:00.000Z ")

LOADED = {"add": "loaded", "remove": "unloaded"}
PLUGGED = {"add": "added", "remove": "removed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --for."""
    parser.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="stop after so long"
    )


def run(context: Context) -> int:
    """Watches until a signal comes, or the time is over."""
    seconds = context.arguments.seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise Usage("--for takes a number of seconds above 0")
    with Stops() as stops:
        return _watch(Monitor(context.host), stops, context.arguments.format, seconds)


def _watch(monitor: Monitor, stops: Stops, form: str, seconds: float | None) -> int:
    until = math.inf if seconds is None else time.monotonic() + seconds
    poll = select.poll()
    poll.register(monitor, select.POLLIN)
    poll.register(stops, select.POLLIN)
    poll.register(sys.stdout, 0)
    _write(monitor.start(), form)
    while (left := until - time.monotonic()) > 0:
        ready = poll.poll(None if left == math.inf else math.ceil(left * 1000))
        check_reader(ready)
        for change in monitor.changes():
            _write(change, form)
        if signals := stops.taken():
            first = signals[0]
            return ExitCode.OK if first == signal.SIGINT else ended_by(first)
    return ExitCode.OK


def _write(change: Change, form: str) -> None:
    match form:
        case "json":
            print(json.dumps(document_of(change), ensure_ascii=False))
        case "yaml":
            print("---")
            write_document(document_of(change), form)
        case _:
            print(*_wrapped(line_of(change)), sep="\n")
    sys.stdout.flush()


def _wrapped(line: str) -> list[str]:
    width = shutil.get_terminal_size((ENDLESS, 0)).columns
    if width == ENDLESS:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=INDENT, break_long_words=False)


def document_of(change: Change) -> Document:
    """A change as a document: time in UTC, subject, action, and what is known of it."""
    state = dict(change.state)
    if "base_pa" in state:
        state["base_pa"] = register(state["base_pa"])
    when = change.when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"schema": SCHEMA, "time": when, "subject": str(change.subject)}
    named = {"name": change.name} if change.name else {}
    return {**head, "action": change.action, **named, **state}


def line_of(change: Change) -> str:
    """A change in one line."""
    when = change.when.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    return f"{when} {_text(change)}"


def _text(change: Change) -> str:
    action, state = change.action, change.state
    match change.subject:
        case Subject.START:
            return _standing(state)
        case Subject.DRIVER:
            return _driver(action, state)
        case Subject.MODULE:
            return f"module {change.name} {LOADED.get(action, action)}"
        case Subject.CPU:
            return f"CPU {state['cpu']} {PLUGGED.get(action, action)}"
        case Subject.MEMORY:
            where = span(state["base_pa"], state["bytes"]) if state else change.name
            return f"memory {where} {PLUGGED.get(action, action)}"
        case _:
            return "changes were lost: they came faster than they could be read"


def _driver(action: str, state: dict[str, Any]) -> str:
    if action == "remove":
        return "driver gone: there is no /dev/tdxhost"
    told = [_module(state)]
    if state.get("step"):
        told.append(f"step {state['step']}")
    if "cpus_enabled" in state:
        told.append(f"{count(state['cpus_enabled'], 'CPU')} enabled")
    if action == "add":
        told.append(f"driver there, provider {state.get('provider', 'unknown')}")
    return ", ".join(told)


def _module(state: dict[str, Any]) -> str:
    status, version = state.get("status", "not known"), state.get("module_version")
    known = f", TDX module {version}" if version and status == "initialized" else ""
    return f"TDX {status}{known}"


def _standing(state: dict[str, Any]) -> str:
    driver = state["driver"]
    told = ["driver not loaded"]
    if driver:
        told = [_module(driver), f"provider {driver.get('provider', 'unknown')}"]
    told += [f"{name} loaded" for name in state["modules"] if name != "tdxhost"]
    if state["cpus_online"] is not None:
        told.append(f"{state['cpus_online']} of {count(state['cpus_present'], 'CPU')} online")
    if state["memory_online_bytes"] is not None:
        told.append(f"{size(state['memory_online_bytes'])} of memory online")
    return f"now: {', '.join(told)}"
