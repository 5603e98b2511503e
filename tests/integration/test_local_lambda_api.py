"""The answers of the Extensions API, byte by byte as AWS's own emulator gave them to the same calls.

The expected values were recorded from aws-lambda-rie (in the aws-sam-cli wheel) on 2026-11-23.
"""

import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_lambda import Platform
from tests.integration.local_lambda_probe import Probe, eventually, local_lambda

Answer = tuple[int, str | None, str]
BASE = "/2020-01-01/extension"
TEXT = "text/plain; charset=utf-8"


def refused(message: str, error_type: str) -> Answer:
    return (
        403,
        "application/json",
        json.dumps({"errorMessage": message, "errorType": error_type}, separators=(",", ":")) + "\n",
    )


def caller(api: str) -> Callable[..., Answer]:
    def call(method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(api, timeout=5)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.getheader("Server") is None
        return response.status, response.getheader("Content-Type"), text

    return call


def everything(api: str, agent_id: str) -> list[tuple[str, Answer, Answer]]:
    """Make the calls as a waiting extension would; return a name, what was said and what should be."""
    call = caller(api)
    mine = {"Lambda_Extension_Identifier": agent_id}
    state = (
        "State transition from Ready to {} failed for extension "
        + agent_id
        + ". Error: State transition is not allowed"
    )
    unknown = "11111111-2222-4333-8444-555555555555"
    invalid = "Extension.InvalidExtensionState"
    event_type = "Extension.InvalidEventType"
    register = f"{BASE}/register"
    return [
        ("no name", call("POST", register, "{}"), refused("Empty extension name", "Extension.InvalidExtensionName")),
        (
            "unknown event",
            call("POST", register, '{"events":["NAP"]}', Lambda_Extension_Name="probe"),
            refused("NAP: ErrorInvalidEventType", event_type),
        ),
        (
            "configuration keys",
            call("POST", register, '{"configurationKeys":["a"]}', Lambda_Extension_Name="probe"),
            refused("configurationKeys are deprecated; use environment variables instead", "InvalidRequestFormat"),
        ),
        (
            "no identifier",
            call("GET", f"{BASE}/event/next"),
            refused("Missing Lambda-Extension-Identifier header", "Extension.MissingExtensionIdentifier"),
        ),
        (
            "not an identifier",
            call("GET", f"{BASE}/event/next", Lambda_Extension_Identifier="x"),
            refused("Invalid Lambda-Extension-Identifier", "Extension.InvalidExtensionIdentifier"),
        ),
        (
            "unknown identifier",
            call("GET", f"{BASE}/event/next", Lambda_Extension_Identifier=unknown),
            refused(f"Unknown extension {unknown}", "Extension.UnknownExtensionIdentifier"),
        ),
        (
            "registering twice",
            call("POST", register, "{}", Lambda_Extension_Name="probe"),
            refused(
                "State transition from Ready to Registered failed for extension probe. "
                "Error: State transition is not allowed",
                invalid,
            ),
        ),
        ("a second wait", call("GET", f"{BASE}/event/next", **mine), refused(state.format("Ready"), invalid)),
        (
            "init/error too late",
            call("POST", f"{BASE}/init/error", Lambda_Extension_Function_Error_Type="x", **mine),
            refused(state.format("InitError"), invalid),
        ),
        (
            "exit/error without a type",
            call("POST", f"{BASE}/exit/error", **mine),
            refused("Lambda-Extension-Function-Error-Type not found", "Extension.MissingHeader"),
        ),
        ("another path", call("GET", f"{BASE}/nothing"), (404, TEXT, "404 page not found\n")),
        ("another method", call("GET", register), (405, None, "")),
        (
            "another request",
            call("POST", "/2018-06-01/runtime/invocation/nope/response", "{}"),
            (400, "application/json", '{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}\n'),
        ),
    ]


@pytest.mark.fidelity(
    "1.2-second-wait",
    "1.5-body",
    "1.5-empty-name",
    "1.5-event-type",
    "1.5-configuration-keys",
    "1.5-no-identifier",
    "1.5-no-uuid",
    "1.5-unknown",
    "1.5-twice",
    "1.5-no-type",
    "4-unknown-request",
)
async def test_every_refusal_is_that_of_the_real_emulator(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    answers: list[tuple[str, Answer, Answer]] = []
    async with local_lambda(probe, platform=Platform(freeze=False)) as env:
        agent_id = probe.calls(f"POST {BASE}/register")[0]["headers"]["Lambda-Extension-Identifier"]
        thread = threading.Thread(target=lambda: answers.extend(everything(env.api, agent_id)))
        thread.start()
        await eventually(lambda: not thread.is_alive())
        result = await env.invoke()
    assert len(answers) == 13
    for name, given, expected in answers:
        assert given == expected, name
    assert result.status == "success", "none of it did any harm"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.fidelity("1.2-after-error", "1.4-underneath")
async def test_a_wait_that_exit_error_interrupts_is_refused(tmp_path: Path, first: bool) -> None:
    exit_error: dict[str, Any] = {
        "call": ["POST", f"{BASE}/exit/error"],
        "headers": {"Lambda_Extension_Function_Error_Type": "x"},
    }
    waiting = {"background": ["GET", f"{BASE}/event/next"]}
    steps = [waiting, {"sleep": 0.1}, exit_error, {"sleep": 0.1}, {"exit": 1}] if first else [exit_error, exit_error]
    probe = Probe(tmp_path, types=[], registered=steps)
    async with local_lambda(probe, handler="slow_init.handler", platform=Platform(on_init_failure="retry")):
        pass
    reason = "Concurrent state modification" if first else "State transition is not allowed"
    last = probe.calls(f"GET {BASE}/event/next")[0]
    assert last["status"] == 403
    assert "from ExitError to Ready failed for extension " in last["answer"]
    assert reason in last["answer"]
    assert [call["status"] for call in probe.calls(f"POST {BASE}/exit/error")] == [202] * (1 if first else 2)
