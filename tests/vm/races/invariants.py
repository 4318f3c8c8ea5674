# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold in vtdx's log, whatever the callers did and the driver says.

The TDX module's states and what is legal in each: TDX module ABI spec, platform
initialisation; semantics.md, "States". A call that a fault struck never reached
the TDX module and changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.vm.witness import SUCCESS, Call, Witness
from vtdx.vm.platform import Platform

INIT = "TDH.SYS.INIT"
LP_INIT = "TDH.SYS.LP.INIT"
RD = "TDH.SYS.RD"
CONFIG = "TDH.SYS.CONFIG"
KEY_CONFIG = "TDH.SYS.KEY.CONFIG"
TDMR_INIT = "TDH.SYS.TDMR.INIT"

# The mark that says that the TDX module was loaded anew.
RELOAD = "reload"


def lives(witness: Witness) -> Iterator[Witness]:
    """The log of each TDX module, from its loading to that of the next one."""
    events: list[dict[str, Any]] = []
    for event in witness.events:
        if event["event"] == "mark" and event["text"] == RELOAD:
            yield Witness(events)
            events = []
        events.append(event)
    yield Witness(events)


@dataclass
class Life:
    """A TDX module as its calls made it; ``check`` fails at the first illegal one.

    ``driver_reloaded`` says that a driver may ask for what an earlier one has done.
    """

    platform: Platform
    driver_reloaded: bool = False
    done: Counter[str] = field(default_factory=Counter)
    cpus: set[int] = field(default_factory=set)
    packages: set[int] = field(default_factory=set)
    configs: int = 0

    def check(self, witness: Witness) -> Life:
        """Go through the log of one life."""
        for call in witness.calls:
            if call.leaf == CONFIG:
                self.configs += 1
                check_pamts(call)
            if call.fault is None:
                self._answered(call)
        check_tdmr_inits(witness)
        return self

    @property
    def initialised(self) -> bool:
        """Whether every TDMR that TDH.SYS.CONFIG was given can be in use."""
        return len(self.packages) == self.platform.sockets and self.done[TDMR_INIT] > 0

    def _package(self, cpu: int) -> int:
        return cpu // (self.platform.cores * self.platform.threads)

    def _answered(self, call: Call) -> None:
        """A call that reached the TDX module: legal, and nothing of it done before."""
        assert call.result == "done", call
        if call.status != SUCCESS:
            assert self._may_refuse(call), call
            return
        {
            INIT: self._init,
            LP_INIT: self._lp_init,
            CONFIG: self._config,
            KEY_CONFIG: self._key_config,
            TDMR_INIT: self._tdmr_init,
            RD: self._rd,
        }[call.leaf](call)
        self.done[call.leaf] += 1

    def _may_refuse(self, call: Call) -> bool:
        """Where the driver can't know that the TDX module will refuse."""
        if call.leaf == INIT and call.status == "TDX_SYS_INIT_NOT_PENDING":
            return self.driver_reloaded and self.done[INIT] == 1
        if call.leaf == LP_INIT and call.status == "TDX_SYS_LP_INIT_DONE":
            return self.driver_reloaded and call.cpu in self.cpus
        # CPUs that are offline count for the TDX module, which is the first to say so.
        if call.leaf == CONFIG and call.status == "TDX_SYS_CONFIG_NOT_PENDING":
            return len(self.cpus) < self.platform.cpus
        # Fields that a TDX module of this version lacks.
        return call.leaf == RD and call.status == "TDX_METADATA_FIELD_ID_INCORRECT"

    def _init(self, call: Call) -> None:
        assert self.done[INIT] == 0, "a second TDH.SYS.INIT"

    def _lp_init(self, call: Call) -> None:
        assert self.done[INIT] == 1
        assert call.cpu not in self.cpus, f"a second TDH.SYS.LP.INIT on CPU {call.cpu}"
        self.cpus.add(call.cpu)

    def _rd(self, call: Call) -> None:
        assert call.cpu in self.cpus, call

    def _config(self, call: Call) -> None:
        assert self.done[CONFIG] == 0, "a second TDH.SYS.CONFIG"
        assert len(self.cpus) == self.platform.cpus

    def _key_config(self, call: Call) -> None:
        package = self._package(call.cpu)
        assert self.done[CONFIG] == 1
        assert package not in self.packages, f"a second key on package {package}"
        self.packages.add(package)

    def _tdmr_init(self, call: Call) -> None:
        assert len(self.packages) == self.platform.sockets, "TDH.SYS.TDMR.INIT before all keys"


def check_pamts(config: Call) -> None:
    """No PAMT overlaps another; TDX module ABI spec, TDH.SYS.CONFIG."""
    pamts = sorted(
        (int(base, 16), int(size, 16))
        for tdmr in config.tdmrs
        for base, size in (tdmr["pamt_1g"], tdmr["pamt_2m"], tdmr["pamt_4k"])
    )
    assert pamts
    for (base, size), (following, _) in pairwise(pamts):
        assert base + size <= following, f"PAMTs at {base:#x} and {following:#x} overlap"


def check_tdmr_inits(witness: Witness) -> None:
    """A TDMR is initialised by one CPU at a time, from its start to its end."""
    ends: dict[int, int] = defaultdict(int)
    for call in witness.of(TDMR_INIT):
        base = call.registers_in["rcx"]
        start = call.event["t_ns"] - call.event["duration_ns"]
        assert start >= ends[base], f"two at once for the TDMR at {base:#x}"
        ends[base] = call.event["t_ns"]


def check_log(witness: Witness, platform: Platform, driver_reloaded: bool = False) -> list[Life]:
    """Every life in a log; what each came to."""
    check_windows(witness)
    return [Life(platform, driver_reloaded).check(life) for life in lives(witness)]


# What may come after what on one CPU, and what that makes of its VMX operation.
_WINDOW = {
    ("closed", "vmxe 1"): "open",
    ("open", "vmxon"): "vmx",
    ("vmx", "seamcall"): "vmx",
    ("vmx", "vmxoff"): "open",
    ("open", "vmxe 0"): "closed",
}


def check_windows(witness: Witness) -> None:
    """VMX operation is entered and left around SEAMCALLs, by each CPU for itself."""
    state: dict[int, str] = defaultdict(lambda: "closed")
    for event in witness.events:
        kind = {"cr4.vmxe": f"vmxe {event.get('value')}"}.get(event["event"], event["event"])
        if kind in ("start", "mark", "rdmsr", "wrmsr"):
            continue
        state[event["cpu"]] = _WINDOW[state[event["cpu"]], kind]
    assert set(state.values()) <= {"closed"}, state
