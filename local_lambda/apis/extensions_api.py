"""The Extensions API (2020-01-01). Source: extensions-api.yaml and AWS's emulator; docs/fidelity.md, section 1."""

import orjson
from aiohttp import web

from local_lambda.apis.server import answer, name_caller, now, read
from local_lambda.rules.extensions import Extension, read_identifier
from local_lambda.rules.refusals import Refused
from local_lambda.sandbox import Sandbox

BASE = "/2020-01-01/extension"


class ExtensionsApi:
    """The routes of the Extensions API of one environment."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{BASE}/register", self.register),
            web.get(f"{BASE}/event/next", self.next),
            web.post(f"{BASE}/init/error", self.init_error),
            web.post(f"{BASE}/exit/error", self.exit_error),
        ]

    async def register(self, request: web.Request) -> web.Response:
        name = request.headers.get("Lambda-Extension-Name", "")
        name_caller(name)
        body = await read(request)
        extension = self._sandbox.extensions.register(name, body)
        self._sandbox.watch.notify()
        function = self._sandbox.function
        known = {"functionName": function.name, "functionVersion": function.version, "handler": function.handler}
        features = {word.strip() for word in request.headers.get("Lambda-Extension-Accept-Feature", "").split(",")}
        if "accountId" in features:
            known = {"accountId": function.account_id} | known
        return answer(200, orjson.dumps(known) + b"\n", Lambda_Extension_Identifier=extension.id)

    async def next(self, request: web.Request) -> web.Response:
        extension = self._caller(request)
        extension.ask_next(now())
        self._sandbox.watch.notify()
        await self._sandbox.watch.until(lambda: extension.has_event)
        event = extension.take()
        if event is None:  # cannot happen: has_event was true
            raise Refused(500, "InternalServerError", "Internal Server Error")
        headers = {} if event.id is None else {"Lambda_Extension_Event_Identifier": event.id}
        return answer(200, event.body, content_type=event.content_type, **headers)

    async def init_error(self, request: web.Request) -> web.Response:
        extension, error_type = await self._error(request)
        extension.report_init_error(error_type)
        return self._accepted(extension)

    async def exit_error(self, request: web.Request) -> web.Response:
        extension, error_type = await self._error(request)
        extension.report_exit_error(error_type)
        return self._accepted(extension)

    async def _error(self, request: web.Request) -> tuple[Extension, str]:
        await read(request)
        # Checked in the order of AWS's emulator: is there an identifier, is there an error type, is the identifier
        # known?
        identifier = request.headers.get("Lambda-Extension-Identifier")
        read_identifier(identifier)
        error_type = request.headers.get("Lambda-Extension-Function-Error-Type")
        if not error_type:
            raise Refused(403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
        extension = self._sandbox.extensions.find(identifier, unknown="Unknown Lambda-Extension-Identifier")
        name_caller(extension.name)
        # Only recorded: it becomes the error type of the failure when the process exits.
        return extension, "Extension.InitError" if request.path.endswith("init/error") else "Extension.ExitError"

    def _accepted(self, extension: Extension) -> web.Response:
        self._sandbox.watch.notify()
        return answer(202, b'{"status":"OK"}\n')

    def _caller(self, request: web.Request) -> Extension:
        extension = self._sandbox.extensions.find(request.headers.get("Lambda-Extension-Identifier"))
        name_caller(extension.name)
        return extension
