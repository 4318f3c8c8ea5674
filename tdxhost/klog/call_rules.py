# SPDX-License-Identifier: GPL-2.0-or-later
"""What a SEAMCALL that failed means in the log that it is in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tdxhost.decode import MSR_DIFFERS, MSR_WRONG, Explanation
from tdxhost.klog.diagnosis import Facts, Finding
from tdxhost.klog.lines import Call
from tdxhost.leaves import LEAF_MASK, PSEAMLDR_BIT
from tdxhost.status import DETAIL_MASK

DEBUG_LEAF, SYS_RD, TDMR_INIT, SYS_DISABLE = 254, 34, 36, 69
#: Leaves with which a TD is made, and with which its pages are taken back.
CREATE_LEAVES = {"TDH.MNG.CREATE", "TDH.MNG.INIT", "TDH.VP.CREATE", "TDH.VP.INIT"}
TEARDOWN_LEAVES = {"TDH.PHYMEM.PAGE.RECLAIM", "TDH.MNG.KEY.FREEID", "TDH.MNG.VPFLUSHDONE"}
#: CPUs that a finding names.
NAMED_CPUS = 8


def call_findings(facts: Facts) -> Iterator[Finding]:
    """A finding for each SEAMCALL that failed, those alike together."""
    alike: dict[tuple[int | None, int], list[Call]] = {}
    for call in facts.log.calls:
        alike.setdefault((call.leaf, call.status), []).append(call)
    for group in alike.values():
        call = max(group, key=lambda one: len(one.registers))
        explanation = facts.decoder.explain(call.status, call.leaf, call.registers)
        cause = _cause_of(facts, call, explanation)
        yield _call_finding(facts, cause, group, explanation)


def _call_finding(facts: Facts, cause: str, group: list[Call], explanation: Explanation) -> Finding:
    decoded = explanation.decoded
    name = explanation.leaf_name or "SEAMCALL"
    told: dict[str, Any] = {"explanation": explanation}
    if cause == "seamcall":
        told["title"] = f"{name} failed: {decoded.name}."
        told["means"] = explanation.meaning
        told["likely"] = (explanation.likely_cause,) if explanation.likely_cause else ()
        told["todo"] = (
            (explanation.what_to_do,)
            if explanation.what_to_do
            else ("Report it with the whole log: bring-up does not usually end with this status.",)
        )
    says = [f"{name}{_on_cpus(group)}: {decoded.label}", explanation.says, *explanation.wanted]
    says += [*explanation.hints, *explanation.notes]
    says += [] if explanation.is_known else [explanation.class_bits]
    lines = [call.line for call in group]
    made = facts.finding(cause, lines, filter(None, dict.fromkeys(says)), **told)
    return replace(made, todo=tuple(_filled(step, explanation) for step in made.todo))


def _filled(step: str, explanation: Explanation) -> str:
    """Advice with the status, and the MSR that it names, in the place of capitals."""
    status = explanation.decoded.value
    if explanation.decoded.name in (MSR_WRONG, MSR_DIFFERS):
        step = step.replace("ADDRESS", f"{status & DETAIL_MASK:#x}")
    return step.replace("STATUS", f"{status:#x}")


def _on_cpus(group: list[Call]) -> str:
    cpus = sorted({call.cpu for call in group if call.cpu is not None})
    if not cpus:
        return f" ({len(group)} times)" if len(group) > 1 else ""
    named = ", ".join(map(str, cpus[:NAMED_CPUS]))
    more = f" and {len(cpus) - NAMED_CPUS} more" if len(cpus) > NAMED_CPUS else ""
    return f" on CPU{'s' if len(cpus) > 1 else ''} {named}{more}"


def _cause_of(facts: Facts, call: Call, explanation: Explanation) -> str:
    causes = (rule(facts, call, explanation) for rule in CALL_RULES)
    return next(filter(None, causes), "seamcall")


def _number(call: Call) -> int | None:
    is_loader = call.leaf is None or call.leaf & PSEAMLDR_BIT
    return None if call.leaf is None or is_loader else call.leaf & LEAF_MASK


def debug_leaf(_facts: Facts, call: Call, _explanation: Explanation) -> str:
    """Development kernels probe for a leaf of debug modules."""
    return "debug-probe" if _number(call) == DEBUG_LEAF else ""


def disable_leaf(_facts: Facts, call: Call, explanation: Explanation) -> str:
    """Linux 7 disables TDX at shutdown, which older modules cannot."""
    refused = ("TDX_OPERAND_INVALID", "TDX_SYS_NOT_READY", "TDX_SYS_SHUTDOWN")
    is_it = _number(call) == SYS_DISABLE and explanation.decoded.name in refused
    return "no-disable-leaf" if is_it else ""


def metadata_of_old_modules(facts: Facts, call: Call, explanation: Explanation) -> str:
    """TDX 1.0 modules have no TDH.SYS.RD, and older 1.5 ones not every field."""
    if _number(call) != SYS_RD:
        return ""
    if explanation.decoded.name in ("TDX_SYS_NOT_READY", "TDX_OPERAND_INVALID"):
        return "" if facts.minor else "old-module"
    if explanation.decoded.name.startswith("TDX_METADATA_FIELD"):
        return "field-missing-benign" if facts.initialized else "field-missing"
    return ""


def package_without_cpu(_facts: Facts, call: Call, explanation: Explanation) -> str:
    """Linux goes on to TDH.SYS.TDMR.INIT when a package could not be given its key."""
    is_it = _number(call) == TDMR_INIT and explanation.decoded.name == "TDX_SYS_NOT_READY"
    return "package-offline" if is_it else ""


def calls_for_tds(_facts: Facts, call: Call, explanation: Explanation) -> str:
    """Leaves outside the SYS group are about TDs, not about bring-up."""
    name = explanation.leaf_name.partition(" ")[0]
    if _number(call) is None or not name.startswith("TDH.") or name.startswith("TDH.SYS."):
        return ""
    if explanation.decoded.name.startswith("TDX_SEAMCALL_"):
        return ""
    if name in CREATE_LEAVES:
        return "td-create"
    return "td-teardown" if name in TEARDOWN_LEAVES else "td-runtime"


def known_status(facts: Facts, _call: Call, explanation: Explanation) -> str:
    """Statuses that say what is wrong."""
    causes: Mapping[str, str] = facts.decoder.advice["statuses"]
    return causes.get(explanation.decoded.name, "")


CallRule = Callable[[Facts, Call, Explanation], str]

#: What a failed SEAMCALL means; the first that gives a cause counts.
CALL_RULES: tuple[CallRule, ...] = (
    debug_leaf,
    disable_leaf,
    metadata_of_old_modules,
    package_without_cpu,
    calls_for_tds,
    known_status,
)
