"""The token bucket of streamed responses."""

import pytest

from local_lambda.rules.bandwidth import Bandwidth


def test_a_burst_passes_at_once_and_the_rest_at_the_rate() -> None:
    bandwidth = Bandwidth(6, 2, now=0.0)
    assert [bandwidth.wait_for(2, now=0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
    assert bandwidth.wait_for(2, now=1.0) == 1.0, "one who has waited owes nothing more"


def test_a_pause_fills_the_bucket_again_but_not_beyond_the_burst() -> None:
    bandwidth = Bandwidth(6, 2, now=0.0)
    assert bandwidth.wait_for(6, now=0.0) == 0.0
    assert bandwidth.wait_for(2, now=1.0) == 0.0
    assert bandwidth.wait_for(8, now=100.0) == pytest.approx(1.0)
