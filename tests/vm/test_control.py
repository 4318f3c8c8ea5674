# SPDX-License-Identifier: GPL-2.0-or-later
"""The control channel: faults, latencies, marks and a new TDX module while a guest runs."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vm.hosts import Host, Snapshots, host
from vtdx.vm.errors import ControlRefused
from vtdx.vm.session import Session

READER = Path(__file__).parent / "guest/reader.py"
READ = "TDH.SYS.RD"
REFUSAL = "TDX_METADATA_FIELD_ID_INCORRECT"
CPUS = range(4)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, snapshots: Snapshots) -> Iterator[Host]:
    """A machine whose CPUs are enabled, so that metadata can be read."""
    extra = {"/opt/reader.py": READER}
    folder = tmp_path_factory.mktemp("control")
    with host(folder, extra=extra, seconds=600, snapshots=snapshots) as up:
        assert up.run("tdxhost", "cpu-enable").status == 0
        yield up


@pytest.fixture(scope="module")
def reader(machine: Host) -> Iterator[Session]:
    """Reads metadata from the CPUs that it is told to."""
    with machine.session("python3", "/opt/reader.py") as session:
        yield session


@pytest.fixture(autouse=True)
def no_faults(machine: Host) -> Iterator[None]:
    """Each test begins and ends without a fault."""
    machine.control.clear_faults()
    yield
    machine.control.clear_faults()


def read(reader: Session, *cpus: int, reads: int = 1) -> dict[int, int]:
    """How many reads succeeded on each CPU."""
    answer = reader.ask({"cpus": cpus, "reads": reads})
    return {int(cpu): good for cpu, good in answer.items()}


def test_a_fault_strikes_the_cpu_and_the_calls_that_it_names(
    machine: Host, reader: Session
) -> None:
    machine.control.mark("fault")
    number = machine.control.fault(f"{READ} cpu=2 call=2 times=3 status={REFUSAL}")

    assert read(reader, 1, reads=6) == {1: 6}
    assert read(reader, 2, reads=6) == {2: 3}
    struck = [call for call in machine.witness().case("fault").calls if call.fault]
    assert [(call.cpu, call.fault, call.status) for call in struck] == [(2, number, REFUSAL)] * 3


def test_the_first_fault_that_matches_strikes_and_numbers_only_grow(
    machine: Host, reader: Session
) -> None:
    first = machine.control.fault(f"{READ} cpu=0 status={REFUSAL}")
    second = machine.control.fault(f"{READ} status={REFUSAL}")
    machine.control.mark("first")
    assert read(reader, 0) == {0: 0}
    machine.control.clear_faults()
    machine.control.mark("none")
    assert read(reader, 0) == {0: 1}
    third = machine.control.fault(f"{READ} status={REFUSAL}")

    assert first < second < third
    assert {call.fault for call in machine.witness().case("first").calls} == {first}
    assert {call.fault for call in machine.witness().case("none").calls} == {None}


def test_a_leaf_takes_the_time_that_was_set_last(machine: Host, reader: Session) -> None:
    for time_set in ("5s", "30ms"):
        machine.control.latency(READ, time_set)
    machine.control.mark("slow")
    assert read(reader, 3, reads=2) == {3: 2}
    machine.control.latency(READ, "0ns")

    durations = [call.event["duration_ns"] for call in machine.witness().case("slow").calls]
    assert all(30_000_000 <= duration < 3_000_000_000 for duration in durations), durations


def test_marks_hold_any_text(machine: Host) -> None:
    text = 'case 1: "quoted" \\ é \t 😀'
    machine.control.mark(text)

    (mark,) = [event for event in machine.witness().events if event.get("text") == text]
    assert mark["event"] == "mark"
    assert mark["cpu"] is None
    assert machine.witness().case(text).calls == []


@pytest.mark.parametrize(
    ("request_line", "words"),
    [
        ("", "not a request"),
        ("no-such-thing", "'no-such-thing' is not a request"),
        ("Fault VMXON vmfail", "not a request"),
        ("fault", "more words"),
        ("fault VMXON", "says nothing to answer"),
        ("fault NO.SUCH.LEAF trap=UD", "'NO.SUCH.LEAF'"),
        ("fault VMXON cpu=4 vmfail", "'cpu=4'"),
        ("fault VMXON cpu=0-99999999999999999999 vmfail", "'cpu=0-9"),
        ("fault " + "x " * 100_000, "'x'"),
        ("faults", "more words"),
        ("faults drop", "clear"),
        (f"latency {READ}", "LEAF TIME"),
        (f"latency {READ} 5", "not a time"),
        (f"latency {READ} -1ms", "not a time"),
        ("latency NO.SUCH.LEAF 5ms", "not a leaf"),
        ("mark", "more words"),
        ("mark \0", "NUL"),
        ("reload now", "alone"),
        ("save now", "alone"),
        ("save", "the TDX module was called"),
        ("restore", "more words"),
        ("restore iretq=", "'iretq='"),
        ("restore msr=4:0x3a:1", "'msr=4:0x3a:1'"),
        ("restore msr=0:0xffff:1", "'msr=0:0xffff:1'"),
    ],
)
def test_a_bad_request_says_why_and_does_nothing(
    machine: Host, reader: Session, request_line: str, words: str
) -> None:
    with pytest.raises(ControlRefused) as refused:
        machine.control.ask(request_line)

    assert words in refused.value.why
    assert read(reader, 0) == {0: 1}


def connect(machine: Host) -> socket.socket:
    """A client that speaks for itself."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(machine.machine.control.path))
    return client


