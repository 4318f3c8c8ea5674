# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that scripts/test --all ends with."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from tests import table


def report(folder: Path, *tests: tuple[str, str, str]) -> str:
    """A JUnit XML file of tests: kernel, area, and the element that says how each ended."""
    cases = "".join(
        "<testcase><properties>"
        f"<property name='kernel' value={quoteattr(kernel)}/>"
        f"<property name='area' value={quoteattr(area)}/>"
        f"</properties>{end}</testcase>"
        for kernel, area, end in tests
    )
    file = folder / "results.xml"
    file.write_text(f"<testsuites><testsuite>{cases}<testcase/></testsuite></testsuites>")
    return str(file)


def test_kernels_are_rows_in_their_order_and_areas_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = report(tmp_path, ("7.3", "builds", ""), ("6.1", "builds", ""), ("6.1", "KVM", ""))

    assert table.main([file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| kernel | builds | KVM |",
        "| --- | --- | --- |",
        "| 6.1 | 1 passed | 1 passed |",
        "| 7.3 | 1 passed | - |",
    ]


@pytest.mark.parametrize("end", ["<failure/>", "<error/>"])
def test_a_failure_is_counted_first_and_is_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    ends = ("", end, "<skipped/>")
    file = report(tmp_path, *(("6.12", "virtual hosts", end) for end in ends))

    assert table.main([file]) == 1
    assert "| 6.12 | 1 failed, 1 passed, 1 skipped |" in capsys.readouterr().out


def test_no_result_at_all_is_no_success(tmp_path: Path) -> None:
    assert table.main([report(tmp_path)]) == 1
