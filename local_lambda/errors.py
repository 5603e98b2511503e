"""The exceptions of the local Lambda. Each message is one sentence: the value given, and what is wrong with it."""


class EmulatorError(Exception):
    """The base class of all exceptions here."""


class AskedWrongly(EmulatorError):
    """The base class of what is asked for and cannot be; nothing was started."""


class InvalidSetting(AskedWrongly):
    """A field of `Function` or `Platform`, or an argument, has a value that is not allowed."""


class FunctionNotFound(AskedWrongly):
    """The directory with the function's code, or the module that the handler names, does not exist."""


class InvalidCode(AskedWrongly):
    """The function's code is no ZIP file, or exceeds Lambda's limits together with the layers."""


class InvalidTemplate(AskedWrongly):
    """A SAM template cannot be read, or does not say what a function needs."""


class ExtensionNotFound(AskedWrongly):
    """An extension, or the directory of extensions, does not exist or is not a file."""


class InvalidLayer(AskedWrongly):
    """A layer does not exist, is not a ZIP file, or exceeds Lambda's limits."""


class TooManyExtensions(AskedWrongly):
    """There are more than ten executables. Source: Lambda quotas; `Extension.TooManyExtensions`."""


class AddressInUse(EmulatorError):
    """The requested port is already in use."""


class LimitsUnavailable(EmulatorError):
    """The settings require a control group, and the system does not let one be created."""


class InitFailed(EmulatorError):
    """The environment failed to start; `error_type` is Lambda's name for the reason."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"The environment did not come up ({error_type}): {message}")
        self.error_type = error_type
        self.reason = message


class EnvironmentClosed(EmulatorError):
    """The environment cannot be invoked: it was shut down or killed, or is not open yet."""


class Throttled(EmulatorError):
    """All environments of a fleet are busy."""


class WaitedTooLong(EmulatorError):
    """The event that a test or a user waited for did not happen in time."""
