"""A short soak; `make soak` runs the long one."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.matrix.soak import Plan, growth, soak

SEED = 20261123
PLAN = Plan(seed=SEED, invocations=60, squall=range(20, 24))


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, invocations=25, resets=0.15)])
async def test_invocations_under_random_faults_settle_every_record(plan: Plan, tmp_path: Path) -> None:
    said: list[str] = []
    result = await soak(plan, tmp_path, said.append)
    assert not result.problems, (SEED, result.sums)
    assert result.invocations >= plan.invocations
    assert (result.generations > 1) is (plan.resets > 0)
    assert f"{plan.invocations} of {plan.invocations} invocations" in said[-1]


@pytest.mark.parametrize(
    ("mb", "is_flat"),
    [
        ([70], True),
        ([70, 78, 78, 78], True),
        ([70, 70, 70, 79], False),
        ([70, 87, 87, 87], False),
        ([70, 73, 76, 79, 82, 87], False),
    ],
)
def test_memory_that_grows_is_noticed(mb: list[int], is_flat: bool) -> None:
    assert (not growth({200 * place: each * 1024 for place, each in enumerate(mb, 1)})) is is_flat
