# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform files as text: key files with bases, and the words that stand in them.

What the keys mean is in platform.py.
"""

from __future__ import annotations

import configparser
import errno
import re
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm.errors import BadPlatform

SHIPPED = Path(__file__).resolve().parent.parent / "platforms"

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB
_UNITS = {"K": _KIB, "M": _MIB, "G": _GIB, "T": 1024 * _GIB}

# A platform file is some hundred lines; what is larger is something else.
_MOST_FILE_BYTES = 1 << 20
_MOST_BASES = 16

# Of a text that is wrong, as much as a message repeats.
_MOST_TOLD = 60

_MOST_U64 = (1 << 64) - 1

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


def shipped() -> dict[str, Path]:
    """The platforms that come with vtdx, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.ini"))}


def told(text: str) -> str:
    """A text as a message repeats it: quoted, printable, not too long."""
    return repr(text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + "...")


def number_in(text: str) -> int | None:
    """A decimal or 0x number of 64 bits and nothing else."""
    if not _NUMBER.fullmatch(text):
        return None
    value = int(text, 16 if text[:2].lower() == "0x" else 10)
    return value if value <= _MOST_U64 else None


def parse_size(text: str) -> int:
    """Bytes in ``text``: a number with an optional K, M, G or T behind it."""
    word = text.strip()
    unit = _UNITS.get(word[-1:].upper(), 1)
    number = number_in(word[:-1] if unit != 1 else word)
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


class Config(configparser.ConfigParser):
    """Key files in GLib's sense."""

    def __init__(self) -> None:
        super().__init__(
            delimiters=("=",), comment_prefixes=("#",), interpolation=None, default_section="\0"
        )

    def optionxform(self, optionstr: str) -> str:
        """Keys are what they are."""
        return optionstr


class Reader:
    """One resolved set of keys, with errors that name file, section and key."""

    def __init__(self, name: str, config: configparser.ConfigParser) -> None:
        self.name = name
        self.config = config

    def fail(self, section: str, key: str, why: str) -> BadPlatform:
        """What to raise for a key."""
        return BadPlatform(f"Platform {self.name}, [{section}] {key}: {why}")

    def text(self, section: str, key: str) -> str:
        """The value of a key that has to be there."""
        value = self.config.get(section, key, fallback=None)
        if value is None:
            raise self.fail(section, key, "is missing")
        return value

    def number(self, section: str, key: str, least: int = 0, most: int = _MOST_U64) -> int:
        """The number that a key has to be."""
        value = self.text(section, key)
        number = number_in(value)
        if number is None:
            raise self.fail(section, key, f"{told(value)} is not a number")
        if number < least:
            raise self.fail(section, key, f"{number} is less than {least}")
        if number > most:
            raise self.fail(section, key, f"{number} is more than {most}")
        return number

    def ranges(self, section: str, key: str) -> tuple[Range, ...]:
        """Ranges, apart by blanks; none where the key is not there."""
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

    def one_range(self, section: str, key: str) -> Range:
        """The one range that a key has to be."""
        ranges = self.ranges(section, key)
        if len(ranges) != 1:
            raise self.fail(section, key, f"{told(self.text(section, key))} is not one range")
        return ranges[0]

    def size(self, section: str, key: str) -> int:
        """The bytes that a key has to say."""
        try:
            return parse_size(self.text(section, key))
        except BadPlatform as error:
            raise self.fail(section, key, error.message) from None


def exists(path: Path) -> bool:
    """Whether there is such a file."""
    try:
        return path.exists()
    except (OSError, ValueError):  # no name that a file could have
        return False


def inherited(path: Path, seen: tuple[Path, ...] = ()) -> configparser.ConfigParser:
    """A file with what its bases have and it has not; ``seen`` are those that are based on it."""
    if path.resolve() in seen:
        raise BadPlatform(f"Platform {path.stem} is based on itself.")
    if len(seen) == _MOST_BASES:
        raise BadPlatform(f"Platform {path.stem}: more than {_MOST_BASES} bases in a row.")
    own = _parse(path)
    base = own.get("platform", "base", fallback=None)
    if base is None:
        return own
    base_path = shipped().get(base, path.parent / base)
    if not exists(base_path):
        raise BadPlatform(f"Platform {path.stem}: there is no base {told(base)}.")
    config = inherited(base_path, (*seen, path.resolve()))
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
    config = Config()
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
