"""The state machine and registry of extensions: every transition, every refusal."""

import uuid

import pytest

from local_lambda.rules.extensions import Event, Extension, Extensions, State
from local_lambda.rules.refusals import Refused

INVOKE = Event("INVOKE", b"{}", "application/json", "id")
SHUTDOWN = Event("SHUTDOWN", b"{}", "text/plain", None)


def extension_in(state: State) -> Extension:
    extension = Extension("mine", external=True)
    if state is State.STARTED:
        return extension
    extension.register(["INVOKE", "SHUTDOWN"])
    if state is State.INIT_ERROR:
        extension.report_init_error("Extension.InitError")
    if state in (State.READY, State.RUNNING, State.EXIT_ERROR):
        extension.ask_next(1.0)
    if state is State.RUNNING:
        extension.release(INVOKE)
        extension.take()
    if state is State.EXIT_ERROR:
        extension.report_exit_error("Extension.ExitError")
    assert extension.state is state
    return extension


ACTIONS = {
    "register": lambda extension: extension.register([]),
    "next": lambda extension: extension.ask_next(2.0),
    "init_error": lambda extension: extension.report_init_error("x"),
    "exit_error": lambda extension: extension.report_exit_error("x"),
}
DRAWN = {
    (State.STARTED, "register"): State.REGISTERED,
    (State.REGISTERED, "next"): State.READY,
    (State.RUNNING, "next"): State.READY,
    (State.REGISTERED, "init_error"): State.INIT_ERROR,
    (State.INIT_ERROR, "init_error"): State.INIT_ERROR,
    (State.REGISTERED, "exit_error"): State.EXIT_ERROR,
    (State.READY, "exit_error"): State.EXIT_ERROR,
    (State.RUNNING, "exit_error"): State.EXIT_ERROR,
    (State.EXIT_ERROR, "exit_error"): State.EXIT_ERROR,
}
STATES = [State.STARTED, State.REGISTERED, State.READY, State.RUNNING, State.INIT_ERROR, State.EXIT_ERROR]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.fidelity("1.2-after-error", "1.3-init-error", "1.3-exit-error", "1.4-transitions")
def test_only_the_transitions_drawn_are_allowed(state: State, action: str) -> None:
    extension = extension_in(state)
    if target := DRAWN.get((state, action)):
        ACTIONS[action](extension)
        assert extension.state is target
    else:
        with pytest.raises(Refused) as caught:
            ACTIONS[action](extension)
        assert (caught.value.status, caught.value.error_type) == (403, "Extension.InvalidExtensionState")
        assert extension.state is state


@pytest.mark.fidelity("1.5-twice")
def test_registering_twice_is_refused_in_the_words_of_the_real_api() -> None:
    extensions = Extensions(["mine"])
    extensions.register("mine", b"{}")
    with pytest.raises(Refused) as caught:
        extensions.register("mine", b"{}")
    assert caught.value.body == (
        b'{"errorMessage":"State transition from Registered to Registered failed for extension mine. '
        b'Error: State transition is not allowed","errorType":"Extension.InvalidExtensionState"}\n'
    )


def test_a_busy_extension_gets_the_shutdown_with_its_next_call() -> None:
    extension = extension_in(State.RUNNING)
    extension.release(SHUTDOWN)
    assert not extension.received_shutdown
    extension.ask_next(3.0)
    assert not extension.is_idle
    assert extension.take() is SHUTDOWN
    assert extension.received_shutdown


@pytest.mark.fidelity("1.4-underneath")
def test_a_wait_whose_state_changes_underneath_is_refused() -> None:
    extension = extension_in(State.READY)
    assert not extension.has_event
    extension.report_exit_error("Extension.ExitError")
    assert extension.has_event
    with pytest.raises(Refused) as caught:
        extension.take()
    failed = f"State transition from ExitError to Ready failed for extension {extension.id}. "
    assert caught.value.message == failed + "Error: Concurrent state modification"


@pytest.mark.parametrize(
    ("code", "in_shutdown", "state", "error_type"),
    [
        (0, True, State.EXITED, None),
        (1, True, State.SHUTDOWN_FAILED, None),
        (-9, True, State.SHUTDOWN_FAILED, None),
        (0, False, State.RUNNING, "Extension.Crash"),
    ],
)
@pytest.mark.fidelity("1.2-exit-0")
def test_the_end_of_a_process_is_judged_by_its_moment(
    code: int, in_shutdown: bool, state: State, error_type: str | None
) -> None:
    extension = extension_in(State.RUNNING)
    extension.exited(code, in_shutdown=in_shutdown)
    assert (extension.state, extension.error_type) == (state, error_type)


