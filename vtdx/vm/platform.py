# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform files: inheritance, what follows from them, and QEMU's view of them.

The format is in vtdx/README.md. What the plugin reads is the resolved form: one
file that stands alone, with explicit CMRs and faults.
"""

from __future__ import annotations

import configparser
import io
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm.errors import BadPlatform

SHIPPED = Path(__file__).resolve().parent.parent / "platforms"

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB
_UNITS = {"K": _KIB, "M": _MIB, "G": _GIB, "T": 1024 * _GIB}

# QEMU's q35 machine: RAM below 4 GiB ends here, unless all of it fits lower
# than the second number. QEMU hw/i386/pc_q35.c.
_Q35_LOW_RAM_END = 0x80000000
_Q35_ALL_LOW_LIMIT = 0xB0000000
_HIGH_RAM_BASE = 4 * _GIB


@dataclass(frozen=True)
class Range:
    """Physical memory from ``base`` on, ``size`` bytes."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind the range."""
        return self.base + self.size

    def __str__(self) -> str:
        return f"{self.base:#x}+{self.size:#x}"


@dataclass(frozen=True)
class Platform:
    """A virtual machine: what QEMU, the kernel's command line and the plugin need.

    ``nodes`` are sizes in bytes of the NUMA nodes, ``reserved`` the ranges that
    firmware keeps out of System RAM, ``text`` the resolved file, ``hardware`` what
    of it no running machine can change.
    """

    name: str
    summary: str
    family: int
    model: int
    stepping: int
    sockets: int
    cores: int
    threads: int
    nodes: tuple[int, ...]
    reserved: tuple[Range, ...]
    cmrs: tuple[Range, ...]
    text: str
    hardware: str

    @property
    def cpus(self) -> int:
        """Logical processors."""
        return self.sockets * self.cores * self.threads

    @property
    def memory_bytes(self) -> int:
        """All memory."""
        return sum(self.nodes)


def shipped() -> dict[str, Path]:
    """The platforms that come with vtdx, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.ini"))}


def parse_size(text: str) -> int:
    """Bytes in ``text``: a number with an optional K, M, G or T behind it."""
    word = text.strip().upper()
    unit = _UNITS.get(word[-1:], 1)
    digits = word[:-1] if unit != 1 else word
    try:
        value = int(digits, 0) * unit
    except ValueError:
        raise BadPlatform(f"{text!r} is not a size.", "Write bytes, or 512M, 4G.") from None
    if value < 0:
        raise BadPlatform(f"{text!r} is not a size.", "Sizes are not negative.")
    return value


def parse_range(text: str) -> Range:
    """``BASE+SIZE``."""
    base, plus, size = text.partition("+")
    if not plus:
        raise BadPlatform(f"{text!r} is not a range.", "Write BASE+SIZE, such as 0x100000+511M.")
    return Range(parse_size(base), parse_size(size))


def ram_by_node(nodes: tuple[int, ...]) -> list[list[Range]]:
    """Where q35 puts the memory of each node: low memory, then from 4 GiB on."""
    total = sum(nodes)
    low_end = total if total < _Q35_ALL_LOW_LIMIT else _Q35_LOW_RAM_END
    placed: list[list[Range]] = []
    offset = 0
    for size in nodes:
        low = Range(offset, max(0, min(offset + size, low_end) - offset))
        high_from = max(offset, low_end)
        high = Range(_HIGH_RAM_BASE + high_from - low_end, max(0, offset + size - high_from))
        placed.append([part for part in (low, high) if part.size])
        offset += size
    return placed


def _derived_cmrs(nodes: tuple[int, ...]) -> list[Range]:
    """All memory above 1 MiB, cut at nodes."""
    cmrs = []
    for part in (part for parts in ram_by_node(nodes) for part in parts):
        base = max(part.base, _MIB)
        if part.end > base:
            cmrs.append(Range(base, part.end - base))
    return sorted(cmrs, key=lambda cmr: cmr.base)


class _Config(configparser.ConfigParser):
    """Key files in GLib's sense."""

    def __init__(self) -> None:
        super().__init__(
            delimiters=("=",), comment_prefixes=("#",), interpolation=None, default_section="\0"
        )

    def optionxform(self, optionstr: str) -> str:
        """Keys are what they are."""
        return optionstr


class _Reader:
    """One resolved set of keys, with errors that name file, section and key."""

    def __init__(self, name: str, config: configparser.ConfigParser) -> None:
        self.name = name
        self.config = config

    def fail(self, section: str, key: str, why: str) -> BadPlatform:
        return BadPlatform(f"Platform {self.name}, [{section}] {key}: {why}")

    def text(self, section: str, key: str) -> str:
        value = self.config.get(section, key, fallback=None)
        if value is None:
            raise self.fail(section, key, "is missing")
        return value

    def number(self, section: str, key: str, least: int = 0) -> int:
        value = self.text(section, key)
        try:
            number = int(value, 0)
        except ValueError:
            raise self.fail(section, key, f"{value!r} is not a number") from None
        if number < least:
            raise self.fail(section, key, f"{number} is less than {least}")
        return number

    def ranges(self, section: str, key: str) -> tuple[Range, ...]:
        text = self.config.get(section, key, fallback="")
        try:
            return tuple(parse_range(word) for word in text.split())
        except BadPlatform as error:
            raise self.fail(section, key, error.message) from None

    def numbered(self, section: str) -> list[str]:
        """Keys of a section that are plain numbers, in their order."""
        if not self.config.has_section(section):
            return []
        return sorted((key for key in self.config[section] if key.isdigit()), key=int)


