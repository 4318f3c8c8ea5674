# SPDX-License-Identifier: GPL-2.0-or-later
"""The binding against what a C compiler makes of the same header."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tdxhost import abi
from tdxhost._abi_build import AbiError, cdef_of, write_module

HEADER = Path(__file__).resolve().parents[2] / "kmod/include/uapi/linux/tdxhost.h"
TEXT = HEADER.read_text(encoding="utf-8")
STRUCTS = re.findall(r"^struct (\w+) \{", TEXT, re.MULTILINE)
CONSTANTS = re.findall(r"^#define (TDXHOST_\w+)", TEXT, re.MULTILINE)


def _members(struct: str) -> list[str]:
    return [name for name, _ in abi.ffi.typeof(f"struct {struct}").fields]


def _program() -> str:
    lines = [f'printf("{name} %llu\\n", (unsigned long long)({name}));' for name in CONSTANTS]
    for struct in STRUCTS:
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        lines += [
            f'printf("{struct}.{name} %zu\\n", offsetof(struct {struct}, {name}));'
            for name in _members(struct)
        ]
    body = "\n\t".join(lines)
    return (
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\n'
        f"int main(void)\n{{\n\t{body}\n\treturn 0;\n}}\n"
    )


def _compiler() -> str:
    return shutil.which("cc") or pytest.skip("no C compiler")


def _facts_of_compiler(folder: Path) -> dict[str, int]:
    source, program = folder / "facts.c", folder / "facts"
    source.write_text(_program(), encoding="utf-8")
    subprocess.run([_compiler(), "-o", program, source], check=True)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in lines.splitlines())
    return {name: int(value) for name, value in pairs}


def _asserts(facts: dict[str, int]) -> str:
    """The facts as static assertions; needs no C library, so no 32-bit one either."""
    lines = ["#include <stddef.h>", f'#include "{HEADER}"']
    for name, value in facts.items():
        struct, _, member = name.partition(".")
        said = f"sizeof(struct {name})" if name in STRUCTS else name
        if member:
            said = f"offsetof(struct {struct}, {member})"
        lines.append(f'_Static_assert({said} == {value}, "{name}");')
    return "\n".join(lines) + "\n"


def _facts_of_binding() -> dict[str, int]:
    facts = {name: getattr(abi.lib, name) for name in CONSTANTS}
    for struct in STRUCTS:
        facts[struct] = abi.size_of(struct)
        facts |= {
            f"{struct}.{name}": abi.ffi.offsetof(f"struct {struct}", name)
            for name in _members(struct)
        }
    return facts


def test_layout_and_numbers_are_the_compilers(tmp_path: Path) -> None:
    assert _facts_of_binding() == _facts_of_compiler(tmp_path)


def test_layout_and_numbers_are_those_of_32_bit_callers(tmp_path: Path) -> None:
    source = tmp_path / "facts.c"
    source.write_text(_asserts(_facts_of_binding()), encoding="utf-8")
    cc = _compiler()
    native = subprocess.run([cc, "-print-multiarch"], capture_output=True, text=True, check=True)
    # Kernel headers are those of both widths, but Debian has them in a folder of one.
    headers = f"/usr/include/{native.stdout.strip()}"
    options = ["-m32", "-ffreestanding", "-fsyntax-only", "-isystem", headers]
    command = [cc, *options, str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No such file" in run.stderr or "sorry" in run.stderr:
        pytest.skip(f"the compiler can't -m32: {run.stderr.splitlines()[0]}")
    assert run.returncode == 0, run.stderr


def test_no_struct_has_implicit_padding() -> None:
    for struct in STRUCTS:
        members = abi.ffi.typeof(f"struct {struct}").fields
        assert sum(abi.ffi.sizeof(member.type) for _, member in members) == abi.size_of(struct)


def test_ioctl_numbers_carry_type_and_number_and_no_size() -> None:
    assert abi.lib.TDXHOST_GET_INFO == 0xBB00
    assert abi.lib.TDXHOST_GET_MEMORY == 0xBB08


def test_new_fills_in_the_size_where_there_is_one() -> None:
    assert abi.new("tdxhost_info").size == abi.size_of("tdxhost_info")
    assert abi.members_of(abi.new("tdxhost_range")) == dict.fromkeys(_members("tdxhost_range"), 0)


@pytest.mark.parametrize(
    "line",
    [
        "#define TDXHOST_X (1 << 3)",
        "#define TDXHOST_X(a) a",
        "#define TDXHOST_X 0x1ULL",
        "#define TDXHOST_X _IOWR(0xBB, 1, struct tdxhost_info)",
        "#define TDXHOST_X _IO(TDXHOST_UNKNOWN_TYPE, 1)",
        "#if 1",
        "typedef int tdxhost_t;",
        "enum tdxhost_e { A };",
        "static inline int f(void) { return 0; }",
        "struct other {",
    ],
)
def test_a_line_outside_the_subset_fails_the_build_and_is_named(line: str) -> None:
    with pytest.raises(AbiError, match=r"^x\.h:2: ") as caught:
        cdef_of(f"#define TDXHOST_A 1\n{line}\n", "x.h")
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "member",
    ["int x;", "__u32 x[4];", "__u32 x : 3;", "struct tdxhost_info i;", "void *p;", "__u32 a, b;"],
)
def test_a_member_outside_the_subset_fails_the_build_and_is_named(member: str) -> None:
    with pytest.raises(AbiError, match=r"^x\.h:2: ") as caught:
        cdef_of(f"struct tdxhost_x {{\n\t{member}\n}};\n", "x.h")
    assert member in str(caught.value)


def test_a_constant_defined_twice_fails_the_build() -> None:
    with pytest.raises(AbiError, match=r"^x\.h:2: "):
        cdef_of("#define TDXHOST_A 1\n#define TDXHOST_A 2\n", "x.h")


def test_a_struct_without_end_fails_the_build() -> None:
    with pytest.raises(AbiError, match="does not end"):
        cdef_of("struct tdxhost_x {\n__u32 size;\n", "x.h")


def test_comments_are_skipped_and_lines_still_counted() -> None:
    text = "/* one\n * two\n */\n#define TDXHOST_A 1 /* why */\nwrong\n"
    with pytest.raises(AbiError, match=r"^x\.h:5: .*wrong"):
        cdef_of(text, "x.h")


def test_the_same_header_makes_the_same_module(tmp_path: Path) -> None:
    write_module(HEADER, tmp_path / "a.py")
    write_module(HEADER, tmp_path / "b.py")
    assert (tmp_path / "a.py").read_bytes() == (tmp_path / "b.py").read_bytes()
