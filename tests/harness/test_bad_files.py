# SPDX-License-Identifier: GPL-2.0-or-later
"""What people hand over, when it is not what it should be: one clear message each.

Nothing here boots: what is wrong shows before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PROJECT
from vtdx.vm import cli, platform
from vtdx.vm.errors import BadPlatform

GOOD = """\
[platform]
summary = two sockets
[cpu]
family = 6
model = 143
stepping = 8
sockets = 2
cores = 2
threads = 1
vendor = GenuineIntel
brand = Intel(R) Xeon(R) Platinum 8480+
[system]
vendor = Somebody, Inc.
[memory]
node0 = 2G
node1 = 2G
cpuless = 0
reserved = 0x10000000+1M
[cmr]
0 = 0x100000+1G
1 = 0x100000000+1G
[seam]
loaded = 1
range = 0x1000000000+0x2000000
[module]
version = 1.5.16
build_date = 20250612
[msr]
0x87 = 0x200000001f
0x3a@1 = gp
0x1400-0x1402 = gp
[cpuid]
0x7.0@3 = 1 2 3 0xffffffff
[latency]
TDH.SYS.LP.INIT = 2.5ms
default = 10us
[faults]
1 = TDH.SYS.LP.INIT cpu=0-1,3 call=2 times=3 status=TDX_SYS_BUSY detail=0x10 rcx=1
2 = RDMSR:0x1401 trap=GP
"""

# What no message may be longer than, apart from the name of a file.
LONGEST_MESSAGE = 300

Refusal = Callable[..., str]


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Refusal]:
    """Runs scripts/vm, which has to call its options wrong; what it says of them."""

    def run(*options: str | Path) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, options), "--", "true"])
        written = capsys.readouterr()
        assert ended.value.code == cli.EXIT_USAGE
        assert written.out == ""
        usage, _, message = written.err.partition("scripts/vm: error: ")
        assert usage.startswith("usage: scripts/vm")
        assert message.count("\n") <= 2, "a message and a hint"
        assert len(message) < LONGEST_MESSAGE + 2 * os.pathconf("/", "PC_PATH_MAX")
        return message

    monkeypatch.setattr(cli, "Machine", lambda *_: pytest.fail("booted"))
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


def write(folder: Path, content: bytes | str) -> Path:
    """A platform file."""
    path = folder / "hostile.ini"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def changed(old: str, new: str) -> str:
    """The good file with a line changed."""
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert platform.load(str(write(tmp_path, GOOD))).cpus == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "section [platform] is missing"),
        (b"\x7fELF\x02\x01\x01\xff\xfe" + bytes(64), "is not text"),
        (b"[platform]\nsummary = \xff\n", "is not UTF-8 text"),
        ("just text\n" * 9999, "line 1 stands in no [section]"),
        ("[platform]\n" + "no pair\n" * 9999, "line 2 is neither a [section] nor KEY = VALUE"),
        ("[platform]\n" + "x" * 99999, "line 2 is neither a [section] nor KEY = VALUE"),
        (changed("cores = 2", "cores = 2\ncores = 3"), "line 9: key 'cores' is there already"),
        (changed("[module]", "[msr]\n[module]"), "section ['msr'] is there already"),
        (changed("summary = two", "summary = a\n  two"), "is not one line of text"),
        (changed("summary = two", "summary = a\0two"), "is not text"),
        (changed("summary = two", "summary = \x1b[2J"), "is not one line of text"),
        ("[\0]\nx = 1\n" + GOOD, "is not text"),
        (changed("cores = 2", "cores = -2"), "[cpu] cores: '-2' is not a number"),
        (changed("cores = 2", "cores = 2.0"), "'2.0' is not a number"),
        (changed("cores = 2", "cores = \u0662"), "'\u0662' is not a number"),
        (changed("cores = 2", "cores = 1_0"), "'1_0' is not a number"),
        (changed("cores = 2", "cores = %(threads)s"), "'%(threads)s' is not a number"),
        (changed("cores = 2", f"cores = {'9' * 5000}"), "is not a number"),
        (changed("cores = 2", "cores = 18446744073709551616"), "is not a number"),
        (changed("cores = 2", "cores = 4097"), "4097 is more than 4096"),
        (changed("cores = 2", "cores = 2049"), "makes more than 4096 CPUs"),
        (changed("sockets = 2", "sockets = 9"), "9 is more than 8"),
        (changed("model = 143", "model = 0x100"), "256 is more than 255"),
        (changed("node1 = 2G", "node1 = 0"), "[memory] node1: 0 bytes are not a number of MiB"),
        (changed("node1 = 2G", "node1 = 1"), "1 bytes are not a number of MiB"),
        (changed("node1 = 2G", "node1 = 99999999T"), "'99999999T' is not a size"),
        (changed("node1 = 2G", "node1 = 64T"), "makes more than 64 TiB"),
        (changed("node1 = 2G", "node1 = \u00b2G"), "is not a size"),
        (changed("node1 = 2G", "node2 = 2G"), "nodes are numbered from 0"),
        (changed("0 = 0x100000+1G", "0 = 0x100000"), "[cmr] 0: '0x100000' is not a range"),
        (changed("0 = 0x100000+1G", "0 = -1M+1G"), "'-1M' is not a size"),
        (changed("0 = 0x100000+1G", "0 ="), "[cmr] 0: '' is not one range"),
        (changed("0 = 0x100000+1G", "0 = 1M+1M 2M+1M"), "is not one range"),
        (changed("0 = 0x100000+1G", "first = 1M+1G"), "keys of this section are numbers"),
        (changed("0 = 0x100000+1G", "\u00b2 = 1M+1G"), "keys of this section are numbers"),
        (changed("0 = 0x100000+1G\n", "".join(f"{n} = 1M+1M\n" for n in range(2, 40))), "room"),
        (changed("range = 0x1000000000+0x2000000", "range = all"), "'all' is not a range"),
        (changed("1 = TDH", "\u0661 = TDH"), "keys of this section are numbers"),
        (GOOD.replace("[cpu]", "[cpus]"), "section [cpu] is missing"),
        (changed("summary", "base = no-such\nsummary"), "there is no base 'no-such'"),
        (changed("summary", "base = a\0b\nsummary"), "is not text"),
        (changed("summary", f"base = {'x' * 9999}\nsummary"), "there is no base 'xxx"),
        (changed("summary", "base = hostile.ini\nsummary"), "is based on itself"),
        (changed("summary", "base = ./../{folder}/hostile.ini\nsummary"), "is based on itself"),
        (changed("summary", "base = /dev/zero\nsummary"), "'/dev/zero': is not a file"),
        (changed("summary", "base = .\nsummary"), "is not a file"),
    ],
)
def test_a_bad_platform_file_is_told_with_its_place(
    content: bytes | str, words: str, tmp_path: Path, refused: Refusal
) -> None:
    if isinstance(content, str):
        content = content.replace("{folder}", tmp_path.name)
    assert words in refused("--platform", write(tmp_path, content))


@pytest.mark.parametrize("options", [("--smp", "4"), ("--mem", "4G")])
def test_what_is_to_be_changed_has_to_be_there(
    options: tuple[str, str], tmp_path: Path, refused: Refusal
) -> None:
    message = refused("--platform", write(tmp_path, "[platform]\nsummary = x\n"), *options)
    assert "section [cpu] is missing" in message


def test_bases_in_a_row_have_an_end(tmp_path: Path, refused: Refusal) -> None:
    for number in range(2000):
        text = f"[platform]\nbase = {number + 1}.ini\n"
        (tmp_path / f"{number}.ini").write_text(text)
    (tmp_path / "2000.ini").write_text(GOOD)
    assert "more than 16 bases" in refused("--platform", tmp_path / "0.ini")


def test_what_is_no_file_is_not_read(tmp_path: Path, refused: Refusal) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        assert "is not a file" in refused("--platform", path)
    for name in ("", tmp_path / "none.ini", tmp_path / "loop", "x" * 9999, "\udcff\n"):
        message = refused("--platform", name)
        assert message.startswith("No platform ") or "is not a file" in message


def test_a_file_that_cant_be_read_is_told_with_the_reason(refused: Refusal) -> None:
    """Nobody can read memory at address 0, root included."""
    assert "Input/output error" in refused("--platform", "/proc/self/mem")


def test_a_huge_file_is_not_read_whole(tmp_path: Path, refused: Refusal) -> None:
    path = write(tmp_path, GOOD)
    os.truncate(path, 1 << 40)
    assert "is too large" in refused("--platform", path)


def test_a_name_that_is_no_text_boots_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"odd\xff\nname.ini")
    path.write_text(GOOD)
    loaded = platform.load(str(path))
    assert loaded.name == "odd??name"
    loaded.text.encode()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--smp", "0"), "0 CPUs"),
        (("--smp", "-4"), "--smp"),
        (("--smp", "\u0664"), "is not a number of CPUs"),
        (("--smp", "9" * 5000), "is not a number of CPUs"),
        (("--smp", "8192"), "more than 4096"),
        (("--mem", "4X"), "'4X' is not a size"),
        (("--mem", "-4G"), "--mem"),
        (("--mem", "1M"), "too little"),
        (("--mem", "9999999T"), "more than 64 TiB"),
        (("--timeout", "nan"), "is not a number of seconds"),
        (("--timeout", "-1"), "--timeout"),
        (("--timeout", "inf"), "is not a number of seconds"),
        (("--terminal", "80"), "write COLSxLINES"),
        (("--terminal", "\u00b2x\u00b2"), "write COLSxLINES"),
        (("--terminal", "0x0"), "write COLSxLINES"),
        (("--terminal", "99999x24"), "write COLSxLINES"),
        (("--fault", "VMXON vmfail\n[cpu]\ncores = 1"), "is not one line of text"),
        (("--fault", "\udcff"), "is not one line of text"),
        (("--kernel", "5.4"), "neither a file nor one of"),
        (("--kernel", "/"), "neither a file nor one of"),
        (("--kernel", "x" * 9999), "File name too long"),
        (("--kernel", "/dev/null"), "neither a file nor one of"),
        (("--kernel", __file__), "is not a bzImage"),
        (("--kernel", "/proc/self/mem"), "Input/output error"),
        (("--log", "/"), "is a folder"),
        (("--put", "/no/such/file"), "--put /no/such/file: no such file"),
        (("--log", "/no/such/folder/log"), "there is no folder /no/such/folder"),
        (("--log", "/proc/self/log"), "can't be written"),
        (("--log", "/dev/null/log"), "there is no folder /dev/null"),
        (("--log", "x" * 9999), "File name too long"),
        (("--console", "/no/such/folder/console"), "there is no folder"),
        (("--seam", "/no/such/library"), "no such file"),
        (("--seam", "x" * 9999), "File name too long"),
    ],
)
def test_a_bad_option_is_wrong_usage(
    options: tuple[str, str], words: str, refused: Refusal
) -> None:
    assert words in refused(*options)


# Pieces that parsers stumble over, apart by blanks; and those that are blank themselves.
PIECES = """
% %(x)s = [ ] # ; @ . - + ++++++++ 0x 0xffffffffffffffff -1 999999999999999999999999999999 1e9
nan inf gp 4096 0+0 @4096 ,, 0- [faults] [cmr] base=hostile.ini \u00b2 \u0663 \x1b[m \x7f
"""
BLANKS = ("\0", "\n", "\r", "\n ", "\t", "\u2028", "\n[platform]\nbase = hostile.ini\n")
HOSTILE = st.sampled_from([*PIECES.split(), *BLANKS]) | st.text(max_size=8)


@st.composite
def spoilt(draw: st.DrawFn, text: str = GOOD) -> str:
    """The good file, after some cuts and with things in it that don't belong there."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.sampled_from((0, 0, 1, 2, 10, 200)))
        text = text[:at] + draw(HOSTILE) + text[at + cut :]
    return text


def refusal(text: str, faults: tuple[str, ...] = ()) -> str:
    """Why a file is refused, "" when it is taken."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder), text.encode("utf-8", "surrogatepass"))
        try:
            platform.load(str(path), faults=faults).text.encode()
        except BadPlatform as error:
            return str(error)
    return ""


@settings(max_examples=400, deadline=None)
@given(spoilt())
def test_any_file_is_taken_or_refused_by_name(text: str) -> None:
    message = refusal(text)
    assert message.replace("\n", "").isprintable()
    assert len(message) < LONGEST_MESSAGE
    assert not message or "hostile" in message


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's reader of platform files as a program, with checks of every access."""
    program = tmp_path_factory.mktemp("reader") / "reader"
    glib = ["pkg-config", "--cflags", "--libs", "glib-2.0"]
    options = subprocess.run(glib, capture_output=True, text=True, check=True).stdout.split()
    parts = [
        PROJECT / f"vtdx/plugin/{name}.c" for name in ("parse", "platform", "fault", "latency")
    ]
    sources = [Path(__file__).with_name("platform_reader.c"), *parts, PROJECT / "vtdx/seam/names.c"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = [str(path) for path in (program, *sources)]
    command = ["gcc", "-g", "-std=gnu11", *checks, "-o", *files, *options]
    subprocess.run(command, check=True)
    return program


def read(reader: Path, text: str | bytes) -> str:
    """What the plugin says of a file, "read" when nothing is wrong."""
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [reader, write(Path(folder), text)],
            capture_output=True,
            check=False,
            # What is read lives as long as the plugin: nothing of it is freed.
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    message = done.stdout.decode(errors="replace")
    assert message.count("\n") == 1
    return message.strip()


def resolved(text: str = GOOD, faults: tuple[str, ...] = ()) -> str:
    """A file as the plugin gets it."""
    with TemporaryDirectory() as folder:
        return platform.load(str(write(Path(folder), text)), faults=faults).text


def test_the_plugin_reads_what_it_is_handed(reader: Path) -> None:
    assert read(reader, resolved()) == "read"
    for name in platform.shipped():
        if not name.endswith("-base"):
            assert read(reader, platform.load(name).text) == "read"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "[cpu] family, sockets, cores, threads: are needed"),
        (b"\x7fELF" + bytes(64), "Key file contains line"),
        (changed("sockets = 2", "sockets = 9"), "[cpu] sockets: is more than 8"),
        (changed("cores = 2", "cores = 4294967295"), "more than 4096 logical processors"),
        (changed("cores = 2", "cores = 4294967296"), "[cpu] cores: is not a number that fits"),
        (changed("1 = 0x100000000+1G", "32 = 0+0"), "is not a number from 0 to 31"),
        (changed("0x3a@1", "0x3a@4096"), "[msr] 0x3a@4096: is not ADDRESS"),
        (changed("0x1400-0x1402", "0x1402-0x1400"), "is not ADDRESS"),
        (changed("1 2 3 0xffffffff", "1 2 3"), "is not EAX EBX ECX EDX"),
        (changed("2.5ms", "nanms"), "is not a time"),
        (changed("2.5ms", "1e300s"), "is not a time"),
        (changed("cpu=0-1,3", "cpu=4"), "[faults] 1: 'cpu=4'"),
        (changed("cpu=0-1,3", "cpu=0-18446744073709551615"), "[faults] 1: 'cpu=0-1844"),
        (changed("[msr]", "[mrs]"), "[mrs] is not a section"),
    ],
)
def test_the_plugin_names_what_is_wrong(content: str | bytes, words: str, reader: Path) -> None:
    if isinstance(content, str):
        content = content.replace("+1G", "+0x40000000")
    assert words in read(reader, content)


