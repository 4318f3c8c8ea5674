# SPDX-License-Identifier: GPL-2.0-or-later
"""``tdxhost report`` and ``compare`` on a machine that was brought up, and its bundle elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli.main import main
from tests.vm.hosts import BroughtUp, Host
from vtdx.vm import platform
from vtdx.vm.machine import Result

NAME = "a-name-of-its-own"
MAC = "52:54:00:c0:ff:ee"
BUNDLE = "/tmp/bundle.tar.gz"
#: What tells this machine from all others.
SECRETS = r"""
cat /sys/class/net/*/address | grep -v 00:00:00:00:00:00
cat /etc/machine-id /proc/sys/kernel/random/boot_id
cat /sys/class/dmi/id/*serial /sys/class/dmi/id/product_uuid
"""
#: Runs that are ended ever later, and one that comes to its end.
INTERRUPT = r"""
mkdir /tmp/ended && cd /tmp/ended && echo old >x.html
for at in 1 3 60; do
	timeout --preserve-status -s TERM $at tdxhost report --output x.html >/dev/null 2>&1
	echo "$? $(ls -A | tr '\n' ' ')$(tail -n 1 x.html)"
done
"""


@pytest.fixture(scope="module")
def machine(brought_up: BroughtUp) -> Iterator[Host]:
    """The machine, with a name and a line in its log that nobody is to see."""
    host = brought_up.host
    before = host.run("cat", "/proc/sys/kernel/hostname").stdout.strip()
    host.sh(f"echo {NAME} >/proc/sys/kernel/hostname; echo 'tdx: card {MAC}' >/dev/kmsg")
    yield host
    host.sh(f"echo '{before}' >/proc/sys/kernel/hostname; rm -rf {BUNDLE} /tmp/ended")


@pytest.fixture(scope="module")
def bundle(machine: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the machine, where nothing of that is."""
    made = machine.run("tdxhost", "report", "--bundle", BUNDLE)
    assert made.status == 0, made
    assert made.stdout.splitlines()[-1] == f"Written: {BUNDLE}"
    path = tmp_path_factory.mktemp("bundle") / "b.tar.gz"
    path.write_bytes(base64.b64decode(machine.run("base64", BUNDLE).stdout))
    return path


def members(bundle: Path) -> dict[str, bytes]:
    """Names and contents of a bundle."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(bundle.read_bytes())) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read()
    return found


@pytest.fixture(scope="module")
def document(bundle: Path) -> Any:
    """The report in the bundle."""
    return json.loads(members(bundle)["report.json"])


#: What a command needs to be told to look at the machine itself.
LIVE = {"decode": ("--dmesg",)}
Ask = Callable[[str, str], Result]


@pytest.fixture(scope="module")
def ask(machine: Host) -> Ask:
    """What a command says on the machine, in a format; each is asked once."""

    @cache
    def asked(command: str, form: str) -> Result:
        live = LIVE.get(command, ())
        return machine.run("tdxhost", command, *live, "--format", form)

    return asked


@pytest.mark.parametrize("command", ["status", "info", "memory", "doctor"])
def test_the_report_says_what_other_commands_say(ask: Ask, document: Any, command: str) -> None:
    assert document[command] == ask(command, "json").json()


def test_the_verdict_is_that_all_is_well(document: Any) -> None:
    assert document["verdict"]["outcome"] == "pass"
    assert document["verdict"]["message"].startswith("TDX is initialized: 4 of 4 CPUs enabled")


def test_cpus_are_where_the_platform_has_them(document: Any) -> None:
    spr = platform.load("spr-2s")
    assert document["host"]["packages"] == spr.sockets
    places = {(one["package"], one["core"]) for one in document["topology"]}
    assert places == {(package, core) for package in range(spr.sockets) for core in range(2)}


@pytest.mark.parametrize("form", [pytest.param("table", marks=pytest.mark.slow), "json"])
@pytest.mark.parametrize("command", ["status", "info", "memory", "doctor", "decode"])
def test_commands_say_the_same_from_the_bundle(
    ask: Ask,
    bundle: Path,
    command: str,
    form: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    live = ask(command, form)
    status = main([command, "--from", str(bundle), "--format", form])
    told = capsys.readouterr()
    assert (told.out, told.err, status) == (live.stdout, live.stderr, live.status)


def test_the_report_is_the_same_from_the_bundle(
    bundle: Path, document: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--from", str(bundle), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert main(["report", "--from", str(bundle), "--output", "-"]) == 0
    assert capsys.readouterr().out == members(bundle)["report.html"].decode()


def test_nothing_in_the_bundle_tells_this_machine_from_others(machine: Host, bundle: Path) -> None:
    words = set(machine.sh(SECRETS).stdout.split()) | {NAME, MAC}
    secrets = {word for word in words if len(word) > 8}
    assert MAC in machine.run("dmesg").stdout
    for name, content in members(bundle).items():
        text = content.decode(errors="replace").lower()
        assert [word for word in secrets if word.lower() in text] == [], name
        assert not re.search(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", text), name


def test_the_machine_does_not_differ_from_its_bundle(machine: Host, bundle: Path) -> None:
    same = machine.run("tdxhost", "compare", BUNDLE)
    assert same.status == 0, same.stdout
    assert same.stdout.splitlines()[-1] == "No difference"


def test_a_run_that_is_ended_leaves_the_old_file_or_a_whole_one(machine: Host) -> None:
    runs = machine.sh(INTERRUPT).stdout.splitlines()
    assert len(runs) == 3
    assert runs[0] == "143 x.html old"
    assert runs[1] in ("143 x.html old", "143 x.html </html>", "0 x.html </html>")
    assert runs[-1] == "0 x.html </html>"


def test_with_sudo_the_file_belongs_to_the_caller_and_nobody_else_reads_it(machine: Host) -> None:
    made = machine.sh(
        "cd /tmp && SUDO_UID=1234 SUDO_GID=5678 tdxhost report >/dev/null && "
        "stat -c '%u %g %a' tdxhost-report.html; rm -f tdxhost-report.html"
    )
    assert made.stdout == "1234 5678 600\n"
