# SPDX-License-Identifier: GPL-2.0-or-later
"""The Ansible role: it parses, its variables are described, and what it packs is what installs."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.ansible import sources
from tests.conftest import PROJECT

FOLDER = PROJECT / "scripts/ansible"
ROLE = FOLDER / "roles/tdxhost"
TASKS = sorted((ROLE / "tasks").glob("*.yaml"))


def playbook(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs ansible-playbook on the playbook, with files of its own in a folder."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", "a,b", str(FOLDER / "validate.yaml"), *options]
    home = {"HOME": str(folder), "ANSIBLE_HOME": str(folder), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **home},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def load(file: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def tasks_of(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks and blocks, those inside others too."""
    inner = [
        task
        for block in blocks
        for part in ("block", "rescue", "always")
        for task in block.get(part, [])
    ]
    return [*blocks, *(tasks_of(inner) if inner else [])]


def test_the_playbook_parses(tmp_path: Path) -> None:
    ran = playbook(tmp_path, "--syntax-check")
    assert ran.returncode == 0, ran.stderr


def test_every_variable_is_described_and_has_a_default() -> None:
    described = load(ROLE / "meta/argument_specs.yaml")["argument_specs"]["main"]["options"]
    assert set(described) == set(load(ROLE / "defaults/main.yaml"))
    assert all(option["description"].endswith(".") for option in described.values())


def test_a_value_of_the_wrong_kind_is_refused_before_anything_runs(tmp_path: Path) -> None:
    ran = playbook(tmp_path, "-e", "tdxhost_reboots=often")
    assert ran.returncode == 2
    assert "tdxhost_reboots" in ran.stdout + ran.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("file", TASKS, ids=lambda file: file.name)
def test_every_task_has_a_name_and_is_ansibles_own(file: Path) -> None:
    for task in tasks_of(load(file)):
        assert task.get("name"), task
        modules = [key for key in task if "." in key]
        assert len(modules) == (0 if "block" in task else 1), task
        assert all(module.startswith("ansible.builtin.") for module in modules), task


def test_what_is_packed_is_what_git_has_and_the_scripts_name(tmp_path: Path) -> None:
    packed = {str(place) for place in sources.files(PROJECT)}
    folders = ("kmod", "tdxhost", "scripts")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    known = {
        name
        for name in listed.splitlines()
        if not name.startswith("scripts/ansible/") and (PROJECT / name).is_file()
    }
    tops = set(re.findall(r"\{tdxhost,([a-zA-Z.,]+)\}", install_script())[0].split(","))
    assert packed == {f"checkout/{name}" for name in known | tops}


def install_script() -> str:
    """scripts/install."""
    return (PROJECT / "scripts/install").read_text(encoding="utf-8")


def checkout(folder: Path) -> Path:
    """Something that looks like a checkout."""
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        (folder / name).write_text(name, encoding="utf-8")
    for name in ("kmod/main.c", "scripts/install", "tdxhost/abi.py"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(name, encoding="utf-8")
    (folder / "scripts/install").chmod(0o755)
    return folder


def test_builds_do_not_change_the_sum_and_sources_do(tmp_path: Path) -> None:
    project = checkout(tmp_path)
    before = sources.sum_of(sources.files(project))
    (project / "kmod/main.o").write_text("built", encoding="utf-8")
    (project / "tdxhost/__pycache__").mkdir()
    (project / "tdxhost/__pycache__/abi.pyc").write_text("built", encoding="utf-8")
    assert sources.sum_of(sources.files(project)) == before
    (project / "kmod/main.c").write_text("other", encoding="utf-8")
    other = sources.sum_of(sources.files(project))
    (project / "scripts/install").chmod(0o644)
    assert len({before, other, sources.sum_of(sources.files(project))}) == 3


def test_wheels_are_part_of_the_sum_and_of_the_archive(tmp_path: Path) -> None:
    project = checkout(tmp_path)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a-1-py3-none-any.whl").write_text("one", encoding="utf-8")
    found = sources.files(project, wheels)
    assert sources.sum_of(found) != sources.sum_of(sources.files(project))
    sources.pack(found, tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        modes = {member.name: member.mode for member in archive}
        owners = {member.uid for member in archive}
    assert modes["checkout/scripts/install"] == 0o755
    assert modes["wheels/a-1-py3-none-any.whl"] == 0o644
    assert set(modes) == set(map(str, found))
    assert owners == {0}
