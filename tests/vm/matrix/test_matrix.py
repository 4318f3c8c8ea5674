# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault matrix: every leaf that the driver calls, every answer that it can get.

cases.py and chains.py say what strikes where, driver_model.py what has to come of
it, and vtdx's log is the witness of the calls.
"""

from __future__ import annotations

import pytest

from tests.vm.matrix.cases import Case, Group, fresh_groups
from tests.vm.matrix.chains import chain_groups, ending_groups
from tests.vm.matrix.conftest import Matrix

GROUPS = [*fresh_groups(), *chain_groups(), *ending_groups()]
CASES = [
    pytest.param(group, case, id=case.name if group.reload else f"{group.name}:{case.name}")
    for group in GROUPS
    for case in group.cases
]


@pytest.mark.parametrize(("group", "case"), CASES)
def test_a_fault_is_answered_as_the_contract_says(group: Group, case: Case, matrix: Matrix) -> None:
    problems = matrix.problems(group, case)
    assert not problems, "\n".join([f"faults: {[f.spec for f in case.faults]}", *problems])
