"""The pytest plugin of the local Lambda. pytest loads it wherever the package is installed, so it imports nothing slow.

- `local_lambda`: `env = await local_lambda(extension, …)` opens an environment, which is closed at the test's end.
- `conformance_check`: a test with this fixture runs once for each check of the conformance suite, against the
  extension that the fixture `conformance_subject` returns. The test calls the value of the fixture.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from local_lambda.conformance import Delivered, Limits, Subject, Suite
    from local_lambda.local_lambda import LocalLambda
    from local_lambda.settings import Function, Platform

CHECK = "conformance_check"


class OpenLambda(Protocol):
    """The type of the fixture `local_lambda`."""

    def __call__(
        self, *extensions: "Path", function: "Function | None" = None, platform: "Platform | None" = None
    ) -> Awaitable["LocalLambda"]:
        """Open an environment with these extensions, for the given function or for one that does nothing."""
        ...


async def _local_lambda() -> AsyncIterator[OpenLambda]:
    from local_lambda.conformance.scenarios import FUNCTION
    from local_lambda.local_lambda import LocalLambda
    from local_lambda.settings import Function

    async with AsyncExitStack() as stack:

        async def opened(
            *extensions: "Path", function: Function | None = None, platform: "Platform | None" = None
        ) -> LocalLambda:
            env = LocalLambda(function or Function(code=FUNCTION), extensions, platform=platform)
            return await stack.enter_async_context(env)

        yield opened


def _no_pytest_asyncio() -> None:
    pytest.fail("The fixture local_lambda needs pytest-asyncio.")


try:
    import pytest_asyncio
except ImportError:  # the conformance suite does not need it
    local_lambda: Any = pytest.fixture(name="local_lambda")(_no_pytest_asyncio)
else:
    local_lambda = pytest_asyncio.fixture(name="local_lambda")(_local_lambda)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that has the fixture `conformance_check` once per check."""
    if CHECK in metafunc.fixturenames:
        from local_lambda.conformance import CHECKS

        metafunc.parametrize(CHECK, [check.name for check in CHECKS], indirect=True)


@pytest.fixture(scope="module")
def conformance_limits() -> "Limits":
    """Return the thresholds of the checks; override this fixture to change them."""
    from local_lambda.conformance import Limits

    return Limits()


@pytest.fixture(scope="module")
def conformance_delivered() -> "Delivered | None":
    """Return a function that tells the suite what reached the destination; without an override that is not checked."""
    return None


@pytest.fixture(scope="module")
def conformance_suite(
    conformance_subject: "Subject", conformance_limits: "Limits", conformance_delivered: "Delivered | None"
) -> "Suite":
    """Return the suite of this module. Each of its environments is made once, by the first check that needs it."""
    from local_lambda.conformance import Suite

    return Suite(conformance_subject, conformance_limits, conformance_delivered)


@pytest.fixture
def conformance_check(request: pytest.FixtureRequest, conformance_suite: "Suite") -> Callable[[], None]:
    """Return a function that makes the check: a fault fails the test, no verdict skips it, a note passes.

    The note is a section of the test's report (shown by -rP) and a property of it, `note`, in JUnit XML.
    """

    def check() -> None:
        from local_lambda.conformance import Outcome

        verdict = asyncio.run(conformance_suite.verdict(request.param))
        if verdict.is_failure:
            pytest.fail(str(verdict), pytrace=False)
        if verdict.outcome is Outcome.NOTE:
            request.node.add_report_section("call", "note", str(verdict))
            request.node.user_properties.append(("note", str(verdict)))
        elif verdict.outcome is not Outcome.PASSED:
            pytest.skip(f"{verdict.outcome}: {verdict.seen}")

    return check
