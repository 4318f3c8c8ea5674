# SPDX-License-Identifier: GPL-2.0-or-later
"""From the lines of a log to its diagnosis."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from tdxhost.decode import Decoder
from tdxhost.klog.call_rules import call_findings
from tdxhost.klog.diagnosis import Diagnosis, Facts, Found, Kind, add_finding
from tdxhost.klog.line_rules import RULES, event_findings
from tdxhost.klog.lines import Log, LogReader


@dataclass
class Diagnoser:
    """Reads logs and says what is wrong."""

    decoder: Decoder = field(default_factory=Decoder)

    @cached_property
    def reader(self) -> LogReader:
        """Knows the lines."""
        return LogReader.load()

    def diagnose(self, lines: Iterable[str]) -> Diagnosis:
        """Says what a log shows."""
        return self.judge(self.reader.read(lines))

    def diagnose_blocks(self, blocks: Iterable[bytes]) -> Diagnosis:
        """Says what a log of any size shows; takes blocks of it as they come."""
        return self.judge(self.reader.read_blocks(blocks))

    def judge(self, log: Log) -> Diagnosis:
        """Says what a log that was read shows."""
        facts = Facts(log, self.decoder)
        found: Found = {}
        for finding in (*call_findings(facts), *event_findings(facts)):
            add_finding(found, finding)
        for rule in RULES:
            rule(facts, found)
        order = list(facts.causes)
        findings = sorted(
            found.values(),
            key=lambda one: (one.kind is not Kind.FAILURE, order.index(one.cause)),
        )
        return Diagnosis(tuple(findings), log.boots, log.left_out)
