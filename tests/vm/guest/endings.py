# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab's tests that come to an end in each way there is; lab.taken is conftest.py's to run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tdxhost.errors import TdxHostError
from tdxhost.validation import could_not_run, not_applicable, requirement

SOURCE = "The lab's own."


@pytest.fixture
def torn() -> Iterator[None]:
    """Breaks when it is taken down."""
    yield
    raise RuntimeError("taken down")


@pytest.fixture
def missing() -> None:
    """Lacks something."""
    could_not_run("there is none")


@requirement("lab.passes", holds="It.", source=SOURCE)
def test_passes() -> None:
    assert SOURCE


@requirement("lab.taken", holds="It.", source=SOURCE)
def test_taken() -> None:
    assert SOURCE


@requirement("lab.fails", holds="It.", source=SOURCE)
def test_fails() -> None:
    raise TdxHostError("not so", "Do it otherwise.")


@requirement("lab.fails-and-breaks", holds="It.", source=SOURCE)
@pytest.mark.usefixtures("torn")
def test_fails_and_breaks() -> None:
    raise AssertionError("not so")


@requirement("lab.passes-and-breaks", holds="It.", source=SOURCE)
@pytest.mark.usefixtures("torn")
def test_passes_and_breaks() -> None:
    assert SOURCE


@requirement("lab.does-not-apply-and-breaks", holds="It.", source=SOURCE)
@pytest.mark.usefixtures("torn")
def test_does_not_apply_and_breaks() -> None:
    not_applicable("no such thing here")


@requirement("lab.does-not-apply", holds="It.", source=SOURCE)
def test_does_not_apply() -> None:
    not_applicable("no such thing here")


@requirement("lab.lacks", holds="It.", source=SOURCE)
@pytest.mark.usefixtures("missing")
def test_lacks() -> None:
    raise AssertionError("not reached")


@requirement("lab.skips", holds="It.", source=SOURCE)
def test_skips() -> None:
    pytest.skip("not today")


@requirement("lab.breaks", holds="It.", source=SOURCE)
def test_breaks() -> None:
    raise KeyError("rcx")
