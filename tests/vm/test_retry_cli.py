# SPDX-License-Identifier: GPL-2.0-or-later
"""``tdxhost enable --retry``: what it says and does after a failure at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.vm.hosts import Boot, Host

FAILED = 1
RETRY = "sudo tdxhost enable --retry"


@dataclass(frozen=True)
class Attempt:
    """One failing call: the fault that it meets every time, and what it has to come to.

    ``repeats`` follow from the bounds in the README, "When it fails"; ``holds`` is whether the
    TDX module has the PAMTs then, ``side_by_side`` how many may make the call at a time.
    """

    step: str
    fault: str
    status_name: str
    repeats: int
    holds: bool
    side_by_side: int = 1


#: In the order of the steps: each attempt finds the fault of the one before gone.
ATTEMPTS = (
    Attempt(
        "cpus",
        "TDH.SYS.LP.INIT cpu=3 status=TDX_RND_NO_ENTROPY",
        "TDX_RND_NO_ENTROPY",
        repeats=9,
        holds=False,
    ),
    Attempt(
        "module_info",
        "TDH.SYS.RD status=TDX_SYS_LP_INIT_NOT_DONE",
        "TDX_SYS_LP_INIT_NOT_DONE",
        repeats=0,
        holds=False,
    ),
    Attempt(
        "config",
        "TDH.SYS.CONFIG status=TDX_SYS_BUSY",
        "TDX_SYS_BUSY",
        repeats=99,
        holds=False,
    ),
    Attempt(
        "key_config",
        "TDH.SYS.KEY.CONFIG status=TDX_KEY_GENERATION_FAILED",
        "TDX_KEY_GENERATION_FAILED",
        repeats=9,
        holds=True,
    ),
    Attempt(
        "tdmr_init",
        "TDH.SYS.TDMR.INIT status=TDX_OPERAND_BUSY detail=1",
        "TDX_OPERAND_BUSY",
        repeats=99,
        holds=True,
        side_by_side=4,
    ),
)


def step_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One step of a document."""
    return next(step for step in document["steps"] if step["name"] == name)


def check_pamts(host: Host, holds: bool) -> None:
    """Memory for PAMTs is the TDX module's after TDH.SYS.CONFIG, and given back before."""
    memory = host.json("memory")
    held = sum(node["pamt_bytes"] for node in memory["nodes"])
    assert memory["pamt_bytes"] == held
    assert bool(held) is holds
    assert memory["pamt_owner"] == ("tdx_module" if holds else None)
    assert bool(memory["tdmrs"]) is holds


def check_attempt(host: Host, attempt: Attempt) -> None:
    """A retry fails at its step, says with what and how often, and how to go on."""
    host.control.fault(attempt.fault)
    document = host.json("enable", "--retry", status=FAILED)
    host.control.clear_faults()
    module = document["module"]
    step = step_of(document, attempt.step)
    assert (module["status"], module["step"]) == ("error", attempt.step)
    assert module["status_name"] == attempt.status_name
    assert module["final"] is False
    # Who is at it when another fails tries no more, and who comes late does not begin.
    assert attempt.repeats <= step["retries"] <= attempt.side_by_side * attempt.repeats
    struck = [call.status for call in host.witness().calls if call.fault]
    assert struck.count(attempt.status_name) >= attempt.repeats + 1
    last = document["findings"][-1]
    assert last["left"] == [f"Once the cause is gone, go on at step {attempt.step}: {RETRY}"]
    check_pamts(host, attempt.holds)


def check_refused(host: Host, attempt: Attempt) -> None:
    """Without --retry nothing is done, and the earlier failure is told once more."""
    calls = len(host.witness().calls)
    refused = host.run("tdxhost", "enable")
    assert refused.status == FAILED
    assert attempt.status_name in refused.stderr
    assert refused.stderr.splitlines()[-1].endswith(RETRY)
    assert len(host.witness().calls) == calls


def test_a_retry_goes_on_at_the_step_that_failed(boot: Boot) -> None:
    with boot(warm=True) as host:
        # The first of these is no retry: nothing has failed yet, and the flag changes nothing.
        for attempt in ATTEMPTS:
            check_attempt(host, attempt)
            check_refused(host, attempt)
        shown = host.run("tdxhost", "status").stdout
        document = host.json("enable", "--retry")
        witness = host.witness()
        complaints = host.kernel_complaints()

    assert "REPEATED" in shown
    assert "which belong to the TDX module since TDH.SYS.CONFIG" in " ".join(shown.split())
    assert document["module"]["status"] == "initialized"
    assert document["findings"] == []
    assert len(witness.succeeded("TDH.SYS.INIT")) == 1
    assert witness.cpus("TDH.SYS.LP.INIT") == {0: 1, 1: 1, 2: 1, 3: 1}
    assert len(witness.succeeded("TDH.SYS.CONFIG")) == 1
    assert len(witness.succeeded("TDH.SYS.KEY.CONFIG")) == 2
    for tdmr in witness.tdmrs():
        assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size
    assert complaints == []


FINAL = "TDH.SYS.KEY.CONFIG times=1 status=TDX_SYS_KEY_CONFIG_NOT_PENDING"
WHAT_IS_LEFT = (
    "--retry can't help: after TDH.SYS.CONFIG, TDX_SYS_KEY_CONFIG_NOT_PENDING means that the TDX "
    "module is not in the state in which it takes keys. What is left: a reboot, or another TDX "
    "module (loaded by P-SEAMLDR, or by a firmware update)."
)


def test_a_final_failure_says_so_at_once_and_refuses_every_retry(boot: Boot) -> None:
    with boot(faults=(FINAL,), warm=True) as host:
        first = host.json("enable", status=FAILED)
        calls = len(host.witness().calls)
        plain = host.json("enable", status=FAILED)
        again = host.json("enable", "--retry", status=FAILED)
        shown = host.run("tdxhost", "status")
        assert len(host.witness().calls) == calls
        check_pamts(host, holds=True)
        complaints = host.kernel_complaints()

    assert [told["module"]["code"] for told in (first, plain, again)] == [
        "seamcall",
        "earlier_failure",
        "final",
    ]
    for told in (first, plain, again):
        assert told["module"]["final"] is True
        assert told["findings"][-1]["left"] == [WHAT_IS_LEFT]
    assert shown.status == FAILED
    assert f"  {WHAT_IS_LEFT}" in shown.stderr.splitlines()
    assert complaints == []
