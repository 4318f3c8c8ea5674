# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls with all that can be wrong about them: the errno and the bytes that the header says.

What the header says is in calls/model.py, what is called in calls/drafts.py.
Each test leaves the machine as the one behind it needs it: in the file's order
the TDX module first refuses to come up, and is then brought up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm.calls import corpus, model, program
from tests.vm.calls.facts import ABSENT, FAILING, UP, State
from tests.vm.calls.wire import Call
from tests.vm.hosts import Boot, Host, host

# In all, over the states of a host.
LEAST_CALLS = 20000

# For a machine, where others share the processors with it.
SECONDS = 600

# No waiting, so that thousands of refusals take seconds.
PLATFORM = """
[platform]
base = {base}
[latency]
TDH.SYS.INIT = 0ns
TDH.SYS.LP.INIT = 0ns
TDH.SYS.CONFIG = 0ns
TDH.SYS.KEY.CONFIG = 0ns
TDH.SYS.TDMR.INIT = 0ns
"""

# More than the calls of a test use up, few enough for the rest to be used up after it.
FAULTS = 20000
FAULT = f"TDH.SYS.INIT times={FAULTS} status=TDX_INCORRECT_CPUID_VALUE"


# Files of the guest: every call, and every so manieth, for states that are passed in less time.
ALL = "/opt/all"
SOME = "/opt/some"
SAMPLE = 2000


@dataclass(frozen=True)
class Corpus:
    """Calls, files of the guest (with the program and the calls), how many calls were made."""

    calls: Sequence[Call]
    files: dict[str, Path]
    made: Counter[str]

    def of(self, file: str) -> Sequence[Call]:
        """The calls of a file, without the questions that it begins with."""
        return self.calls if file == ALL else self.calls[:: len(self.calls) // SAMPLE]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The calls."""
    folder = tmp_path_factory.mktemp("calls")
    calls = corpus.generate(LEAST_CALLS - 2 * SAMPLE)
    made = Corpus(calls, {program.IN_GUEST: program.build(folder / "calls")}, Counter())
    for file in (ALL, SOME):
        path = folder / Path(file).name
        made.files[file] = program.write(path, [*corpus.questions(), *made.of(file)])
    return made


@pytest.fixture(scope="module")
def machine(made: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host whose TDX module turns every TDH.SYS.INIT away, for a long while."""
    folder = tmp_path_factory.mktemp("bad-input")
    name = platform_file(folder, "spr-2s")
    with host(folder, name, SECONDS, cpus=2, faults=(FAULT,), extra=made.files) as up:
        # It would take longer over the changes of state than the calls take.
        assert up.run("udevadm", "control", "--exit").status == 0
        yield up


def platform_file(folder: Path, base: str) -> str:
    """A shipped platform without latencies."""
    path = folder / f"{base}-quick.ini"
    path.write_text(PLATFORM.format(base=base))
    return str(path)


def check(machine: Host, made: Corpus, file: str, state: State) -> None:
    """Every call of a file comes to what the header says."""
    asked, calls = corpus.questions(), made.of(file)
    answers = program.replay(machine, file, SECONDS)
    assert len(answers) == len(asked) + len(calls)
    facts = corpus.facts(state, answers[: len(asked)])
    wrong = []
    for call, outcome in zip(calls, answers[len(asked) :], strict=True):
        if complaint := model.judge(call, outcome, facts):
            wrong.append(f"{call}: {complaint}")
    made.made[file] += len(answers)
    assert not wrong, f"{len(wrong)} of {len(answers)} calls:\n" + "\n".join(wrong[:10])
    assert machine.kernel_complaints() == []


def test_while_the_tdx_module_does_not_come_up(machine: Host, made: Corpus) -> None:
    check(machine, made, ALL, FAILING)
    states = {cpu["state"] for cpu in machine.json("status", status=1)["cpus"]}
    assert states == {"failed"}


def test_it_comes_up_after_all_that(machine: Host, made: Corpus) -> None:
    drained = machine.run(program.IN_GUEST, "drain", str(FAULTS), timeout=SECONDS)
    assert drained.status == 0, drained
    machine.json("enable", "--retry")


def test_once_the_tdx_module_is_up(machine: Host, made: Corpus) -> None:
    check(machine, made, SOME, UP)


def test_what_changes_while_it_is_read_does_no_harm(machine: Host, made: Corpus) -> None:
    raced = machine.run(program.IN_GUEST, "race", "5", timeout=SECONDS)
    assert raced.status == 0, raced
    calls, served = map(int, raced.stdout.split())
    made.made["race"] = calls
    assert 0 < served < calls
    assert machine.kernel_complaints() == []


def opening(machine: Host, prefix: str) -> str:
    """What open() says to a caller that a command makes of root, "" where it lets it in."""
    result = machine.run("bash", "-c", f"LC_ALL=C {prefix} bash -c ': <>/dev/tdxhost'")
    return result.stderr.strip().rpartition(": ")[2]


NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
NO_ADMIN = "setpriv --bounding-set=-sys_admin"


def test_only_who_may_administer_the_system_opens_the_device(machine: Host) -> None:
    assert machine.sh("stat -c %a /dev/tdxhost").stdout == "600\n"
    assert opening(machine, "") == ""
    assert opening(machine, NOBODY) == "Permission denied"
    assert opening(machine, NO_ADMIN) == "Operation not permitted"
    # Not the file's mode alone keeps others out.
    machine.sh("chmod 666 /dev/tdxhost")
    assert opening(machine, NOBODY) == "Operation not permitted"
    machine.sh("chmod 600 /dev/tdxhost")


def test_where_there_is_no_tdx(boot: Boot, made: Corpus, tmp_path: Path) -> None:
    name = platform_file(tmp_path, "tdx-off")
    with boot(name, seconds=SECONDS, cpus=2, extra=made.files) as absent:
        check(absent, made, SOME, ABSENT)
        # There is no way back from this one, so it comes last on a machine.
        lockdown = "mount -t securityfs none /sys/kernel/security 2>/dev/null\n"
        lockdown += "echo integrity >/sys/kernel/security/lockdown"
        assert absent.sh(lockdown).status == 0
        assert opening(absent, "") == "Operation not permitted"


def test_that_was_tens_of_thousands_of_calls(
    made: Corpus, record_property: Callable[[str, object], None]
) -> None:
    told = ", ".join(f"{name} {count}" for name, count in made.made.items())
    record_property("calls", told)
    print(f"calls: {told}")
    assert made.made[ALL] + made.made[SOME] >= LEAST_CALLS
    assert sum(call.compat for call in made.calls) > len(made.calls) // 3
    assert made.made["race"] > LEAST_CALLS
