# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/install and scripts/uninstall on a Debian host: what they put there works, and goes.

The driver is built in the host's root on this machine, with the host's own DKMS, compiler and
headers; the host then boots on vtdx and goes on from there. tests/kernels builds it in the
machine as well, which takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tdxhost import __version__
from tests.vm.hosts import Host, host
from tests.vm.installed import CHECKOUT, LIST_FILES, TRIXIE, WHEELS, HostRoot, files_of, host_root

INSTALL = f"{CHECKOUT}/scripts/install"
UNINSTALL = f"{CHECKOUT}/scripts/uninstall"

RESULTS = "/var/lib/tdxhost"

# DKMS makes its key when it first signs, and keeps it for all drivers.
KEYS = {"./var/lib/dkms/mok.key", "./var/lib/dkms/mok.pub"}

# What the harness and the machine's boot add to a host's files.
OF_THE_MACHINE = ("./usr/lib/vtdx", "./lost+found")

COMMANDS = (
    *("doctor", "enable", "status", "cpu-enable", "info", "memory"),
    *("decode", "trace", "watch", "report", "compare", "validate"),
)

# What bash, zsh and fish offer for "tdxhost en": each by its own means.
BASH = """
. /usr/share/bash-completion/bash_completion
_comp_load tdxhost || _completion_loader tdxhost
read -ra words <<<"$(complete -p tdxhost)"
for ((i = 0; i < ${#words[@]}; i++)); do [ "${words[i]}" != -F ] || call=${words[i + 1]}; done
COMP_WORDS=(tdxhost en) COMP_CWORD=1 COMP_LINE="tdxhost en" COMP_POINT=10
"$call" tdxhost en tdxhost
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = "autoload -U compinit && compinit -u -D && print $_comps[tdxhost] && autoload +X _tdxhost"
FISH = "complete -C 'tdxhost en'"


@dataclass(frozen=True)
class Installed:
    """A host on which scripts/install has run, its files before, and those that it got."""

    root: HostRoot
    bare: set[str]
    own: set[str]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostRoot]:
    """A Debian 13 host that has what scripts/install needs."""
    with host_root(TRIXIE, tmp_path_factory.mktemp("host")) as root:
        yield root


@pytest.fixture(scope="module")
def installed(bare: HostRoot) -> Installed:
    """The same host after scripts/install."""
    before = bare.files()
    ran = bare.run(INSTALL, "--wheels", WHEELS, "--kernel", bare.kernel.release)
    assert ran.returncode == 0, ran.stderr
    return Installed(bare, before, bare.files() - before)


@pytest.fixture(scope="module")
def running(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """That host, booted on vtdx; the tests below go on from one another, in order."""
    folder = tmp_path_factory.mktemp("running")
    root = installed.root
    with host(folder, kernel=root.kernel, driver=False, disk=root.disk, cpus=4) as machine:
        yield machine


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--fly"], 2, "no option --fly"),
        (["--wheels"], 2, "--wheels needs a value"),
        (["--wheels", "/nowhere"], 2, "no such folder"),
        (["--kernel", "6.12.0-none-amd64"], 1, "apt-get install linux-headers-6.12.0-none-amd64"),
        (["--kernel", "5.10.0-30-amd64"], 1, "older than Linux 6.1"),
    ],
)
def test_what_cant_be_installed_is_refused_before_anything_changes(
    bare: HostRoot, words: list[str], status: int, said: str
) -> None:
    before = bare.files()
    ran = bare.run(INSTALL, *words)
    assert ran.returncode == status, ran.stderr
    assert said in ran.stderr
    assert bare.files() == before


@pytest.mark.parametrize("script", [INSTALL, UNINSTALL])
def test_without_root_it_says_so(bare: HostRoot, script: str) -> None:
    # Who is not root can't look into /root, which is where the checkout lies.
    name = script.rpartition("/")[2]
    nobody = f"cp -R {CHECKOUT} /tmp/checkout && setpriv --reuid=65534 --clear-groups"
    ran = bare.sh(f"{nobody} /tmp/checkout/scripts/{name}; x=$?; rm -r /tmp/checkout; exit $x")
    assert ran.returncode == 4, ran.stderr
    assert f"sudo ./scripts/{name}" in ran.stderr


def test_help_says_what_is_needed_and_wrong_options_exit_with_2(bare: HostRoot) -> None:
    shown = bare.run(INSTALL, "--help")
    assert shown.returncode == 0
    assert "DKMS, gcc, make, headers of the kernel" in shown.stdout
    assert bare.run(UNINSTALL, "--help").returncode == 0
    assert bare.run(UNINSTALL, "--all").returncode == 2


def test_all_that_is_missing_is_named_with_its_packages(bare: HostRoot) -> None:
    # Mounts of the command's own: nothing of it stays.
    hidden = "mount -t tmpfs none /usr/lib/modules && mount -t tmpfs none /usr/sbin"
    ran = bare.sh(f"{hidden} && {INSTALL}")
    assert ran.returncode == 1, ran.stderr
    assert "missing here: DKMS, modprobe, the headers of kernel" in ran.stderr
    assert "sudo apt-get install dkms kmod linux-headers-" in ran.stderr


def test_what_others_have_put_there_is_left_alone(bare: HostRoot) -> None:
    theirs = "/usr/local/bin/tdxhost"
    assert bare.sh(f"echo theirs >{theirs}").returncode == 0
    ran = bare.run(INSTALL, "--wheels", WHEELS, "--kernel", bare.kernel.release)
    removed = bare.run(UNINSTALL)
    left = bare.sh(f"cat {theirs} && rm {theirs}").stdout
    assert ran.returncode == 1
    assert f"{theirs} is there and not of scripts/install" in ran.stderr
    assert removed.returncode == 0
    assert left == "theirs\n"


def test_a_driver_that_does_not_build_leaves_nothing_behind(bare: HostRoot) -> None:
    before = bare.files()
    main = f"{CHECKOUT}/kmod/main.c"
    bare.sh(f"cp {main} /tmp/main.c && echo '#error no' >>{main}")
    ran = bare.run(INSTALL, "--wheels", WHEELS, "--kernel", bare.kernel.release)
    bare.sh(f"mv /tmp/main.c {main}")
    assert ran.returncode == 1
    assert "#error no" in ran.stderr
    assert bare.files() - before <= KEYS
    assert before <= bare.files()
    assert "tdxhost" not in bare.run("dkms", "status").stdout


def test_it_is_where_people_look_for_it(installed: Installed) -> None:
    release = installed.root.kernel.release
    assert {
        "./usr/local/bin/tdxhost",
        "./usr/local/share/man/man8/tdxhost.8",
        "./usr/local/share/bash-completion/completions/tdxhost",
        "./usr/local/share/zsh/site-functions/_tdxhost",
        "./etc/fish/completions/tdxhost.fish",
        "./usr/local/lib/udev/rules.d/60-tdxhost.rules",
        "./usr/local/lib/systemd/system/tdxhost-validate.service",
        f"./usr/src/tdxhost-{__version__}/dkms.conf",
        f"./usr/lib/modules/{release}/updates/dkms/tdxhost.ko.xz",
    } <= installed.own
    # Nowhere but in places of its own, DKMS's and links to it.
    places = (
        *("./usr/local/", "./var/lib/dkms/", "./etc/fish/completions"),
        *(f"./usr/src/tdxhost-{__version__}", f"./usr/lib/modules/{release}/updates"),
    )
    assert [path for path in installed.own if not path.startswith(places)] == []


def test_the_driver_loads_and_is_of_the_packages_version(running: Host) -> None:
    loaded = running.run("modprobe", "tdxhost")
    assert loaded.status == 0, loaded
    assert running.sh("cat /sys/module/tdxhost/version").stdout == f"{__version__}\n"
    assert running.run("tdxhost", "--version").stdout == f"tdxhost {__version__}\n"
    assert "DKMS" in running.run("modinfo", "-F", "signer", "tdxhost").stdout


def test_the_device_stays_roots_and_has_a_unit(running: Host) -> None:
    rules = running.run("udevadm", "verify", "/usr/local/lib/udev/rules.d/60-tdxhost.rules")
    assert rules.status == 0, rules
    running.run("udevadm", "settle")
    tags = running.run("udevadm", "info", "--query=property", "--name=/dev/tdxhost").stdout
    assert "TAGS=:systemd:" in tags.splitlines()
    assert running.sh("stat -c '%a %U %G' /dev/tdxhost").stdout == "600 root root\n"


def test_the_man_page_is_found_and_well_formed(running: Host) -> None:
    page = running.run("man", "--where", "tdxhost").stdout.strip()
    assert page.endswith("/man8/tdxhost.8")
    text = running.run("man", "--warnings", "tdxhost")
    assert (text.status, text.stderr) == (0, "")
    assert [name for name in COMMANDS if f"tdxhost {name}" not in text.stdout] == []
    assert running.run("mandoc", "-Tlint", "-Werror", page).status == 0


@pytest.mark.parametrize(
    ("shell", "script", "offer"),
    [("bash", BASH, "enable"), ("zsh", ZSH, "_tdxhost"), ("fish", FISH, "enable")],
)
def test_shells_complete_the_command(running: Host, shell: str, script: str, offer: str) -> None:
    ran = running.run("env", "HOME=/tmp", shell, "-c", script)
    assert offer in ran.stdout.split(), ran
    assert "error" not in ran.stderr, ran


def test_sudo_finds_the_command_and_it_brings_tdx_up(running: Host) -> None:
    enabled = running.run("sudo", "-n", "tdxhost", "enable", "--format", "json")
    assert enabled.status == 0, enabled
    assert enabled.json()["module"]["status"] == "initialized"
    assert running.witness().cpus("TDH.SYS.LP.INIT") == dict.fromkeys(range(4), 1)
    assert running.kernel_complaints() == []


def test_uninstall_takes_all_away_but_a_driver_that_holds_memory(
    running: Host, installed: Installed
) -> None:
    # As while a run goes on by itself, and once there are results.
    wants = "/etc/systemd/system/multi-user.target.wants"
    unit = "/usr/local/lib/systemd/system/tdxhost-validate.service"
    running.sh(f"mkdir -p {RESULTS}/validate && ln -s {unit} {wants}")
    ran = running.run(UNINSTALL)
    assert ran.status == 0, ran
    assert "stays loaded until a reboot" in ran.stderr
    assert f"results of validation stay in {RESULTS}" in ran.stderr
    assert running.sh(f"ls {RESULTS}").stdout == "validate\n"
    assert running.run(UNINSTALL, "--purge").stderr == "tdxhost: tdxhost is not installed\n"
    left = files_of(running.sh(LIST_FILES).stdout)
    assert installed.own & left <= KEYS | {"./var/lib/dkms"}
    assert installed.bare - left == set()
    more = left - installed.bare - KEYS
    assert [path for path in more if not path.startswith(OF_THE_MACHINE)] == []
