"""The port for questions: there before registering, on loopback alone, and only where it is asked for."""

import json
import socket

import pytest

from telemetry_forwarder.bootstrap import listen_for_secrets
from telemetry_forwarder.lambda_api.registration import events
from telemetry_forwarder.variables.reading import read_all


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def environ(port: int, mode: str = "token", **more: str) -> dict[str, str]:
    return {"TELEMETRY_FORWARDER_SECRETS": mode, "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(port), **more}


def test_it_listens_on_loopback_alone() -> None:
    port = free_port()
    listeners = listen_for_secrets(read_all(environ(port)))
    try:
        addresses = [listener.getsockname()[:2] for listener in listeners]
        assert addresses[0] == ("127.0.0.1", port)
        assert set(addresses) <= {("127.0.0.1", port), ("::1", port)}
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=5)
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("mode", ["off", "", "on"])
def test_it_does_not_listen_where_it_is_off(mode: str) -> None:
    assert listen_for_secrets(read_all(environ(free_port(), mode))) == []


def test_a_taken_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert listen_for_secrets(read_all(environ(port))) == []
    said = json.loads(capsys.readouterr().out)["message"]
    assert said.startswith(f"Port {port} cannot be listened on, so no secrets are served: Address already in use.")
    assert "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT" in said


@pytest.mark.parametrize(
    ("init_type", "mode", "wanted"),
    [
        ("on-demand", "token", ("SHUTDOWN",)),
        ("snap-start", "token", ("INVOKE", "SHUTDOWN")),
        ("snap-start", "off", ("SHUTDOWN",)),
        ("lambda-managed-instances", "token", ("SHUTDOWN",)),
    ],
)
def test_invocations_are_registered_for_only_to_see_the_end_of_a_snapshot(
    init_type: str, mode: str, wanted: tuple[str, ...]
) -> None:
    given = environ(2773, mode, AWS_LAMBDA_INITIALIZATION_TYPE=init_type)
    assert events(read_all(given), can_listen=True) == wanted
