# SPDX-License-Identifier: GPL-2.0-or-later
"""Goes on with a run after a reboot: a unit of systemd's that is enabled for as long.

The unit is there for a boot that nobody asked for as well: after a crash the run goes on without
the test that crashed the machine. How often is bounded, and counted before anything else is done
in a boot, loading the driver included.
"""

import subprocess
from pathlib import Path

from tdxhost.errors import TdxHostError, Usage
from tdxhost.validation.journal import Kept
from tdxhost.validation.result import Run
from tdxhost.validation.words import RESUME

UNIT = "tdxhost-validate.service"
#: The folder that the unit goes on in.
STATE = Path("/var/lib/tdxhost")
#: It is there where systemd runs: sd_booted(3).
RUNNING = Path("/run/systemd/system")
DRIVER = Path("/dev/tdxhost")

BY_HAND = f"Without --reboot, go on by hand after each reboot: {RESUME}"


def check(state: Path) -> None:
    """Usage where a run can't go on by itself on this host."""
    if not RUNNING.is_dir():
        raise Usage("--reboot needs systemd, which does not run this host", BY_HAND)
    if state.absolute() != STATE:
        said = f"--reboot goes on in {STATE} alone, and not in {state}: leave --state out"
        raise Usage(said, BY_HAND)
    if _systemctl("show", "--property=LoadState", "--value", UNIT).strip() != "loaded":
        hint = f"scripts/install of tdxhost puts it there. {BY_HAND}"
        raise Usage(f"--reboot needs {UNIT}, which systemd does not know here", hint)


def enable() -> None:
    """From now on, each boot of this host goes on with the run."""
    if not is_enabled():
        _systemctl("enable", UNIT)


def disable() -> None:
    """Boots do so no more."""
    if is_enabled():
        _systemctl("disable", UNIT)


def is_enabled() -> bool:
    """Whether a boot of this host goes on with the run; False where there is no systemd."""
    if not RUNNING.is_dir():
        return False
    command = ["systemctl", "is-enabled", "--quiet", UNIT]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def reboot() -> None:
    """Reboots this host; comes back before it goes down."""
    _systemctl("reboot")


def load_driver() -> None:
    """Loads the driver if it is not; where that fails, opening the device says what is wrong."""
    if not DRIVER.exists():
        command = ["modprobe", "tdxhost"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def bound(run: Run) -> int:
    """How often a run reboots the machine at most: one more than its plan has boots."""
    return len(list(run.boots())) + 1


def too_often(kept: Kept, more: int = 0) -> TdxHostError | None:
    """Why the machine is not rebooted again: it was too often, or would be with more reboots."""
    run = kept.run
    if len(kept.resumed) + more <= bound(run):
        return None
    said = f"the machine was rebooted {len(kept.resumed)} times for the run {run.id}: no more"
    hint = f"See why: journalctl -u {UNIT}, journalctl -k -b -1. Then go on by hand: {RESUME}"
    return TdxHostError(said, hint)


def _systemctl(*words: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise TdxHostError(f"systemctl: {error.strerror}", BY_HAND) from error
    if done.returncode:
        raise TdxHostError(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}", BY_HAND)
    return done.stdout