def test_clients_do_not_stand_in_each_others_way(machine: Host) -> None:
    with connect(machine) as silent, connect(machine) as other:
        silent.sendall(b"mark never en")
        other.sendall(b"mark one\nmark two\nmark \xff\n")
        answers = other.makefile("rb")
        assert [answers.readline() for _ in range(2)] == [b"ok\n"] * 2
        assert answers.readline().startswith(b"error not UTF-8")
    machine.control.mark("afterwards")

    marks = [event["text"] for event in machine.witness().events if event["event"] == "mark"]
    assert marks[-3:] == ["one", "two", "afterwards"]


def test_a_client_that_does_not_wait_for_its_answer_does_no_harm(machine: Host) -> None:
    for _ in range(50):
        with connect(machine) as hasty:
            hasty.sendall(b"no such request\n" * 100)
    machine.control.mark("still there")


def change_faults(machine: Host, stop: list[bool]) -> list[int]:
    """Add and clear faults until told to stop; their numbers."""
    numbers = []
    while not stop:
        numbers.append(machine.control.fault(f"{READ} cpu=0,2 status={REFUSAL}"))
        machine.control.latency(READ, f"{len(numbers) % 3}us")
        machine.control.clear_faults()
    return numbers


def test_faults_change_while_every_cpu_calls(machine: Host, reader: Session) -> None:
    machine.control.mark("storm")
    stop: list[bool] = []
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change_faults, machine, stop)
        read(reader, *CPUS, reads=1000)
        stop.append(True)
        numbers = changing.result(60)
    machine.control.mark("calm")

    calls = machine.witness().case("storm").calls
    struck = [call for call in calls if call.fault]
    assert Counter(call.cpu for call in calls) == dict.fromkeys(CPUS, 1000)
    assert numbers == sorted(set(numbers))
    assert {call.fault for call in struck} <= set(numbers)
    assert {call.cpu for call in struck} == {0, 2}
    assert {call.status for call in struck} == {REFUSAL}
    assert read(reader, *CPUS) == dict.fromkeys(CPUS, 1)
    assert machine.kernel_complaints() == []


def test_a_bounded_fault_strikes_that_often_among_many_callers(
    machine: Host, reader: Session
) -> None:
    machine.control.fault(f"{READ} call=101 times=77 status={REFUSAL}")

    assert sum(read(reader, *CPUS, reads=200).values()) == 4 * 200 - 77


def test_a_reloaded_module_starts_anew(machine: Host, reader: Session) -> None:
    """TDH.SYS.INIT succeeds once in the life of a TDX module."""
    for name in ("old module", "new module"):
        assert machine.run("rmmod", "tdxhost").status == 0
        if name == "new module":
            machine.control.reload()
        assert machine.run("insmod", "/usr/lib/vtdx/tdxhost.ko").status == 0
        machine.run("udevadm", "settle")
        machine.control.mark(name)
        enabled = machine.run("tdxhost", "cpu-enable")

    assert enabled.status == 0
    assert machine.witness().case("old module").succeeded("TDH.SYS.INIT") == []
    assert len(machine.witness().case("new module").succeeded("TDH.SYS.INIT")) == 1
    assert read(reader, *CPUS) == dict.fromkeys(CPUS, 1)
    assert machine.kernel_complaints() == []
