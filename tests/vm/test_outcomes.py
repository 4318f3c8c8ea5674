# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of a lab come to: only one that ran to its end, and well, has passed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm.hosts import Boot

GUEST = Path(__file__).parent / "guest"
FILES = {"test_endings.py": "endings.py", "conftest.py": "takes_over.py"}
NOT_RUN = "it was not run: a hook of a conftest.py or of a plugin took it over"

#: Outcome and message of each test.
ENDINGS = {
    "lab.passes": ("passed", ""),
    "lab.taken": ("broken", NOT_RUN),
    "lab.fails": ("failed", "not so\nDo it otherwise."),
    "lab.fails-and-breaks": ("failed", "not so"),
    "lab.passes-and-breaks": ("broken", "RuntimeError: taken down"),
    "lab.does-not-apply-and-breaks": ("broken", "RuntimeError: taken down"),
    "lab.does-not-apply": ("not-applicable", "no such thing here"),
    "lab.lacks": ("could-not-run", "there is none"),
    "lab.skips": ("could-not-run", "not today"),
    "lab.breaks": ("broken", "KeyError: 'rcx'"),
}
PLAN = {
    "schema": "tdxhost-plan/1",
    "name": "endings",
    "about": "A lab's own.",
    "boots": [{"name": "one", "about": "All ends.", "tests": list(ENDINGS)}],
}


def test_each_test_comes_to_what_it_did(boot: Boot, tmp_path: Path) -> None:
    plan = tmp_path / "endings.yaml"
    plan.write_text(json.dumps(PLAN), encoding="utf-8")
    extra = {f"/opt/lab/{name}": GUEST / file for name, file in FILES.items()}
    with boot("spr-1s", cpus=2, warm=True, extra={"/opt/endings.yaml": plan, **extra}) as host:
        ran = host.run(
            *("tdxhost", "validate", "/opt/endings.yaml", "--tests", "/opt/lab"),
            *("--format", "json"),
        )
    assert ran.status == 1, ran
    tests = ran.json()["tests"]
    assert {one["id"]: (one["outcome"], one["message"]) for one in tests} == ENDINGS
