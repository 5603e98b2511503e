"""One error of AWS means the same to each who asks: a sink, the failover, the secrets cache."""

import pytest

from telemetry_forwarder.aws_errors import TYPES, Meaning, meaning_of, short
from telemetry_forwarder.clock import Moment
from telemetry_forwarder.errors import FailoverError
from telemetry_forwarder.failover.s3_sqs import accepted
from telemetry_forwarder.interfaces import AwsResponse, Denied, Rejected, Retry, TooLarge
from telemetry_forwarder.secrets.answers import Outcome
from telemetry_forwarder.secrets.meanings import refused
from telemetry_forwarder.secrets.names import SECRETS_MANAGER, Key
from telemetry_forwarder.sinks.cloudwatch_logs import refused as refused_by_logs

KEY = Key(SECRETS_MANAGER, "token")
NOW = Moment(0.0, 0.0)

# What each does of it: the verdict on a batch, whether the failover tries again, how a secret's question ended.
SAME = {
    Meaning.THROTTLED: (Retry, True, Outcome.THROTTLED),
    Meaning.BUSY: (Retry, True, Outcome.UNAVAILABLE),
    Meaning.EXPIRED: (Retry, False, Outcome.BAD_CREDENTIALS),
    Meaning.BAD_CREDENTIALS: (Denied, False, Outcome.BAD_CREDENTIALS),
    Meaning.FORBIDDEN: (Denied, False, Outcome.DENIED),
    Meaning.TOO_LARGE: (TooLarge, False, Outcome.UNAVAILABLE),
    Meaning.MALFORMED: (Rejected, False, Outcome.INVALID),
    Meaning.UNREADABLE_KEY: (Rejected, False, Outcome.DENIED),
}


@pytest.mark.parametrize("suffix", ["", "Exception"])
@pytest.mark.parametrize(
    ("error", "meaning"), [(name, meaning) for meaning, names in TYPES.items() if meaning in SAME for name in names]
)
def test_an_error_means_the_same_to_each_who_asks(error: str, meaning: Meaning, suffix: str) -> None:
    response = AwsResponse(status=400, error=error + suffix)
    assert meaning_of(response.error) is meaning
    with pytest.raises(FailoverError) as caught:
        accepted(response)
    found = (type(refused_by_logs([], response, "g")), caught.value.may_pass, refused(KEY, response, NOW).outcome)
    assert found == SAME[meaning]


def test_no_type_has_two_meanings() -> None:
    names = [name for names in TYPES.values() for name in names]
    assert len(names) == len(set(names))
    assert all(short(name) == name for name in names)


@pytest.mark.parametrize("error", [None, "", "Exception", "New", "NewException"])
def test_what_is_in_no_table_is_unknown(error: str | None) -> None:
    assert meaning_of(error) is Meaning.UNKNOWN


def test_a_name_of_sqs_is_shortened() -> None:
    assert short("AWS.SimpleQueueService.NonExistentQueue") == "NonExistentQueue"
    assert short("QueueDoesNotExistException") == "QueueDoesNotExist"
