# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings: everything that was read of a host, to be read again anywhere.

Keyed by what was asked, never by order, so that a newer tdxhost that asks in another order
still finds it. A failure to read is an answer as well.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from tdxhost.device import Source
from tdxhost.errors import (
    BadData,
    DriverDenied,
    DriverMissing,
    DriverRefused,
    NoEnabledCpu,
    NotRead,
    TdxAbsent,
    TdxHostError,
    Unsupported,
    Usage,
    Why,
)
from tdxhost.host import Host
from tdxhost.records import CpuResult, FieldValue, Info, Memory, Range, Status, StepResult

SCHEMA = "tdxhost-recording/1"
#: Where a bundle has it.
MEMBER = "recording.json"
#: More than any host gives, and no more than a reader has memory for.
MOST_BYTES = 256 << 20

ERRORS: tuple[type[TdxHostError], ...] = (
    DriverMissing,
    DriverDenied,
    NoEnabledCpu,
    Unsupported,
    DriverRefused,
    TdxAbsent,
)

#: What is kept of a metadata field, of which there are hundreds, in this order.
FIELD_MEMBERS = ("value", "next_id", "seam_status", "error", "trap")

Answer = dict[str, Any]
T = TypeVar("T")


@dataclass
class Recording:
    """What was asked of a host, and what it answered; taken_at is UTC, in ISO 8601."""

    taken_at: str = ""
    tdxhost: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)

    def text(self) -> str:
        """As it is written to a file: JSON, a line for each answer."""
        head = {"schema": SCHEMA, "taken_at": self.taken_at, "tdxhost": self.tdxhost}
        about = [f'"{name}": {_json(value)},' for name, value in head.items()]
        lines = [f"  {_json(key)}: {_json(self.answers[key])}" for key in sorted(self.answers)]
        return "\n".join(("{", *about, '"answers": {', ",\n".join(lines), "}}", ""))

    @classmethod
    def of(cls, document: object, path: str) -> Self:
        """Reads a document; BadData says what is wrong with it."""
        if not isinstance(document, dict) or not isinstance(document.get("answers"), dict):
            raise BadData(path, "top level", "is no recording of tdxhost", NO_RECORDING)
        if document.get("schema") != SCHEMA:
            found = document.get("schema")
            raise BadData(path, "schema", f"is {found!r}, and this tdxhost reads {SCHEMA!r}")
        return cls(str(document["taken_at"]), str(document["tdxhost"]), document["answers"])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a recording, or a bundle that has one (tdxhost report --bundle)."""
        import tarfile

        try:
            content = _member(path) if tarfile.is_tarfile(path) else path.read_bytes()
            return cls.of(json.loads(content), str(path))
        except OSError as error:
            raise Usage(f"{path} can't be read: {error.strerror or error}", NO_RECORDING) from error
        except (ValueError, KeyError, tarfile.TarError, EOFError) as error:
            reason = f"is no recording of tdxhost ({error})"
            raise BadData(str(path), "content", reason, NO_RECORDING) from error


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


NO_RECORDING = "Make one on the host with: sudo tdxhost report --bundle FILE.tar.gz"


def _member(path: Path) -> bytes:
    import tarfile

    with tarfile.open(path) as bundle:
        for member in bundle:
            if Path(member.name).name == MEMBER and member.isfile():
                taken = bundle.extractfile(member)
                assert taken is not None
                return taken.read(MOST_BYTES)
    raise KeyError(f"there is no {MEMBER} in it")


@dataclass
class Recorder(Host):
    """A host whose answers are kept; each thing is asked of it once."""

    host: Host
    recording: Recording = field(default_factory=Recording)

    def _kept(self, key: str, ask: Callable[[], Answer]) -> Answer:
        answers = self.recording.answers
        if key not in answers:
            answers[key] = _answer_or_reason(ask)
        return _checked(answers[key], key)

    def data(self, path: str) -> bytes:
        """A file."""
        return _bytes_of(self._kept(f"data {path}", lambda: _content(self.host.data(path))))

    def names(self, path: str) -> tuple[str, ...]:
        """A folder."""
        answer = self._kept(f"names {path}", lambda: {"names": list(self.host.names(path))})
        return tuple(answer["names"])

    def msr(self, cpu: int, address: int) -> int:
        """An MSR."""
        key = f"msr {address:#x} cpu {cpu}"
        answer = self._kept(key, lambda: {"value": f"{self.host.msr(cpu, address):#x}"})
        return int(answer["value"], 16)

    def log(self) -> tuple[str, ...]:
        """The kernel's log."""
        return tuple(self._kept("log", lambda: {"lines": list(self.host.log())})["lines"])


