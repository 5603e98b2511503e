"""What `telemetry-forwarder local` listens on: its options, and the endpoints that they open."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Self

import click

from local_lambda.cli.local_output import Output
from local_lambda.cli.usage import BadUsage
from local_lambda.rules import http_routes
from local_lambda.serving.deployment import Deployment

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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """Where to listen: a port, 0 for any free one, or None."""

    serve_port: int | None = None
    url_port: int | None = None
    routes: Sequence[str] = ()

    @property
    def serves(self) -> bool:
        """Whether requests come from outside; else the command itself invokes the function."""
        return self.serve_port is not None or self.url_port is not None

    def with_routes(self, routes: Sequence[str]) -> Self:
        """Return these options with the routes of a template, unless some were given. Raises InvalidSetting."""
        if self.routes and self.url_port is None:
            raise BadUsage("--route is about the function's URL: --url PORT.")
        for key in self.routes or routes:
            http_routes.parse(key)
        return dataclasses.replace(self, routes=self.routes or tuple(routes))

    @contextlib.asynccontextmanager
    async def open(self, deployment: Deployment, name: str, output: Output) -> AsyncIterator[None]:
        """Listen on the ports, and say where. Raises EmulatorError."""
        async with contextlib.AsyncExitStack() as stack:
            if self.serve_port is not None:
                from local_lambda.serving.lambda_api import InvokeEndpoint

                endpoint = await stack.enter_async_context(InvokeEndpoint(deployment, port=self.serve_port))
                output.listening(endpoint.url, name)
            if self.url_port is not None:
                from local_lambda.serving.http_front import HttpFront

                routes = [http_routes.parse(key) for key in self.routes]
                front = await stack.enter_async_context(HttpFront(deployment, port=self.url_port, routes=routes))
                output.function_url(front.url, name, self.routes)
            yield
