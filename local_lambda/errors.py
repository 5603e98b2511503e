"""The exceptions of the local Lambda. Each message is one sentence: what was given, and what is wrong with it."""


class EmulatorError(Exception):
    """The root of all of them."""


class InvalidSetting(EmulatorError):
    """A member of `Function` or `Platform`, or an argument, cannot be."""


class FunctionNotFound(EmulatorError):
    """The directory with the function's code, or the module that the handler names, is not there."""


class ExtensionNotFound(EmulatorError):
    """An extension, or the directory that should hold some, is not there or not a file."""


class InvalidLayer(EmulatorError):
    """A layer is not there, is no ZIP file, or is beyond what Lambda allows."""


class TooManyExtensions(EmulatorError):
    """More than ten executables. Source: Lambda quotas; `Extension.TooManyExtensions`."""


class AddressInUse(EmulatorError):
    """The port that was asked for is taken."""


class LimitsUnavailable(EmulatorError):
    """A control group was asked for by name, and the system does not let one be made."""


class InitFailed(EmulatorError):
    """The environment did not come up; `error_type` is Lambda's name for the reason."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"The environment did not come up ({error_type}): {message}")
        self.error_type = error_type
        self.reason = message


class EnvironmentClosed(EmulatorError):
    """The environment was shut down or killed, or is not open yet, so it cannot be invoked."""


class Throttled(EmulatorError):
    """All environments of a fleet are busy."""


class WaitedTooLong(EmulatorError):
    """What a test or a user waited for did not happen in time."""
