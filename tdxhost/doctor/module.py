# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the TDX module: there, new enough, and what bring-up came to."""

import re
from collections.abc import Iterator, Mapping

from tdxhost.doctor.engine import Found, Look, failed, not_applicable, not_checked, passed, warned
from tdxhost.doctor.facts import Facts
from tdxhost.errors import NotRead
from tdxhost.klog.diagnoser import Diagnoser
from tdxhost.leaves import leaf_name
from tdxhost.records import Code, CpuState, ModuleStatus, Provider
from tdxhost.state import Outcome, State
from tdxhost.words import count

TDX_HOST = "/sys/devices/faux/tdx_host"
#: TDX_FEATURES0, by bit; TDX module ABI spec.
NO_RBP_MOD, TOPOLOGY_ENUM = 18, 20
#: Linux 6.8 to 6.18, then 7.1 on: arch/x86/virt/vmx/tdx/tdx.c.
LOGGED_VERSION = re.compile(
    r"major_version (?P<major>\d+), minor_version (?P<minor>\d+)"
    r"|Module version: (?P<x>\d+)\.(?P<y>\d+)"
)
ASK = "sudo tdxhost cpu-enable --cpus 0 finds out, and does no more than TDH.SYS.INIT and LP.INIT."


def loaded(facts: Facts) -> Found:
    """Whether a SEAMCALL found somebody."""
    state = facts.state
    if state.module.module_status is ModuleStatus.INITIALIZED:
        return passed("it is initialized")
    outcomes = list(_outcomes(state))
    if any(outcome.code is Code.NO_MODULE for outcome in outcomes):
        return failed("SEAMCALL gave VMfailInvalid: nobody is there")
    answered = [outcome for outcome in outcomes if outcome.code is Code.SEAMCALL]
    if answered:
        return passed(f"it answered {leaf_name(answered[0].leaf)}")
    if any(cpu.state is CpuState.ENABLED for cpu in state.cpus):
        return passed("it answered TDH.SYS.LP.INIT")
    return not_checked("nobody has called it since the driver was loaded", ASK)


def _outcomes(state: State) -> Iterator[Outcome]:
    yield Outcome.of(state.module)
    yield from map(Outcome.of, state.cpus)
    yield from map(Outcome.of, state.steps)


def version(facts: Facts) -> Found:
    """What it says of itself, or what the kernel's log has; a 1.0 module can't say."""
    state = facts.state_or_none
    if state and state.info.has_module:
        number = (state.info.module_major, state.info.module_minor)
        return _version(number, f"TDX module {state.info.module_version}")
    if state and any(_is_silent(facts, outcome) for outcome in _outcomes(state)):
        return failed("TDH.SYS.RD answered TDX_SYS_NOT_READY, as modules of the 1.0 series do")
    for line in reversed(_log(facts)):
        if match := LOGGED_VERSION.search(line):
            number = (int(match["major"] or match["x"]), int(match["minor"] or match["y"]))
            return _version(number, f"the kernel's log: {line}")
    return not_checked("the TDX module was not asked yet", "It is known after: tdxhost enable")


def _log(facts: Facts) -> tuple[str, ...]:
    try:
        return facts.log
    except NotRead:
        return ()


def _version(number: tuple[int, int], read: str) -> Found:
    return passed(read) if number >= (1, 5) else failed(read)


def _is_silent(facts: Facts, outcome: Outcome) -> bool:
    if outcome.code is not Code.SEAMCALL or leaf_name(outcome.leaf) != "TDH.SYS.RD":
        return False
    return facts.judge.decode(outcome).name == "TDX_SYS_NOT_READY"


def _feature(facts: Facts, bit: int, name: str) -> Found:
    info = facts.state.info
    if not info.has_module:
        return not_checked("the TDX module was not asked yet", "It is known after: tdxhost enable")
    read = f"TDX_FEATURES0 is {info.tdx_features0:#x}: bit {bit} {name}"
    if info.tdx_features0 >> bit & 1:
        return passed(f"{read} is 1")
    return failed(f"{read} is 0")


def rbp(facts: Facts) -> Found:
    """The RBP erratum."""
    return _feature(facts, NO_RBP_MOD, "NO_RBP_MOD")


def topology(facts: Facts) -> Found:
    """TDH.VP.INIT version 1."""
    return _feature(facts, TOPOLOGY_ENUM, "TOPOLOGY_ENUM")


def updates(facts: Facts) -> Found:
    """What the kernel's tdx-host says of P-SEAMLDR."""
    if not facts.host.has(f"{TDX_HOST}/seamldr_version"):
        return not_applicable("this kernel says nothing of P-SEAMLDR (Linux 7.2 and newer do)")
    seamldr = facts.host.text(f"{TDX_HOST}/seamldr_version")
    left = facts.host.text(f"{TDX_HOST}/num_remaining_updates")
    read = f"P-SEAMLDR {seamldr}, {left} updates left"
    return warned(read) if left == "0" else passed(read)


def log(facts: Facts) -> Found:
    """What the kernel's log shows, where the driver does not know better."""
    if facts.provider is Provider.DIRECT:
        return not_applicable("the driver does all of it, and knows: module.state")
    stands = facts.state_or_none
    if stands and stands.module.module_status is ModuleStatus.INITIALIZED:
        return passed("TDX came up, whatever is in the log of before")
    diagnosis = Diagnoser().diagnose(facts.log)
    if not diagnosis.failed:
        return passed(f"tdxhost decode says: {diagnosis.verdict.title}")
    verdict = diagnosis.verdict
    read = "; ".join((*verdict.says, *(line.text for line in verdict.lines[:1])))
    return failed(read or verdict.title, fails=_sentence(verdict.title), fix=" ".join(verdict.todo))


def _sentence(text: str) -> str:
    """As a cause is written: without a full stop."""
    return text.removesuffix(".")


def state(facts: Facts) -> Found:
    """What tdx_enable() came to, in the words of status."""
    stands = facts.state
    verdict = facts.judge.state(stands)
    if verdict.findings:
        first = verdict.findings[0]
        fix = " ".join(dict.fromkeys(filter(None, (first.hint, *first.left))))
        told = "; ".join(found.message for found in verdict.findings)
        bad = [cpu.cpu for cpu in stands.cpus if cpu.state is CpuState.FAILED]
        return failed(told, bad, fails=first.message, fix=fix)
    enabled = sum(cpu.state is CpuState.ENABLED for cpu in stands.cpus)
    told = f"{stands.module.module_status.label}, {count(enabled, 'CPU')} enabled"
    if stands.module.module_status is ModuleStatus.UNKNOWN:
        return passed(f"not tried yet; {told}")
    return passed(told)


LOOKS: Mapping[str, Look] = {
    "module.loaded": loaded,
    "module.version": version,
    "module.rbp": rbp,
    "module.topology": topology,
    "module.updates": updates,
    "module.log": log,
    "module.state": state,
}
