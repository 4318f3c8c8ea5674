# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform files: inheritance, what follows from them, and QEMU's view of them.

The format is in vtdx/README.md. What the plugin reads is the resolved form: one
file that stands alone, with explicit CMRs and faults.
"""

from __future__ import annotations

import configparser
import errno
import io
import re
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


# A platform file is some hundred lines; what is larger is something else.
_MOST_FILE_BYTES = 1 << 20
_MOST_BASES = 16

# Of a text that is wrong, as much as a message repeats.
_MOST_TOLD = 60

# What the plugin (plugin/platform.c) and QEMU's q35 and NUMA nodes go up to.
_MOST_SOCKETS = 8
_MOST_CPUS = 4096
_MOST_NODES = 128
_MOST_CMRS = 32
_MOST_U64 = (1 << 64) - 1

# CPUID leaf 0x80000008, EAX[7:0]: address bits of every processor with TDX.
_PHYS_BITS = 52

# CPUID leaves 0x80000002 to 0x80000004 (SDM vol. 2), of which QEMU takes no comma.
_BRAND = re.compile(r"[^,]{1,47}")

_VENDORS = ("GenuineIntel", "AuthenticAMD")

# Of 52 address bits KeyIDs take the upper ones; 46 are left on real machines.
_MOST_MEMORY = 1 << 46

# int() knows more kinds of digits than people mean.
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_KEY_NUMBER = re.compile(r"[0-9]{1,9}")


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
class System:
    """What SMBIOS tells of the machine; what is empty is QEMU's."""

    vendor: str
    product: str
    bios_version: str
    bios_date: str


@dataclass(frozen=True)
class Platform:
    """A virtual machine: what QEMU, the kernel's command line and the plugin need.

    ``nodes`` are sizes in bytes of the NUMA nodes, the last ``cpuless`` of which have
    no CPU, ``reserved`` the ranges that firmware keeps out of System RAM, ``text`` the
    resolved file, ``hardware`` what of it no running machine can change.
    """

    name: str
    summary: str
    system: System
    vendor: str
    brand: str
    family: int
    model: int
    stepping: int
    sockets: int
    cores: int
    threads: int
    phys_bits: int
    nodes: tuple[int, ...]
    cpuless: int
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


def told(text: str) -> str:
    """A text as a message repeats it: quoted, printable, not too long."""
    return repr(text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + "...")


def _number(text: str) -> int | None:
    """A decimal or 0x number of 64 bits and nothing else."""
    if not _NUMBER.fullmatch(text):
        return None
    value = int(text, 16 if text[:2].lower() == "0x" else 10)
    return value if value <= _MOST_U64 else None


def parse_size(text: str) -> int:
    """Bytes in ``text``: a number with an optional K, M, G or T behind it."""
    word = text.strip()
    unit = _UNITS.get(word[-1:].upper(), 1)
    number = _number(word[:-1] if unit != 1 else word)
    if number is None or number * unit > _MOST_U64:
        raise BadPlatform(f"{told(text)} is not a size.", "Write bytes, or 512M, 4G.")
    return number * unit


def parse_range(text: str) -> Range:
    """``BASE+SIZE``."""
    base, plus, size = text.partition("+")
    if not plus:
        raise BadPlatform(
            f"{told(text)} is not a range.", "Write BASE+SIZE, such as 0x100000+511M."
        )
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

    def number(self, section: str, key: str, least: int = 0, most: int = _MOST_U64) -> int:
        value = self.text(section, key)
        number = _number(value)
        if number is None:
            raise self.fail(section, key, f"{told(value)} is not a number")
        if number < least:
            raise self.fail(section, key, f"{number} is less than {least}")
        if number > most:
            raise self.fail(section, key, f"{number} is more than {most}")
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
        for key in self.config[section]:
            if not _KEY_NUMBER.fullmatch(key):
                raise self.fail(section, told(key), "keys of this section are numbers")
        return sorted(self.config[section], key=int)