@settings(max_examples=150, deadline=None)
@given(text=spoilt(resolved()))
def test_the_plugin_takes_or_refuses_any_file(reader: Path, text: str) -> None:
    assert read(reader, text.encode("utf-8", "surrogatepass"))


WORDS = """
TDH.SYS.INIT SEAMCALL VMXON RDMSR:0x1401 RDMSR: cpu= cpu=0-3,1 cpu=3-0 cpu=0-9999999999 call=0
call=1 times=-1 status=TDX_SYS_BUSY status= = trap=GP trap=UD vmfail value=0x1
detail=0x1ffffffff rcx=1 r9=x %s #
"""


@settings(max_examples=100, deadline=None)
@given(
    fault=st.lists(st.sampled_from(WORDS.split()) | st.text(max_size=6), max_size=6).map(" ".join)
)
def test_any_fault_is_taken_or_refused(reader: Path, fault: str) -> None:
    if why := refusal(GOOD, faults=(fault,)):
        assert why.endswith("is not one line of text.")
    else:
        said = read(reader, resolved(faults=(fault,)))
        assert said == "read" or "[faults] 3: " in said


def run(*words: str, end: str = "") -> subprocess.CompletedProcess[str]:
    """A command of the project as a process."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {end}', "sh", sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )


@pytest.mark.parametrize(
    ("end", "status"),
    [(">/dev/full", cli.EXIT_MACHINE), (">&-", 0), ("| true", 0)],
)
def test_a_list_that_cant_be_written_gives_no_traceback(end: str, status: int) -> None:
    done = run("vtdx.vm", "--list", end=end)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("cpus", "words"),
    [
        ("0-1000000", "there is no CPU 1000000"),
        ("3-0", "the range 3-0 runs backwards"),
        ("9" * 5000, "is neither a CPU nor a range"),
        ("0," * 40000, "'' is neither a CPU nor a range"),
        ("\u0663", "is neither a CPU nor a range"),
        ("\x1b[2J", r"'\x1b[2J' is neither a CPU nor a range"),
        ("%d", "'%d' is neither a CPU nor a range"),
        ("-1", "'-1' is neither a CPU nor a range"),
        ("", "'' is neither a CPU nor a range"),
    ],
)
def test_a_bad_list_of_cpus_is_wrong_usage(cpus: str, words: str) -> None:
    done = run("tdxhost", "cpu-enable", "--cpus", cpus)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr) < LONGEST_MESSAGE


@pytest.mark.parametrize("form", ["xml", "", "JSON", "\udcff", "x" * 9999])
def test_a_bad_format_is_wrong_usage(form: str) -> None:
    done = run("tdxhost", "status", "--format", form)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "choose from" in done.stderr
