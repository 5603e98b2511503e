"""The consumer's side of the Telemetry API: one route. Source: captures; platform reference, section 2.1."""

from aiohttp import web

from telemetry_forwarder.emulator import subscriptions
from telemetry_forwarder.emulator.refusals import Refused
from telemetry_forwarder.emulator.sandbox import Sandbox
from telemetry_forwarder.emulator.server import answer, name_caller, read
from telemetry_forwarder.emulator.settings import MANAGED_SCHEMAS

PATH = "/2022-07-01/telemetry"  # the schema's version goes into the body, never here
_NOT_SUPPORTED = b'{"errorMessage":"Telemetry API is not supported","errorType":"Telemetry.NotSupported"}\n'


class TelemetryApi:
    """The route of the Telemetry API over one environment."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        return [web.put(PATH, self.subscribe)]

    async def subscribe(self, request: web.Request) -> web.Response:
        sandbox = self._sandbox
        agent = sandbox.agents.find(request.headers.get("Lambda-Extension-Identifier"))
        name_caller(agent.name)
        body = await read(request)
        if not sandbox.platform.telemetry_supported:
            return answer(202, _NOT_SUPPORTED)
        managed = sandbox.function.is_managed
        if sandbox.telemetry.is_closed:
            error_type = "SubscriptionClosed" if managed else "Telemetry.SubscriptionClosed"
            raise Refused(403, error_type, "Telemetry API subscription is closed already", type_first=True)
        allowed = [schema for schema in sandbox.platform.schemas if not managed or schema in MANAGED_SCHEMAS]
        asked = subscriptions.parse(agent.name, body, schemas=allowed, managed=managed)
        is_new = sandbox.telemetry.subscribe(asked)
        return answer(200, b'"OK"' if is_new else b'"AlreadySubscribed"')