def test_the_first_error_gives_the_end_its_name() -> None:
    extension = extension_in(State.EXIT_ERROR)
    extension.exited(1, in_shutdown=False)
    assert (extension.state, extension.error_type) == (State.EXIT_ERROR, "Extension.ExitError")


@pytest.mark.parametrize(
    ("name", "body", "error_type", "message"),
    [
        ("", b"{}", "Extension.InvalidExtensionName", "Empty extension name"),
        ("mine", b"{", "InvalidRequestFormat", ""),
        ("mine", b"[]", "InvalidRequestFormat", ""),
        ("mine", b'{"events":"INVOKE"}', "InvalidRequestFormat", ""),
        (
            "mine",
            b'{"configurationKeys":["a"]}',
            "InvalidRequestFormat",
            "configurationKeys are deprecated; use environment variables instead",
        ),
        ("mine", b'{"events":["NAP"]}', "Extension.InvalidEventType", "NAP: ErrorInvalidEventType"),
        (
            "inside",
            b'{"events":["SHUTDOWN"]}',
            "Extension.InvalidEventType",
            "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
        ),
    ],
)
@pytest.mark.fidelity("1.5-bad-json", "1.5-internal-shutdown")
def test_a_registration_is_checked(name: str, body: bytes, error_type: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        Extensions(["mine"]).register(name, body)
    assert (caught.value.status, caught.value.error_type) == (403, error_type)
    assert message in caught.value.message


@pytest.mark.fidelity("1.5-internal-twice", "1.5-closed")
def test_internal_extensions_come_while_registration_is_open_each_under_its_own_name() -> None:
    extensions = Extensions(["mine"])
    extensions.register("inside", b'{"events":["INVOKE"]}')
    with pytest.raises(Refused, match="Extension with this name already registered"):
        extensions.register("inside", b"{}")
    extensions.is_closed = True
    with pytest.raises(Refused, match="Extension registration closed already"):
        extensions.register("another", b"{}")


@pytest.mark.fidelity("1.5-too-many")
def test_there_are_ten_at_most() -> None:
    extensions = Extensions([str(number) for number in range(9)])
    extensions.register("inside", b"{}")
    with pytest.raises(Refused, match=r"TooManyExtensions: Extension limit \(10\) reached"):
        extensions.register("another", b"{}")


@pytest.mark.fidelity("1.5-managed-invoke")
def test_managed_instances_refuse_invoke() -> None:
    with pytest.raises(Refused, match="InvalidEventType"):
        Extensions(["mine"], managed=True).register("mine", b'{"events":["INVOKE"]}')
    assert Extensions(["mine"], managed=True).register("mine", b'{"events":["SHUTDOWN"]}').events == ("SHUTDOWN",)


@pytest.mark.fidelity("1.5-no-identifier", "1.5-no-uuid", "1.5-unknown")
def test_an_identifier_is_checked() -> None:
    extensions = Extensions(["mine"])
    unknown = str(uuid.uuid4())
    for identifier, error_type in [
        (None, "Extension.MissingExtensionIdentifier"),
        ("", "Extension.MissingExtensionIdentifier"),
        ("me", "Extension.InvalidExtensionIdentifier"),
        (unknown, "Extension.UnknownExtensionIdentifier"),
        (extensions["mine"].id, "Extension.UnknownExtensionIdentifier"),  # not registered yet
    ]:
        with pytest.raises(Refused) as caught:
            extensions.find(identifier)
        assert caught.value.error_type == error_type
    extension = extensions.register("mine", b"{}")
    assert extensions.find(extension.id.upper()) is extension


def test_only_those_who_asked_for_an_event_are_waited_for() -> None:
    extensions = Extensions(["holds", "only-shutdown"])
    extensions.register("holds", b'{"events":["INVOKE"]}').ask_next(1.0)
    extensions.register("only-shutdown", b'{"events":["SHUTDOWN"]}')
    assert extensions.all_registered()
    assert extensions.all_ready("INVOKE")
    assert not extensions.all_ready()
    extensions["holds"].release(INVOKE)
    assert not extensions.all_ready("INVOKE"), "an event on its way is not idleness"