def load(
    which: str,
    *,
    cpus: int | None = None,
    memory_bytes: int | None = None,
    faults: tuple[str, ...] = (),
) -> Platform:
    """The platform ``which`` (a shipped name or a file), changed as asked."""
    path = shipped().get(which, Path(which))
    if not path.is_file():
        names = ", ".join(name for name in shipped() if not name.endswith("-base"))
        raise BadPlatform(f"No platform {which!r}.", f"Name one of {names}, or a file.")
    config = _inherited(path, ())
    reader = _Reader(path.stem, config)
    if cpus is not None:
        _set_cpus(reader, cpus)
    if memory_bytes is not None:
        _set_memory(reader, memory_bytes)
    _add_faults(reader, faults)
    return _finish(reader)


def _inherited(path: Path, seen: tuple[Path, ...]) -> configparser.ConfigParser:
    if path in seen:
        raise BadPlatform(f"Platform {path.stem} is based on itself.")
    own = _parse(path)
    base = own.get("platform", "base", fallback=None)
    if base is None:
        return own
    config = _inherited(shipped().get(base, path.parent / base), (*seen, path))
    for section in own.sections():
        # A list of CMRs or nodes replaces the base's: half of each makes no machine.
        if section in ("cmr", "memory"):
            config.remove_section(section)
        if not config.has_section(section):
            config.add_section(section)
        for key, value in own[section].items():
            config[section][key] = value
    config.remove_option("platform", "base")
    return config


def _parse(path: Path) -> configparser.ConfigParser:
    config = _Config()
    try:
        config.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise BadPlatform(f"Platform file {path}: {error}") from error
    return config


def _set_cpus(reader: _Reader, cpus: int) -> None:
    cpu = reader.config["cpu"]
    sockets, threads = reader.number("cpu", "sockets", 1), reader.number("cpu", "threads", 1)
    each = sockets * threads
    if cpus < 1 or cpus % each:
        raise BadPlatform(
            f"Platform {reader.name} has {sockets} sockets with {threads} threads a core:"
            f" {cpus} CPUs can't be shared out evenly.",
            f"Ask for a multiple of {each}.",
        )
    cpu["cores"] = str(cpus // each)


def _set_memory(reader: _Reader, memory_bytes: int) -> None:
    if reader.config.has_section("cmr") or reader.ranges("memory", "reserved"):
        raise BadPlatform(
            f"Platform {reader.name} has a memory map of its own, so its size can't be changed.",
            "Take another platform, or copy the file and edit it.",
        )
    nodes = _node_keys(reader)
    each = memory_bytes // len(nodes) // _MIB * _MIB
    if each < 64 * _MIB:
        raise BadPlatform(f"{memory_bytes} bytes are too little for {len(nodes)} nodes.")
    for key in nodes:
        reader.config["memory"][key] = str(each)


def _add_faults(reader: _Reader, faults: tuple[str, ...]) -> None:
    if faults and not reader.config.has_section("faults"):
        reader.config.add_section("faults")
    first = len(reader.numbered("faults")) + 1
    for number, fault in enumerate(faults, first):
        reader.config["faults"][str(number)] = fault


def _node_keys(reader: _Reader) -> list[str]:
    keys = [key for key in reader.config["memory"] if key.startswith("node")]
    wanted = [f"node{number}" for number in range(len(keys))]
    if not keys or sorted(keys) != sorted(wanted):
        raise reader.fail("memory", "node0", "nodes are numbered from 0 without a gap")
    return wanted


def _finish(reader: _Reader) -> Platform:
    config = reader.config
    for section in ("platform", "cpu", "memory"):
        if not config.has_section(section):
            raise BadPlatform(f"Platform {reader.name}: section [{section}] is missing.")
    nodes = tuple(_size(reader, "memory", key) for key in _node_keys(reader))
    if config.has_section("cmr"):
        ranges = [reader.ranges("cmr", key) for key in reader.numbered("cmr")]
        cmrs = [part for parts in ranges for part in parts]
    else:
        cmrs = _derived_cmrs(nodes)
    config.remove_section("cmr")
    config["cmr"] = {str(number): str(cmr) for number, cmr in enumerate(cmrs)}
    for number, size in enumerate(nodes):
        config["memory"][f"node{number}"] = str(size)
    seam_range = reader.ranges("seam", "range")
    if seam_range:
        config["seam"]["range"] = str(seam_range[0])
    config["platform"]["name"] = reader.name
    return Platform(
        name=reader.name,
        summary=config.get("platform", "summary", fallback=""),
        family=reader.number("cpu", "family"),
        model=reader.number("cpu", "model"),
        stepping=reader.number("cpu", "stepping"),
        sockets=reader.number("cpu", "sockets", 1),
        cores=reader.number("cpu", "cores", 1),
        threads=reader.number("cpu", "threads", 1),
        nodes=nodes,
        reserved=reader.ranges("memory", "reserved"),
        cmrs=tuple(cmrs),
        text=_text(config),
        hardware=_hardware(config),
    )


def _size(reader: _Reader, section: str, key: str) -> int:
    try:
        return parse_size(reader.text(section, key))
    except BadPlatform as error:
        raise reader.fail(section, key, error.message) from None


def _hardware(config: configparser.ConfigParser) -> str:
    """The resolved file without names, faults and latencies."""
    hardware = _Config()
    hardware.read_dict(config)
    for section in ("platform", "faults", "latency"):
        hardware.remove_section(section)
    return _text(hardware)


def _text(config: configparser.ConfigParser) -> str:
    out = io.StringIO()
    config.write(out)
    return out.getvalue()
