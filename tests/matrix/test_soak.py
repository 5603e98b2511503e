"""A short soak; `make soak` is the long one."""

from pathlib import Path

from tests.matrix.soak import soak

SEED = 20261123


async def test_hundred_invocations_under_random_faults_settle_every_record(tmp_path: Path) -> None:
    said: list[str] = []
    result = await soak(SEED, 100, tmp_path, said.append)
    assert not result.problems, (SEED, result.sums)
    assert result.invocations >= 100
    assert "kinds of fault" in said[-1]
