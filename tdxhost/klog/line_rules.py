# SPDX-License-Identifier: GPL-2.0-or-later
"""What lines of a log mean, alone and together."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tdxhost.klog.diagnosis import (
    Facts,
    Finding,
    Found,
    Kind,
    add_finding,
    any_failure,
    drop_findings,
    has_finding,
)
from tdxhost.klog.lines import Event, numbers

#: Kernels for TDX 1.0 have no attributes in this line; modules from here on are not for them.
FIRST_1_5 = 5
#: Events that say that somebody tried to bring TDX up.
TRIED = (
    *("module-version", "cmr", "pamt", "initialized", "init-failed", "reserved-areas"),
    *("tdmrs-exhausted", "seam-off", "module-not-loaded", "not-in-vmx", "debug-probe"),
)
#: Who initialises TDX, by the version from which on it does (Linux, arch/x86/virt/vmx/tdx).
WHO_TRIES = (
    ((7, 1), "the kernel does it by itself at boot, so something kept it from that"),
    ((6, 16), "kvm_intel does it when it is loaded with tdx=1"),
    ((6, 8), "upstream has nobody who does it; distributions' kernels have kvm_intel do it"),
    ((0, 0), "it has no TDX upstream; TDX kernels of that time have kvm_intel do it"),
)
#: Words of a kernel command line that keep CPUs away.
LIMITS = ("nosmt", "maxcpus=", "nr_cpus=", "possible_cpus=")
#: Words that ask for TDX.
WISHES = ("kvm_intel.tdx=1", "kvm_intel.tdx=on", "kvm_intel.tdx=Y", "tdx_host=on", "tdx=on")


def event_findings(facts: Facts) -> Iterator[Finding]:
    """A finding for each line whose id is that of a cause."""
    for event in facts.log.events:
        cause = SAME_AS.get(event.id, event.id)
        if cause in facts.causes and cause != "init-failed":
            yield facts.finding(cause, [event.line], _event_says(event))


#: Lines that are about the cause of another name.
SAME_AS = {"few-keyids": "no-keyids"}


def _event_says(event: Event) -> Iterator[str]:
    words = event.words
    if "base" in words and "end" in words:
        yield f"it is about [{words['base']}, {words['end']})"
    if "cpu" in words:
        yield f"it was on CPU {words['cpu']}"
    if "cpus" in words and event.id == "cpus-missing":
        yield f"missing: CPUs {words['cpus']}"
    if "what" in words:
        yield f"it is about {words['what']}"
    if "reason" in words:
        yield f"the driver says: {words['reason']}"
    if "error" in words:
        yield f"KVM's answer: {words['error']}"
    if "bits" in words:
        yield from _address_bits(int(words["bits"]))


def _address_bits(bits: int) -> Iterator[str]:
    """52 bits of address, less the KeyID bits (TME-MT), is what Linux shows."""
    yield f"{bits} bits of physical address"
    if bits < 52:
        yield (
            f"Xeons with TDX have 52; {52 - bits} fewer: KeyID bits that TME-MT takes, "
            "or a limit in the BIOS (Limit CPU PA to 46 bits), which has to be off"
        )


def hibernation_explains(_facts: Facts, found: Found) -> None:
    """What KVM says later comes from the earlier refusal, and not from the BIOS."""
    for reason in ("hibernation", "no-keyids"):
        if has_finding(found, reason):
            for later in drop_findings(found, "no-keyids-or-hibernation", "not-a-tdx-host"):
                said = f'"{later.lines[0].text}" comes from this, and is misleading'
                add_finding(
                    found, replace(found[(reason, None, None)], lines=later.lines, says=(said,))
                )


def nohibernate_was_given(facts: Facts, found: Found) -> None:
    """With nohibernate on the command line, it is the KeyIDs."""
    if has_finding(found, "no-keyids-or-hibernation") and "nohibernate" in facts.words:
        for before in drop_findings(found, "no-keyids-or-hibernation"):
            said = "nohibernate is on the kernel command line, so it is not hibernation"
            add_finding(found, facts.finding("no-keyids", before.lines, [said]))


def keyids_on_no_tdx_host(facts: Facts, found: Found) -> None:
    """A machine with private KeyIDs is a TDX host, whatever the later line says."""
    if has_finding(found, "not-a-tdx-host") and facts.log.has("keyids"):
        for before in drop_findings(found, "not-a-tdx-host"):
            add_finding(found, facts.finding("no-keyids-or-hibernation", before.lines))


def parameters_after_init(facts: Facts, found: Found) -> None:
    """KVM was reloaded with other parameters when TDX was long up."""
    up = facts.initialized
    for before in drop_findings(found, "kvm-parameters") if up else ():
        is_later = up is not None and before.lines[0].number > up.line.number
        cause = "tdp-mmu-after-init" if is_later else "kvm-parameters"
        add_finding(found, facts.finding(cause, before.lines, before.says))


def check_scripts(facts: Facts, found: Found) -> None:
    """What the set-up scripts of distributions print of MSRs."""
    wrong = {
        "bios-tdx-off": ("check-seamrr", "check-keyids"),
        "mcheck": ("check-mcheck",),
        "not-production": ("check-production",),
    }
    for cause, ids in wrong.items():
        events = [event for event in facts.log.of(*ids) if _is_bad(event)]
        if events:
            says = [event.line.text for event in events]
            add_finding(found, facts.finding(cause, [event.line for event in events], says))


def _is_bad(event: Event) -> bool:
    value = event.words["value"].lower()
    if event.id == "check-production":
        return value != "production"
    is_zero = not value.replace("0x", "").strip("0")
    return is_zero != (event.id == "check-mcheck")


def module_and_kernel(facts: Facts, found: Found) -> None:
    """The TDX module's generation against that of the kernel's wording."""
    module = facts.module
    if module is None:
        return
    says = [f"TDX module {version(module)}"]
    for key, finding in list(found.items()):
        if finding.cause in ("old-module", "field-missing", "field-missing-benign"):
            found[key] = replace(finding, says=(*says, *finding.says))
    is_old_wording = "vendor_id" in module.line.text and "attributes" not in module.words
    if is_old_wording and "status" not in module.words and (facts.minor or 0) >= FIRST_1_5:
        add_finding(found, facts.finding("module-newer-than-kernel", [module.line], says))
    elif facts.minor == 0 and not any_failure(found):
        add_finding(found, facts.finding("old-module-in-use", [module.line], says))


def version(module: Event) -> str:
    """A TDX module's version as its line says it: 1.5, build 744 of 20240725."""
    major, minor, build = numbers(module, "major", "minor", "build")
    text = f"{major}.{minor}"
    text += f".{module.words['update']}" if "update" in module.words else ""
    text += f", build {build}" if build else ""
    return text + (f" of {module.words['date']}" if "date" in module.words else "")


