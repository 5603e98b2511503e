"""The subscription routes of the Telemetry API and of the older Logs API: one route each.

Source: captures; docs/fidelity.md, sections 2.1 and 2.5. The names of the Logs API's own errors are a choice.
"""

from aiohttp import web

from local_lambda.apis.server import answer, name_caller, read
from local_lambda.rules import subscriptions
from local_lambda.rules.extensions import Extension
from local_lambda.rules.refusals import Refused
from local_lambda.rules.subscriptions import Subscription
from local_lambda.sandbox import Sandbox
from local_lambda.settings import MANAGED_SCHEMAS

PATH = "/2022-07-01/telemetry"  # the schema version is in the body, never in the path
_LOGS_PATH = "/2020-08-15/logs"


class TelemetryApi:
    """The routes of both APIs of one environment. On Managed Instances the Logs API does not exist: 404."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        logs = [] if self._sandbox.function.is_managed else [web.put(_LOGS_PATH, self.subscribe_to_logs)]
        return [web.put(PATH, self.subscribe), *logs]

    async def subscribe(self, request: web.Request) -> web.Response:
        extension, body = await self._caller(request)
        platform, managed = self._sandbox.platform, self._sandbox.function.is_managed
        if not platform.telemetry_supported:
            return _not_supported("Telemetry")
        prefix = "" if managed else "Telemetry."
        self._check_open(prefix, "Telemetry")
        allowed = [schema for schema in platform.schemas if not managed or schema in MANAGED_SCHEMAS]
        asked = subscriptions.parse(extension.name, body, schemas=allowed, managed=managed)
        return await self._accept(asked, prefix, other="Logs")

    async def subscribe_to_logs(self, request: web.Request) -> web.Response:
        extension, body = await self._caller(request)
        if not self._sandbox.platform.telemetry_supported:
            return _not_supported("Logs")
        self._check_open("Logs.", "Logs")
        return await self._accept(subscriptions.parse_logs(extension.name, body), "Logs.", other="Telemetry")

    async def _caller(self, request: web.Request) -> tuple[Extension, bytes]:
        extension = self._sandbox.extensions.find(request.headers.get("Lambda-Extension-Identifier"))
        name_caller(extension.name)
        return extension, await read(request)

    def _check_open(self, prefix: str, api: str) -> None:
        if self._sandbox.telemetry.is_closed:
            message = f"{api} API subscription is closed already"
            raise Refused(403, f"{prefix}SubscriptionClosed", message, type_first=True)

    async def _accept(self, asked: Subscription, prefix: str, *, other: str) -> web.Response:
        telemetry = self._sandbox.telemetry
        if telemetry.uses_other_api(asked):
            message = f"Extension {asked.name} is already subscribed to the {other} API"
            raise Refused(403, f"{prefix}AccessDenied", message, type_first=True)
        try:
            is_new = await telemetry.subscribe(asked)
        except OSError:
            message = f"Nobody listens on TCP port {asked.port}"
            raise Refused(400, f"{prefix}ValidationError", message, type_first=True) from None
        return answer(200, b'"OK"' if is_new else b'"AlreadySubscribed"')


def _not_supported(api: str) -> web.Response:
    body = f'{{"errorMessage":"{api} API is not supported","errorType":"{api}.NotSupported"}}\n'
    return answer(202, body.encode())
