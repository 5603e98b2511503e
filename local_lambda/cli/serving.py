"""What `telemetry-forwarder local` listens on: its options, and the endpoints that they open."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click
import orjson

from local_lambda.cli.local_output import Output
from local_lambda.cli.package import Package
from local_lambda.cli.usage import BadUsage
from local_lambda.rules import http_routes
from local_lambda.serving.asynchronous import EventRetries
from local_lambda.serving.deployment import Deployment
from local_lambda.serving.http_front import HttpFront
from local_lambda.serving.lambda_api import InvokeEndpoint

_PORT = click.IntRange(0, 65535)

SERVING_OPTIONS = (
    click.option(
        "--serve",
        "serve_port",
        type=_PORT,
        metavar="PORT",
        help="Serve an endpoint for `aws lambda invoke --endpoint-url` until Ctrl-C; 0 for any port.",
    ),
    click.option(
        "--url",
        "url_port",
        type=_PORT,
        metavar="PORT",
        help="Serve the function's URL until Ctrl-C: HTTP, with streamed responses; 0 for any port.",
    ),
    click.option(
        "--route",
        "routes",
        multiple=True,
        metavar="'METHOD PATH'",
        help="At --url, a route of an HTTP API of API Gateway instead of a function URL; repeatable.",
    ),
    click.option(
        "--retries",
        type=int,
        metavar="N",
        help="How often an asynchronous invocation that failed is repeated, 0 to 2.  [default: 2]",
    ),
    click.option(
        "--retry-wait",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Before the first repetition, twice that before the second.  [default: 1; 60 on Lambda]",
    ),
    click.option(
        "--max-age",
        type=float,
        metavar="SECONDS",
        help="How old its event may become.  [default: 21600]",
    ),
    click.option(
        "--on-failure",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Append what was given up, one JSON object a line, as Lambda's destinations get it.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """Where to listen (a port, 0 for any free one, or None), and what becomes of asynchronous invocations."""

    serve_port: int | None = None
    url_port: int | None = None
    routes: Sequence[str] = ()
    retries: int | None = None
    retry_wait: float | None = None
    max_age: float | None = None
    on_failure: Path | None = None

    @property
    def serves(self) -> bool:
        """Whether requests come from outside; else the command itself invokes the function."""
        return self.serve_port is not None or self.url_port is not None

    def over(self, package: Package) -> Self:
        """Return these options, with what the template says where they say nothing. Raises BadUsage."""
        if self.routes and self.url_port is None:
            raise BadUsage("--route is about the function's URL: --url PORT.")
        asynchronous = (self.retries, self.retry_wait, self.max_age, self.on_failure)
        if self.serve_port is None and any(one is not None for one in asynchronous):
            raise BadUsage("--retries, --retry-wait, --max-age and --on-failure are about the endpoint: --serve PORT.")
        return dataclasses.replace(
            self,
            routes=self.routes or package.routes,
            retries=package.retries if self.retries is None else self.retries,
            max_age=package.max_age_s if self.max_age is None else self.max_age,
        )

    def check(self) -> None:
        """Raise InvalidSetting or BadUsage for what cannot be, before anything is opened."""
        self._retries()
        for key in self.routes:
            http_routes.parse(key)
        if self.on_failure is not None:
            try:
                self.on_failure.open("a").close()
            except OSError as error:
                raise BadUsage(f"--on-failure {self.on_failure}: {error.strerror or error}.") from None

    def _retries(self) -> EventRetries:
        default = EventRetries()
        return EventRetries(
            attempts=default.attempts if self.retries is None else self.retries,
            first_wait_s=default.first_wait_s if self.retry_wait is None else self.retry_wait,
            max_age_s=default.max_age_s if self.max_age is None else self.max_age,
        )

    @contextlib.asynccontextmanager
    async def open(self, deployment: Deployment, name: str, output: Output) -> AsyncIterator[None]:
        """Listen on the ports, and say where. Raises EmulatorError."""
        async with contextlib.AsyncExitStack() as stack:
            if self.serve_port is not None:
                await stack.enter_async_context(self._endpoint(self.serve_port, deployment, name, output))
            if self.url_port is not None:
                routes = [http_routes.parse(key) for key in self.routes]
                front = await stack.enter_async_context(
                    HttpFront(deployment, port=self.url_port, routes=routes, on_problem=output.remark)
                )
                output.function_url(front.url, name, self.routes)
            yield

    @contextlib.asynccontextmanager
    async def _endpoint(self, port: int, deployment: Deployment, name: str, output: Output) -> AsyncIterator[None]:
        def on_failure(record: dict[str, Any]) -> None:
            output.given_up(record)
            if self.on_failure is not None:
                try:
                    with self.on_failure.open("ab") as file:
                        file.write(orjson.dumps(record) + b"\n")
                except OSError as error:  # a full disk
                    output.error(f"--on-failure {self.on_failure}: {error.strerror or error}.")

        async with InvokeEndpoint(deployment, port=port, retries=self._retries(), on_failure=on_failure) as endpoint:
            output.listening(endpoint.url, name)
            yield
        if endpoint.unsettled:
            output.remark(f"{endpoint.unsettled} asynchronous invocations had neither succeeded nor been given up.")
