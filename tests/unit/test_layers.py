# SPDX-License-Identifier: GPL-2.0-or-later
"""Imports of the package go one way, and few are made at start-up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tdxhost.cli import validate
from tdxhost.cli.commands import COMMANDS
from tdxhost.validation import reboot

PACKAGE = Path(__file__).resolve().parents[2] / "tdxhost"
#: Each layer imports only those above it in this list.
LAYERS = (
    ("errors", "leaves", "sieve", "_tdxhost_abi", "_abi_build"),
    ("reference", "abi", "host", "ringbuffer"),
    ("access",),
    ("opening",),
    ("records",),
    ("device", "processors", "tracefs"),
    ("topology", "status", "fields", "kernel", "words", "state", "msrs", "recording"),
    ("cpuid",),
    ("decode",),
    ("klog",),
    ("wording", "remedies"),
    ("findings",),
    ("bringup", "trace", "events", "times"),
    ("documents",),
    ("doctor",),
    ("report",),
    ("validation",),
    ("cli",),
    ("__main__",),
)
#: What takes longer to load than a command that has nothing to do takes to run.
SLOW = ("dataclasses", "json", "logging", "pathlib", "shutil", "subprocess", "typing")
WITHOUT_DRIVER = pytest.mark.skipif(
    Path("/dev/tdxhost").exists(), reason="this machine has /dev/tdxhost"
)
HEAVY = ("jinja2", "pytest", "pyudev", "rich", "yaml")
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "tdxhost" and len(parts) > 1 else None


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            whole = module == "tdxhost"
            found |= {f"{module}.{name.name}" for name in node.names} if whole else {module}
    return found


def _own_layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_layers_below_its_own(path: Path) -> None:
    own = _own_layer(path)
    if own in ("__init__", "_tdxhost_abi"):
        return
    for layer in filter(None, map(_layer_of, _imports(path))):
        if layer.startswith("__version__"):
            continue
        assert layer == own or RANK[layer] < RANK[own], f"{own} imports {layer}"


def test_nothing_in_the_package_imports_the_virtual_platform() -> None:
    assert not [path for path in MODULES if any("vtdx" in name for name in _imports(path))]


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ("--help", (*HEAVY, *SLOW, "tdxhost.device", "tdxhost.cli.status")),
        ("nonsense", (*HEAVY, *SLOW, "tdxhost.device", "tdxhost.cli.status")),
        ("enable --help", (*HEAVY, "tdxhost.cli.status")),
        ("validate --help", HEAVY),
        pytest.param("status", (*HEAVY, *SLOW, "tdxhost.device"), marks=WITHOUT_DRIVER),
        ("decode 0xc000090000000000", ("jinja2", "pytest", "pyudev", "rich", "tdxhost.device")),
    ],
)
def test_a_command_loads_no_more_than_it_takes(words: str, unwanted: tuple[str, ...]) -> None:
    code = (
        "import atexit, os, sys; from tdxhost.cli.main import main; out = os.dup(1); "
        "atexit.register(lambda: os.write(out, repr([name for name in "
        f"{unwanted} if name in sys.modules]).encode())); "
        f"os.dup2(os.open(os.devnull, os.O_WRONLY), 1); main({words.split()})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert run.stdout.strip() == "[]"


def test_man_page_and_completion_are_made_without_what_the_package_depends_on() -> None:
    """As pip does it, in an environment that has what the build requires and no more."""
    code = (
        "import sys; from tdxhost.cli.parser import build_parser; build_parser(); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert run.stdout.strip() == "[]"


def test_what_help_says_of_validate_is_what_validate_does() -> None:
    assert (validate.STATE, validate.UNIT) == (reboot.STATE, reboot.UNIT)


def test_the_table_of_commands_has_every_sub_command() -> None:
    there = {
        path.stem.replace("_", "-")
        for path in (PACKAGE / "cli").glob("*.py")
        if "\ndef add_arguments(" in path.read_text(encoding="utf-8")
    }
    assert there == set(COMMANDS)


def test_only_the_command_line_decides_on_leaving_the_process() -> None:
    leaving = [
        path.name
        for path in MODULES
        if "sys.exit" in path.read_text(encoding="utf-8") and path.name != "main.py"
    ]
    assert leaving == []
