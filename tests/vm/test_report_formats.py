# SPDX-License-Identifier: GPL-2.0-or-later
"""``tdxhost report --format openmetrics`` and ``nfd`` as a machine comes up, against vtdx's log."""

from __future__ import annotations

from typing import Any

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from tests.vm.hosts import Boot, Host

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
FOLDER = "/tmp/collected"
FILE = f"{FOLDER}/tdxhost.prom"
DRIVER = "/usr/lib/vtdx/tdxhost.ko"
NFD = "feature.node.kubernetes.io/tdxhost."

Samples = dict[str, dict[tuple[str, ...], float]]


def parsed(text: str) -> Samples:
    """Metrics by name, their values by what the labels say; both parsers read the same."""
    both = []
    for parse in (parser, openmetrics_parser):
        found: Samples = {}
        for family in parse.text_string_to_metric_families(text):
            for one in family.samples:
                key = tuple(value for _, value in sorted(one.labels.items()))
                found.setdefault(one.name.removeprefix("tdxhost_"), {})[key] = one.value
        both.append(found)
    older, newer = both
    assert older == newer
    return newer


def metrics(host: Host, status: int, *before: str) -> Samples:
    """Writes metrics as a timer does, whose umask keeps files to their owner; reads them."""
    told = " ".join((*before, "tdxhost", "report", "--format", "openmetrics", "--output", FILE))
    made = host.sh(f"umask 077; {told}")
    assert made.status == status, made
    assert made.stdout == ""
    assert bool(made.stderr) == bool(status), made
    listed = host.sh(f"ls -A {FOLDER}; stat -c %a {FILE}").stdout.split()
    assert listed == ["tdxhost.prom", "644"]
    return parsed(host.run(*NOBODY, "cat", FILE).stdout)


def features(host: Host) -> dict[str, str]:
    """What Node Feature Discovery is told."""
    lines = host.run("tdxhost", "report", "--format", "nfd").stdout.splitlines()
    assert all(line.startswith(NFD) for line in lines)
    pairs = (line.removeprefix(NFD).partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def check_untouched(host: Host) -> None:
    """Nothing was enabled: what would come of that is absent."""
    found = metrics(host, 0)
    assert found["module_status"]["unknown",] == 1
    assert found["cpus_enabled"] == {(): 0}
    assert set(found["cpu_enabled"].values()) == {0}
    absent = {"module_info", "cmr_bytes", "tdx_memory_bytes", "cpu_errno", "step_errno"}
    assert absent & set(found) == set()
    labels = features(host)
    assert labels["initialized"] == "false"
    assert "module-version" not in labels
    assert host.witness().calls == []


def check_without_a_driver(host: Host) -> None:
    """The file says so in place of what it said before."""
    assert host.run("rmmod", "tdxhost").status == 0
    found = metrics(host, 3)
    assert found["up"] == {(): 0}
    assert "module_status" not in found
    assert "initialized" not in features(host)
    assert host.run("insmod", DRIVER).status == 0
    host.run("udevadm", "settle")


def check_up(host: Host, document: dict[str, Any]) -> None:
    """All is as ``enable`` had it, and as vtdx saw it."""
    found = metrics(host, 0)
    assert found["module_status"]["initialized",] == 1
    assert ("1014", "1.5.16") in found["module_info"]
    cpus = {(str(one["cpu"]), str(one["package"])): one for one in document["cpus"]}
    took = {key: one["duration_ns"] / 1e9 for key, one in cpus.items()}
    assert found["cpu_enable_duration_seconds"] == took
    enabled = {int(cpu) for (cpu, _), value in found["cpu_enabled"].items() if value}
    assert enabled == set(host.witness().cpus("TDH.SYS.LP.INIT"))
    assert found["step_seamcalls"]["key_config",] == len(host.witness().of("TDH.SYS.KEY.CONFIG"))
    assert found["pamt_bytes"] == {(): sum(found["node_pamt_bytes"].values())}
    assert found["pamt_bytes"] == {(): document["pamt_bytes"]}
    labels = features(host)
    assert labels["initialized"] == "true"
    assert labels["module-version"] == "1.5.16"
    assert labels["cpus-enabled"] == "4"


def check_not_permitted(host: Host) -> None:
    """Not one's own to open is told from absent; nothing that was not read is there."""
    host.run("chown", "65534", FOLDER)
    found = metrics(host, 4, *NOBODY)
    assert found["up"] == {(): 0}
    assert "cpus_enabled" not in found


def test_metrics_and_features_follow_a_machine_as_it_comes_up(boot: Boot) -> None:
    with boot(warm=True) as host:
        host.run("mkdir", "-m", "755", FOLDER)
        check_untouched(host)
        check_without_a_driver(host)
        check_up(host, host.json("enable"))
        check_not_permitted(host)
        assert host.kernel_complaints() == []