@dataclass(frozen=True)
class NothingKnown(Host):
    """A host of which nothing can be read: what is behind a recording."""

    def data(self, path: str) -> bytes:
        """Always NotRead."""
        raise _not_recorded(path)

    def names(self, path: str) -> tuple[str, ...]:
        """Always NotRead."""
        raise _not_recorded(path)

    def msr(self, cpu: int, address: int) -> int:
        """Always NotRead."""
        raise _not_recorded(f"MSR {address:#x} of CPU {cpu}")

    def log(self) -> tuple[str, ...]:
        """Always NotRead."""
        raise _not_recorded("the kernel's log")


def recorded_host(recording: Recording) -> Host:
    """The host that a recording was made of."""
    return Recorder(NothingKnown(), recording)


def _not_recorded(what: str) -> NotRead:
    return NotRead(what, Why.NOT_RECORDED, "is not in the recording")


def _content(data: bytes) -> Answer:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes_of(answer: Answer) -> bytes:
    if "text" in answer:
        return str(answer["text"]).encode()
    return base64.b64decode(answer["base64"])


def _answer_or_reason(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except NotRead as error:
        told = {"why": str(error.why), "reason": error.reason, "hint": error.hint}
        return {"not_read": {"what": error.what, **told}}


def _checked(answer: Answer, key: str) -> Answer:
    """The answer; NotRead where it is a reason."""
    if told := answer.get("not_read"):
        raise NotRead(told.get("what", key), Why(told["why"]), told["reason"], told.get("hint", ""))
    return answer


@dataclass
class DriverRecorder:
    """A driver whose answers, refusals among them, are kept."""

    source: Source
    recording: Recording

    def _kept(self, command: str, ask: Callable[[], Any]) -> Any:
        answer = _answer_or_error(ask)
        self.recording.answers[f"driver {command}"] = answer
        return _served(answer)

    def get_info(self) -> Info:
        """GET_INFO."""
        return Info.of(self._kept("GET_INFO", lambda: asdict(self.source.get_info())))

    def get_status(self) -> Status:
        """GET_STATUS."""
        return Status.of(self._kept("GET_STATUS", lambda: asdict(self.source.get_status())))

    def get_cpus(self) -> tuple[CpuResult, ...]:
        """GET_CPUS."""
        entries = self._kept("GET_CPUS", lambda: [asdict(cpu) for cpu in self.source.get_cpus()])
        return tuple(map(CpuResult.of, entries))

    def get_steps(self) -> tuple[StepResult, ...]:
        """GET_STEPS."""
        entries = self._kept("GET_STEPS", lambda: [asdict(one) for one in self.source.get_steps()])
        return tuple(map(StepResult.of, entries))

    def get_memory(self) -> Memory:
        """GET_MEMORY."""
        return _memory_of(self._kept("GET_MEMORY", lambda: asdict(self.source.get_memory())))

    def sys_rd(self, ids: Sequence[int]) -> tuple[FieldValue, ...]:
        """SYS_RD, kept field by field."""
        ask = _answer_or_error(lambda: [asdict(value) for value in self.source.sys_rd(ids)])
        if "error" in ask:
            self.recording.answers["driver SYS_RD"] = ask
        for entry in ask.get("answer", ()):
            told = [entry[name] for name in FIELD_MEMBERS]
            self.recording.answers[_field_key(entry["id"])] = {"answer": told}
        return tuple(map(FieldValue.of, _served(ask)))


@dataclass(frozen=True)
class RecordedDriver:
    """The driver that a recording was made of."""

    recording: Recording

    def _told(self, command: str) -> Any:
        answer = self.recording.answers.get(f"driver {command}")
        if answer is None:
            raise DriverMissing(f"{command} of the driver is not in the recording", NO_RECORDING)
        return _served(answer)

    def get_info(self) -> Info:
        """GET_INFO."""
        return Info.of(self._told("GET_INFO"))

    def get_status(self) -> Status:
        """GET_STATUS."""
        return Status.of(self._told("GET_STATUS"))

    def get_cpus(self) -> tuple[CpuResult, ...]:
        """GET_CPUS."""
        return tuple(map(CpuResult.of, self._told("GET_CPUS")))

    def get_steps(self) -> tuple[StepResult, ...]:
        """GET_STEPS."""
        return tuple(map(StepResult.of, self._told("GET_STEPS")))

    def get_memory(self) -> Memory:
        """GET_MEMORY."""
        return _memory_of(self._told("GET_MEMORY"))

    def sys_rd(self, ids: Sequence[int]) -> tuple[FieldValue, ...]:
        """SYS_RD; a field that was not asked for then is one that the module does not have."""
        answers = self.recording.answers
        if refusal := answers.get("driver SYS_RD"):
            _served(refusal)
        return tuple(self._field(number) for number in ids)

    def _field(self, number: int) -> FieldValue:
        told = self._told(_field_key(number).removeprefix("driver "))
        return FieldValue.of({"id": number, **dict(zip(FIELD_MEMBERS, told, strict=True))})


def _field_key(number: int) -> str:
    return f"driver SYS_RD {number:#x}"


def _memory_of(answer: Mapping[str, Any]) -> Memory:
    return Memory(tuple(map(Range.of, answer["ranges"])), answer["pamt_bytes"])


def _answer_or_error(ask: Callable[[], Any]) -> Answer:
    try:
        return {"answer": ask()}
    except ERRORS as error:
        kind = next(kind for kind in ERRORS if isinstance(error, kind))
        told: Answer = {"kind": kind.__name__, "message": error.message, "hint": error.hint}
        if isinstance(error, DriverRefused):
            told |= {"errno": error.errno, "command": error.command}
        if isinstance(error, TdxAbsent):
            told |= {"code": error.code}
        return {"error": told}


def _served(answer: Answer) -> Any:
    """The answer; the driver's error where it refused."""
    if "error" not in answer:
        return answer["answer"]
    told = answer["error"]
    kind = next((kind for kind in ERRORS if kind.__name__ == told["kind"]), TdxHostError)
    message, hint = told["message"], told["hint"]
    if issubclass(kind, DriverRefused):
        raise kind(told["errno"], told["command"], hint, message)
    if issubclass(kind, TdxAbsent):
        raise kind(message, hint, told["code"])
    raise kind(message, hint)


Opener = Callable[[], AbstractContextManager[Source]]


@contextmanager
def recording_driver(open_driver: Opener, recording: Recording) -> Iterator[Source]:
    """Opens a driver whose answers are kept; that it can't be opened is kept too."""
    try:
        opened = open_driver()
    except ERRORS as error:
        failure = error
        recording.answers["driver open"] = _answer_or_error(lambda: _raise(failure))
        raise
    recording.answers["driver open"] = {"answer": None}
    with opened as source:
        yield DriverRecorder(source, recording)


def _raise(error: TdxHostError) -> None:
    raise error


@contextmanager
def recorded_driver(recording: Recording) -> Iterator[Source]:
    """Opens the driver that a recording was made of, or fails as that did."""
    opened = recording.answers.get("driver open")
    if opened is None:
        raise DriverMissing("the recording holds nothing of a driver", NO_RECORDING)
    _served(opened)
    yield RecordedDriver(recording)
