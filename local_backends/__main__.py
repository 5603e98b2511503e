"""Run the local backends in a shell: `python -m local_backends`. Ctrl-C or SIGTERM stops them.

At the start it prints the environment variables that point an extension, or an AWS SDK, at the backends. When it is
stopped, it prints how much each backend has accepted.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from local_backends import (
    S3,
    Axiom,
    Backend,
    Bulk,
    CloudWatchLogs,
    Datadog,
    Firehose,
    Honeycomb,
    JsonReceiver,
    Kinesis,
    Loki,
    NewRelic,
    OtlpReceiver,
    SecretsManager,
    SplunkHec,
    Ssm,
    SumoLogic,
)

# The vendors that take JSON: how each is made of the options, and the variable that leads there. All have one dataset.
_VENDORS: dict[str, tuple[Callable[[argparse.Namespace], Backend], Callable[[Any], str]]] = {
    "axiom": (
        lambda given: Axiom(token=given.vendor_key, port=given.axiom_port),
        lambda axiom: f"AXIOM_URL={axiom.url}",
    ),
    "honeycomb": (
        lambda given: Honeycomb(key=given.vendor_key, port=given.honeycomb_port),
        lambda honeycomb: f"HONEYCOMB_API_ENDPOINT={honeycomb.url}",
    ),
    "sumologic": (
        lambda given: SumoLogic(token=given.vendor_key, port=given.sumologic_port),
        lambda sumo: f"SUMO_HTTP_ENDPOINT={sumo.address}",
    ),
    "newrelic": (
        lambda given: NewRelic(key=given.vendor_key, port=given.newrelic_port),
        lambda newrelic: f"NEW_RELIC_LOG_ENDPOINT={newrelic.url}",
    ),
    "http": (
        lambda given: JsonReceiver(token=given.vendor_key, port=given.http_port),
        lambda receiver: f"TELEMETRY_FORWARDER_HTTP_URL={receiver.url}{receiver.path}",
    ),
    "loki": (
        lambda given: Loki(token=given.vendor_key, port=given.loki_port),
        lambda loki: f"LOKI_ADDR={loki.url}",
    ),
    "elasticsearch": (
        lambda given: Bulk(authorization=f"ApiKey {given.vendor_key}", port=given.elasticsearch_port),
        lambda server: f"ELASTICSEARCH_URL={server.url}",
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options; port 0 means any free port."""
    options = argparse.ArgumentParser(prog="python -m local_backends", description=__doc__)
    for name, port in (("splunk", 8088), ("datadog", 8089), ("cloudwatch", 8090), ("ssm", 8091), ("secrets", 8092),
                       ("otlp", 8093), ("firehose", 8094), ("kinesis", 8095), ("s3", 8096),
                       *((name, 8100 + number) for number, name in enumerate(_VENDORS))):  # fmt: skip
        options.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT", help=f"default {port}")
    options.add_argument("--splunk-token", default="local-token", help="the token that HEC takes")
    options.add_argument("--splunk-mode", choices=("enterprise", "cloud"), default="enterprise")
    options.add_argument("--datadog-key", default="local-key", help="the API key that Datadog takes")
    options.add_argument("--stream", action="append", default=["logs"], metavar="NAME", help="may be repeated")
    options.add_argument("--bucket", action="append", default=["logs"], metavar="NAME", help="may be repeated")
    options.add_argument("--s3-secret", default="local-secret-access-key", help="the secret key that S3 signs with")
    options.add_argument("--vendor-key", default="local-key", help="the credential that the other vendors' take")
    for name in ("parameter", "secret"):
        options.add_argument(f"--{name}", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    return options


async def serve(given: argparse.Namespace) -> None:
    """Run the backends until a signal arrives; OTLP's only where the package opentelemetry-proto is installed."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with (
        SplunkHec(token=given.splunk_token, mode=given.splunk_mode, port=given.splunk_port) as splunk,
        Datadog(api_key=given.datadog_key, port=given.datadog_port) as datadog,
        CloudWatchLogs(port=given.cloudwatch_port) as logs,
        Ssm(parameters=_pairs(given.parameter), port=given.ssm_port) as ssm,
        SecretsManager(secrets=_pairs(given.secret), port=given.secrets_port) as secrets,
        Firehose(streams=given.stream, port=given.firehose_port) as firehose,
        Kinesis(streams=given.stream, port=given.kinesis_port) as kinesis,
        S3(buckets=given.bucket, secret=given.s3_secret, port=given.s3_port) as s3,
        AsyncExitStack() as stack,
    ):
        vendors = {name: make(given) for name, (make, _) in _VENDORS.items()}
        for vendor in vendors.values():
            await stack.enter_async_context(vendor)
        otlp = _otlp(given.otlp_port)
        if otlp is not None:
            await stack.enter_async_context(otlp)
        _say(
            f"SPLUNK_HEC_URL={splunk.url}",
            f"DD_LOGS_CONFIG_LOGS_DD_URL={datadog.url}",
            f"DD_DD_URL={datadog.url}",
            f"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS={logs.url}",
            f"AWS_ENDPOINT_URL_SSM={ssm.url}",
            f"AWS_ENDPOINT_URL_SECRETS_MANAGER={secrets.url}",
            f"AWS_ENDPOINT_URL_FIREHOSE={firehose.url}",
            f"AWS_ENDPOINT_URL_KINESIS={kinesis.url}",
            f"AWS_ENDPOINT_URL_S3={s3.url}",
            *(_VENDORS[name][1](vendor) for name, vendor in vendors.items()),
            *([f"TELEMETRY_FORWARDER_OTLP_ENDPOINT={otlp.url}"] if otlp is not None else []),
        )
        await stopped.wait()
    events = sum(len(logs.events(group)) for group in logs.groups)
    _say(
        f"splunk {len(splunk.events)} events",
        f"datadog {len(datadog.logs)} logs and {len(datadog.metrics.points)} points",
        f"cloudwatch {events} events",
        f"firehose {len(firehose.lines)} lines",
        f"kinesis {len(kinesis.lines)} lines",
        f"s3 {len(s3.lines)} lines",
        *(f"{name} {len(vendor.kept)} records" for name, vendor in vendors.items()),
        *([f"otlp {len(otlp.items)} log records, metrics and spans"] if otlp is not None else []),
    )


def _otlp(port: int) -> OtlpReceiver | None:
    try:
        return OtlpReceiver(port=port)
    except ImportError as error:
        _say(f"# no OTLP: {error}")
        return None


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = (text.partition("=") for text in given)
    return {name: value for name, _, value in pairs}


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
