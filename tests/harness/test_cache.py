# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: whole entries or none, made once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from vtdx.vm import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_an_entry_is_made_once() -> None:
    made = []

    def make(into: Path) -> None:
        made.append(into)
        into.write_text("content")

    first = cache.entry("thing", "key", make)
    second = cache.entry("thing", "key", make)

    assert first == second
    assert first.read_text() == "content"
    assert len(made) == 1


def test_a_failed_entry_leaves_nothing_behind() -> None:
    def fail(into: Path) -> None:
        into.mkdir()
        (into / "half").write_text("")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        cache.entry("thing", "key", fail)
    assert [path.suffix for path in (cache.root() / "thing").iterdir()] == [".lock"]


def test_two_makers_at_once_make_one_entry() -> None:
    made = []

    def slow(into: Path) -> None:
        made.append(into)
        time.sleep(0.2)
        into.write_text("")

    threads = [threading.Thread(target=cache.entry, args=("t", "k", slow)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def age(entry: Path) -> None:
    """Let an entry look as if it was used last before more than two weeks."""
    ago = time.time() - 15 * 24 * 3600
    os.utime(entry, (ago, ago))
    os.utime(entry.with_suffix(".lock"), (ago, ago))


def test_what_nobody_used_for_long_goes() -> None:
    old = cache.entry("thing", "old", Path.mkdir)
    age(old)
    new = cache.entry("thing", "new", Path.mkdir)

    assert new.exists()
    assert not old.exists()


def test_what_is_old_but_in_use_stays() -> None:
    old = cache.entry("thing", "old", Path.mkdir)
    age(old)
    cache.entry("thing", "old", Path.mkdir)
    cache.entry("thing", "new", Path.mkdir)

    assert old.exists()


def test_keys_tell_parts_apart() -> None:
    assert cache.key_of("ab", "c") != cache.key_of("a", "bc")


def test_of_large_entries_those_used_last_are_kept() -> None:
    def make(into: Path) -> None:
        into.write_text("content")

    for number in range(4):
        path = cache.entry("large", f"{number}", make, most=2)
        # Long enough ago for the next one to be later, whatever the clock's grain.
        os.utime(path.with_suffix(".lock"), times=(number, time.time() - 100 + number))

    assert sorted(path.name for path in (cache.root() / "large").iterdir() if not path.suffix) == [
        "2",
        "3",
    ]