def limited_cpus(facts: Facts, found: Found) -> None:
    """Words of the command line that keep CPUs away."""
    given = [word for word in facts.words if word.startswith(LIMITS)]
    for key, finding in list(found.items()):
        if finding.cause == "cpus-missing" and given:
            said = f"the kernel command line has {' '.join(dict.fromkeys(given))}"
            found[key] = replace(finding, says=(*finding.says, said))


def qemu_and_kernel(facts: Facts, found: Found) -> None:
    """QEMU's complaints mean one thing when TDX is up, and another when not."""
    events = facts.log.of("qemu-no-tdx", "qemu-abi")
    if events:
        cause = "host-ok-look-at-qemu" if facts.initialized else "qemu-mismatch"
        add_finding(found, facts.finding(cause, [event.line for event in events]))


def nobody_tried(facts: Facts, found: Found) -> None:
    """KeyIDs, and then nothing."""
    keyids = facts.log.of("keyids")
    if keyids and not facts.log.calls and not facts.log.has(*TRIED) and not any_failure(found):
        add_finding(found, facts.finding("not-tried", [keyids[-1].line], _who_tries(facts)))


def _who_tries(facts: Facts) -> Iterator[str]:
    """Which part of the kernel that booted initialises TDX."""
    for event in facts.log.of("boot"):
        release = event.words["version"]
        match = re.match(r"(\d+)\.(\d+)", release)
        if match:
            number = (int(match[1]), int(match[2]))
            who = next(who for least, who in WHO_TRIES if number >= least)
            yield f"Linux {release}: {who}"


def nothing_said(facts: Facts, found: Found) -> None:
    """The command line asks for TDX, and nothing answers."""
    wishes = [event.line for event in facts.log.of("cmdline") if _asks(event)]
    if wishes and not facts.log.is_about_tdx and not any_failure(found):
        add_finding(found, facts.finding("no-tdx-lines", wishes[:1]))


def _asks(event: Event) -> bool:
    return any(word in WISHES for word in event.words["words"].split())


def failed_without_reason(facts: Facts, found: Found) -> None:
    """The last line of a failure is told only where nothing else is."""
    failures = facts.log.of("init-failed")
    if failures and facts.initialized is None and not any_failure(found):
        codes = [int(event.words.get("errno", "0")) for event in failures]
        says = [f"errno: {_errno_text(code)}" for code in codes if code]
        lines = [event.line for event in failures]
        add_finding(found, facts.finding("init-failed", lines, dict.fromkeys(says)))


def _errno_text(code: int) -> str:
    return f"{errno.errorcode.get(abs(code), 'unknown')}, {os.strerror(abs(code))} ({code})"


def overcome(facts: Facts, found: Found) -> None:
    """What failed before TDX came up did not keep it from that."""
    up = facts.initialized
    for key, finding in list(found.items()) if up else ():
        is_before = up is not None and all(line.number < up.line.number for line in finding.lines)
        if finding.kind is Kind.FAILURE and is_before:
            passed = facts.finding("passed", ())
            title = f"{passed.title[:-1]}: {finding.title}"
            found[key] = replace(finding, kind=Kind.CONTEXT, title=title)


def host_is_up(facts: Facts, found: Found) -> None:
    """TDX came up."""
    up = facts.initialized
    if up is not None and not has_finding(found, "host-ok-look-at-qemu"):
        says = [f"TDX module {version(facts.module)}"] if facts.module else []
        add_finding(found, facts.finding("host-ok", [up.line], says))


def cut_off(facts: Facts, found: Found) -> None:
    """The TDX module answered, and the text ends before it is told what came of it."""
    if facts.module and facts.initialized is None and not any_failure(found):
        says = [f"TDX module {version(facts.module)}"]
        add_finding(found, facts.finding("cut-off", [facts.module.line], says))


def nothing_found(facts: Facts, found: Found) -> None:
    """There has to be an answer."""
    if not found:
        add_finding(found, facts.finding("nothing", ()))


Rule = Callable[[Facts, Found], None]

#: In this order; later rules see what earlier ones left.
RULES: tuple[Rule, ...] = (
    hibernation_explains,
    nohibernate_was_given,
    keyids_on_no_tdx_host,
    parameters_after_init,
    check_scripts,
    qemu_and_kernel,
    overcome,
    module_and_kernel,
    limited_cpus,
    nobody_tried,
    failed_without_reason,
    nothing_said,
    host_is_up,
    cut_off,
    nothing_found,
)
