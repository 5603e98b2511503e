"""The replay function's own settings, its time, and when a message comes again."""

import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.replay.batch import Outcome, Result, Timing
from telemetry_forwarder.replay.function import delay_s, sink_variables
from tests.builders import ManualClock


def test_variables_of_the_sinks_are_one_json_object() -> None:
    assert sink_variables("") == {}
    assert sink_variables('{"SPLUNK_HEC_URL": "https://x"}') == {"SPLUNK_HEC_URL": "https://x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SPLUNK_HEC_URL=https://x", "is not readable; allowed: a JSON object of texts"),
        ('{"SPLUNK_METRICS_INDEX": 1}', "is not readable"),
        ("[]", "is not readable"),
        ('{"SPLUNK_HEC_TOKEN": "hunter2"}', "with the value of a secret in it (SPLUNK_HEC_TOKEN)"),
        ('{"OTEL_EXPORTER_OTLP_HEADERS": "k=hunter2"}', "references to secrets alone, such as `OTEL_EXPORTER_OTLP_"),
    ],
)
def test_secret_by_value_is_refused_and_never_shown(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sink_variables(text)
    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("remaining_s", [0.0, 0.5, 3.0, 20.0, 120.0, 900.0])
def test_time_is_divided_backwards_from_the_end_that_lambda_gives(remaining_s: float) -> None:
    clock = ManualClock()
    timing = Timing.of(remaining_s, clock)
    ends_at = clock.monotonic() + remaining_s
    assert clock.monotonic() <= timing.stop_at <= timing.work_until <= timing.end_at <= ends_at
    assert timing.stop_at + timing.last_answers_s <= timing.work_until
    assert timing.patience_s <= remaining_s
    assert timing.lambda_ends_at == clock.time() + remaining_s


def test_messages_come_again_later_each_time() -> None:
    later = Result(Outcome.LATER)
    for receives, longest in ((1, 5), (2, 10), (5, 80), (10, 2560), (11, 3600), (1000, 3600)):
        delays = [delay_s(later, receives) for _ in range(50)]
        assert longest / 2 <= min(delays) <= max(delays) <= longest
    # The sum of the least and the most that 30 receives take: docs/replay.md says 10 and 20 hours.
    most = sum(min(3600.0, 5.0 * 2 ** (n - 1)) for n in range(1, 30))
    assert 20 <= most / 3600 <= 21


def test_parcel_of_another_worker_is_asked_for_when_its_claim_is_over() -> None:
    assert delay_s(Result(Outcome.LATER, 2.0), 9) == 3.0
    assert delay_s(Result(Outcome.LATER, 100.0), 1) <= 5.0


def test_what_is_hopeless_goes_to_the_dead_letter_queue_soon() -> None:
    assert delay_s(Result(Outcome.HOPELESS), 20) == 1.0