def load(
    which: str,
    *,
    cpus: int | None = None,
    memory_bytes: int | None = None,
    faults: tuple[str, ...] = (),
) -> Platform:
    """The platform ``which`` (a shipped name or a file), changed as asked."""
    path = shipped().get(which, Path(which))
    if not _exists(path):
        names = ", ".join(name for name in shipped() if not name.endswith("-base"))
        raise BadPlatform(f"No platform {told(which)}.", f"Name one of {names}, or a file.")
    config = _inherited(path, ())
    reader = _Reader("".join(c if c.isprintable() else "?" for c in path.stem), config)
    for section in ("platform", "cpu", "memory"):
        if not config.has_section(section):
            raise BadPlatform(f"Platform {reader.name}: section [{section}] is missing.")
    if cpus is not None:
        _set_cpus(reader, cpus)
    if memory_bytes is not None:
        _set_memory(reader, memory_bytes)
    _add_faults(reader, faults)
    return _finish(reader)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no name that a file could have
        return False


def _inherited(path: Path, seen: tuple[Path, ...]) -> configparser.ConfigParser:
    if path.resolve() in seen:
        raise BadPlatform(f"Platform {path.stem} is based on itself.")
    if len(seen) == _MOST_BASES:
        raise BadPlatform(f"Platform {path.stem}: more than {_MOST_BASES} bases in a row.")
    own = _parse(path)
    base = own.get("platform", "base", fallback=None)
    if base is None:
        return own
    base_path = shipped().get(base, path.parent / base)
    if not _exists(base_path):
        raise BadPlatform(f"Platform {path.stem}: there is no base {told(base)}.")
    config = _inherited(base_path, (*seen, path.resolve()))
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
    where = f"Platform file {str(path)!r}"
    try:
        config.read_string(_text_of(path))
    except OSError as error:
        raise BadPlatform(f"{where}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadPlatform(f"{where}: is not UTF-8 text") from error
    except configparser.Error as error:
        raise BadPlatform(f"{where}: {_complaint(error)}") from error
    for section in config.sections():
        for key, value in config[section].items():
            if not f"{section}{key}{value}".isprintable():
                raise BadPlatform(
                    f"{where}, [{told(section)}] {told(key)}: {told(value)} is not one line of text"
                )
    return config


def _text_of(path: Path) -> str:
    """The text of a file. Only of a file: reading a FIFO would wait, a device never end."""
    if not path.is_file():
        raise OSError(errno.EINVAL, "is not a file")
    with path.open("rb") as file:
        data = file.read(_MOST_FILE_BYTES + 1)
    if len(data) > _MOST_FILE_BYTES:
        raise OSError(errno.EFBIG, "is too large for a platform file")
    if b"\0" in data:
        raise OSError(errno.EILSEQ, "is not text: there are NUL bytes in it")
    return data.decode("utf-8")


def _complaint(error: configparser.Error) -> str:
    """What is wrong with a file, in one line."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} stands in no [section]"
    if isinstance(error, configparser.ParsingError):
        return f"line {error.errors[0][0]} is neither a [section] nor KEY = VALUE"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno}: section [{told(error.section)}] is there already"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno}: key {told(error.option)} is there already"
    return " ".join(error.message.split())


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
    first = max(map(int, reader.numbered("faults")), default=0) + 1
    for number, fault in enumerate(faults, first):
        if not fault.isprintable():
            raise BadPlatform(f"Fault {told(fault)} is not one line of text.")
        reader.config["faults"][str(number)] = fault


def _node_keys(reader: _Reader) -> list[str]:
    keys = [key for key in reader.config["memory"] if key.startswith("node")]
    wanted = [f"node{number}" for number in range(len(keys))]
    if not keys or len(keys) > _MOST_NODES or sorted(keys) != sorted(wanted):
        raise reader.fail(
            "memory", "node0", f"nodes are numbered from 0 without a gap, at most {_MOST_NODES}"
        )
    return wanted


def _finish(reader: _Reader) -> Platform:
    config = reader.config
    nodes = _nodes(reader)
    cmrs = _cmrs(reader, nodes)
    config.remove_section("cmr")
    config["cmr"] = {str(number): str(cmr) for number, cmr in enumerate(cmrs)}
    for number, size in enumerate(nodes):
        config["memory"][f"node{number}"] = str(size)
    if config.has_option("seam", "range"):
        config["seam"]["range"] = str(_one_range(reader, "seam", "range"))
    config["platform"]["name"] = reader.name
    sockets, cores, threads = _topology(reader)
    return Platform(
        name=reader.name,
        summary=config.get("platform", "summary", fallback=""),
        system=_system(reader),
        vendor=_vendor(reader),
        brand=_brand(reader),
        # CPUID leaf 1 has room for these (SDM vol. 2, CPUID).
        family=reader.number("cpu", "family", most=0xF + 0xFF),
        model=reader.number("cpu", "model", most=0xFF),
        stepping=reader.number("cpu", "stepping", most=0xF),
        sockets=sockets,
        cores=cores,
        threads=threads,
        phys_bits=_phys_bits(reader),
        nodes=nodes,
        cpuless=_cpuless(reader, nodes),
        reserved=reader.ranges("memory", "reserved"),
        cmrs=tuple(cmrs),
        text=_text(config),
        hardware=_hardware(config),
    )


def _system(reader: _Reader) -> System:
    names = ("vendor", "product", "bios_version", "bios_date")
    return System(*(reader.config.get("system", name, fallback="") for name in names))


def _vendor(reader: _Reader) -> str:
    vendor = reader.config.get("cpu", "vendor", fallback=_VENDORS[0])
    if vendor not in _VENDORS:
        raise reader.fail("cpu", "vendor", f"{told(vendor)} is not one of {', '.join(_VENDORS)}")
    return vendor


def _brand(reader: _Reader) -> str:
    brand = reader.config.get("cpu", "brand", fallback="")
    if brand and not _BRAND.fullmatch(brand):
        raise reader.fail("cpu", "brand", f"{told(brand)} is not 1 to 47 characters, no comma")
    return brand


def _phys_bits(reader: _Reader) -> int:
    """Physical address bits, which the TDX module and the guest see alike."""
    leaf = reader.config.get("cpuid", "0x80000008", fallback="").split()
    if not leaf:
        return _PHYS_BITS
    number = _number(leaf[0])
    if number is None or not 36 <= number & 0xFF <= _PHYS_BITS:
        raise reader.fail(
            "cpuid", "0x80000008", f"{told(leaf[0])} does not begin with 36 to {_PHYS_BITS}"
        )
    return number & 0xFF


def _cpuless(reader: _Reader, nodes: tuple[int, ...]) -> int:
    """How many nodes, the last ones, have no CPU."""
    if not reader.config.has_option("memory", "cpuless"):
        return 0
    return reader.number("memory", "cpuless", most=len(nodes) - 1)


def _topology(reader: _Reader) -> tuple[int, int, int]:
    """Sockets, cores of a socket, threads of a core."""
    sockets = reader.number("cpu", "sockets", 1, _MOST_SOCKETS)
    cores = reader.number("cpu", "cores", 1, _MOST_CPUS)
    threads = reader.number("cpu", "threads", 1, _MOST_CPUS)
    if sockets * cores * threads > _MOST_CPUS:
        raise reader.fail("cpu", "cores", f"makes more than {_MOST_CPUS} CPUs")
    return sockets, cores, threads


def _nodes(reader: _Reader) -> tuple[int, ...]:
    """Sizes of the NUMA nodes."""
    keys = _node_keys(reader)
    nodes = tuple(_size(reader, "memory", key) for key in keys)
    for key, size in zip(keys, nodes, strict=True):
        if not size or size % _MIB:
            raise reader.fail("memory", key, f"{size} bytes are not a number of MiB")
    if sum(nodes) > _MOST_MEMORY:
        raise reader.fail("memory", keys[-1], f"makes more than {_MOST_MEMORY >> 40} TiB")
    return nodes


def _cmrs(reader: _Reader, nodes: tuple[int, ...]) -> list[Range]:
    """The CMRs, in table order."""
    if not reader.config.has_section("cmr"):
        return _derived_cmrs(nodes)
    cmrs = [_one_range(reader, "cmr", key) for key in reader.numbered("cmr")]
    if len(cmrs) > _MOST_CMRS:
        raise reader.fail("cmr", str(_MOST_CMRS), f"there is room for {_MOST_CMRS} alone")
    return cmrs


def _one_range(reader: _Reader, section: str, key: str) -> Range:
    ranges = reader.ranges(section, key)
    if len(ranges) != 1:
        raise reader.fail(section, key, f"{told(reader.text(section, key))} is not one range")
    return ranges[0]


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
