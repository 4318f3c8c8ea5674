# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading vtdx's log: as it grows, cut by marks, and fast enough for long ones."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.vm.witness import Log, Witness

REGISTERS = dict.fromkeys(("rax", "rcx", "rdx", "r8", "r9", "r10", "r11"), "0x0000000000000001")


def call(cpu: int = 0, fault: int | None = None) -> dict[str, Any]:
    """A line of a SEAMCALL; vtdx/README.md, "The log"."""
    return {
        "t_ns": 1,
        "cpu": cpu,
        "event": "seamcall",
        "leaf": "TDH.SYS.RD",
        "in": REGISTERS,
        "out": REGISTERS,
        "status": "TDX_SUCCESS",
        "result": "done",
        "fault": fault,
        "duration_ns": 5,
    }


def mark(text: str) -> dict[str, Any]:
    """A line of a mark."""
    return {"t_ns": 1, "cpu": None, "event": "mark", "text": text}


def lines(*events: dict[str, Any]) -> str:
    """Events as the log has them."""
    return "".join(json.dumps(event) + "\n" for event in events)


def test_a_case_ends_at_the_next_mark() -> None:
    witness = Witness([call(0), mark("a"), call(1), call(2), mark("b"), mark("c"), call(3)])

    assert [each.cpu for each in witness.case("a").calls] == [1, 2]
    assert witness.case("b").calls == []
    assert [each.cpu for each in witness.case("c").calls] == [3]


@pytest.mark.parametrize("text", ["absent", "twice"])
def test_a_case_is_there_once(text: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        Witness([mark("twice"), mark("twice")]).case(text)


def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path)
    path.write_text(lines(call(0), call(1))[:-10])
    first = log.witness()
    path.write_text(lines(call(0), call(1), call(2)))

    assert [each.cpu for each in first.calls] == [0]
    assert [each.cpu for each in log.witness().calls] == [0, 1, 2]
    assert [each.cpu for each in first.calls] == [0]


def test_a_line_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(lines(call()) + "{broken\n")

    with pytest.raises(ValueError, match="Expecting"):
        Witness.read(path)


def test_a_hundred_thousand_lines_are_read_once_and_cut_quickly(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(lines(mark(str(n)), *[call()] * 1000) for n in range(100)))
    log = Log(path)
    log.witness()
    begin = time.process_time()
    for n in range(100):
        assert len(log.witness().case(str(n)).succeeded("TDH.SYS.RD")) == 1000

    # Reading it all again for each case would take a minute and more.
    assert time.process_time() - begin < 15
