"""What Lambda takes as the configuration of a function."""

import pytest

from local_lambda.errors import InvalidSetting
from local_lambda.rules.configuration import check_identity, check_variables, partition_of

SOUND = {"name": "orders", "version": "$LATEST", "region": "eu-west-1", "account_id": "210987654321"}


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a"},
        {"name": "A-b_9" + "x" * 59},
        {"version": "17"},
        {"region": "us-gov-west-1"},
        {"region": "ap-southeast-7"},
        {"region": "us-iso-east-1"},
        {"region": "eusc-de-east-1"},
    ],
)
def test_what_lambda_takes(given: dict[str, str]) -> None:
    check_identity(**{**SOUND, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "name '' is not 1 to 64 letters"),
        ({"name": "a b"}, "name 'a b' is not"),
        ({"name": "x" * 65}, "is not 1 to 64"),
        ({"name": "arn:aws:lambda:eu-west-1:210987654321:function:orders"}, "give the name alone, not an ARN"),
        ({"version": "0"}, "version '0' is neither"),
        ({"version": "prod"}, "version 'prod' is neither"),
        ({"region": "Frankfurt"}, "region 'Frankfurt' is not of the form us-east-1"),
        ({"region": "eu-west-1a"}, "region 'eu-west-1a' is not"),
        ({"account_id": "12345"}, "account id '12345' is not twelve digits"),
    ],
)
def test_what_lambda_does_not_take_is_named_with_its_value(given: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        check_identity(**{**SOUND, **given})


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_REGION": "x"}, "AWS_REGION is reserved: Lambda sets it itself; set the region instead"),
        ({"_HANDLER": "x"}, "_HANDLER is reserved.*set the handler instead"),
        ({"AWS_LAMBDA_RUNTIME_API": "x"}, "AWS_LAMBDA_RUNTIME_API is reserved.*leave it out"),
        ({"_MINE": "x"}, "variable '_MINE' has a name that Lambda does not take"),
        ({"X": "x"}, "variable 'X' has a name"),
        ({"9LIVES": "x"}, "variable '9LIVES' has a name"),
        ({"A-B": "x"}, "variable 'A-B' has a name"),
        ({"SECRET": "hush\0"}, "value of the variable SECRET has a NUL"),
        ({"LONG": "x" * 4000, "SHORT": "y" * 90}, "4112 bytes as JSON; Lambda allows 4096.*longest is LONG"),
    ],
)
def test_variables_that_lambda_does_not_take(variables: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        check_variables(variables)
    assert "hush" not in str(caught.value), "no value is told"


def test_variables_that_lambda_takes() -> None:
    check_variables({"ab": "", "HTTP_PROXY": "http://proxy", "AWS_ACCESS_KEY_ID": "AKIA", "A1_": "x"})
    check_variables({"LONG": "x" * (4096 - len('{"LONG":""}'))})


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-east-1", "aws-us-gov")]
)
def test_the_partition_follows_from_the_region(region: str, partition: str) -> None:
    assert partition_of(region) == partition
