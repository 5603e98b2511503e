"""The subscription routes of the Telemetry API and of the older Logs API: one route each.

Source: captures; docs/fidelity.md, sections 2.1 and 2.5. The names of the Logs API's own errors are a choice.
"""

from collections.abc import Callable
from functools import partial

from aiohttp import web

from local_lambda.apis.server import answer, name_caller, read
from local_lambda.rules import subscriptions
from local_lambda.rules.logs_schema import is_legacy
from local_lambda.rules.refusals import Refused
from local_lambda.rules.subscriptions import Subscription
from local_lambda.sandbox import Sandbox
from local_lambda.settings import MANAGED_SCHEMAS

PATH = "/2022-07-01/telemetry"  # the schema version is in the body, never in the path
_LOGS_PATH = "/2020-08-15/logs"
_Parse = Callable[[str, bytes], Subscription]  # of an extension's name and a body


class TelemetryApi:
    """The routes of both APIs of one environment. On Managed Instances the Logs API does not exist: 404."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        logs = [] if self._sandbox.function.is_managed else [web.put(_LOGS_PATH, self.subscribe_to_logs)]
        return [web.put(PATH, self.subscribe), *logs]

    async def subscribe(self, request: web.Request) -> web.Response:
        schemas, managed = self._sandbox.platform.schemas, self._sandbox.function.is_managed
        allowed = [schema for schema in schemas if not managed or schema in MANAGED_SCHEMAS]
        parse = partial(subscriptions.parse, schemas=allowed)
        return await self._subscribe(request, parse, "Telemetry", prefix="" if managed else "Telemetry.")

    async def subscribe_to_logs(self, request: web.Request) -> web.Response:
        return await self._subscribe(request, subscriptions.parse_logs, "Logs", prefix="Logs.")

    async def _subscribe(self, request: web.Request, parse: _Parse, api: str, *, prefix: str) -> web.Response:
        """Subscribe to one of the APIs; the names of its errors begin with `prefix`."""
        extension = self._sandbox.extensions.find(request.headers.get("Lambda-Extension-Identifier"))
        name_caller(extension.name)
        body = await read(request)
        if not self._sandbox.platform.telemetry_supported:
            return _not_supported(api)
        try:
            if self._sandbox.telemetry.is_closed:
                raise Refused(403, "SubscriptionClosed", f"{api} API subscription is closed already")
            is_new = await self._accept(parse(extension.name, body))
        except Refused as refusal:
            raise refusal.named(prefix) from None
        return answer(200, b'"OK"' if is_new else b'"AlreadySubscribed"')

    async def _accept(self, asked: Subscription) -> bool:
        telemetry = self._sandbox.telemetry
        if telemetry.uses_other_api(asked):
            other = "Telemetry" if is_legacy(asked.schema) else "Logs"
            raise Refused(403, "AccessDenied", f"Extension {asked.name} is already subscribed to the {other} API")
        try:
            return await telemetry.subscribe(asked)
        except OSError:
            raise Refused(400, "ValidationError", f"Nobody listens on TCP port {asked.port}") from None


def _not_supported(api: str) -> web.Response:
    body = f'{{"errorMessage":"{api} API is not supported","errorType":"{api}.NotSupported"}}\n'
    return answer(202, body.encode())
