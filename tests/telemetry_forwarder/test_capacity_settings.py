"""What a sink may hold, in memory and on disk, as the environment says it."""

import pytest

from telemetry_forwarder.delivery.buffer import WhenFull
from telemetry_forwarder.delivery.worker import Capacity
from telemetry_forwarder.settings import Settings, Spooling
from telemetry_forwarder.variables.reading import read_all

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("memory", "size_mib"), [("128", 4), ("256", 8), ("512", 16), ("1024", 32), ("10240", 32), ("", 4)]
)
def test_the_default_is_a_share_of_the_functions_memory(memory: str, size_mib: int) -> None:
    """It is the function's memory that is taken; a record takes a kilobyte beside its text."""
    settings = Settings.from_values(read_all({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory}))
    assert settings.capacity == Capacity(size_mib * 1024, size_mib * MIB, WhenFull.SPILL)
    assert settings.spooling == Spooling(path="/tmp/telemetry-forwarder", max_bytes=64 * MIB, is_strict=False)
    assert settings.problems == ()


def test_all_of_it_can_be_set() -> None:
    settings = Settings.from_values(
        read_all(
            {
                "TELEMETRY_FORWARDER_BUFFER_BYTES": "2000000",
                "TELEMETRY_FORWARDER_BUFFER_RECORDS": "1234",
                "TELEMETRY_FORWARDER_SPOOL_BYTES": "9000000",
                "TELEMETRY_FORWARDER_SPOOL_DIR": "/tmp/elsewhere",
                "TELEMETRY_FORWARDER_DURABILITY": "strict",
            }
        )
    )
    assert settings.capacity == Capacity(1234, 2_000_000, WhenFull.SPILL)
    assert settings.spooling == Spooling(path="/tmp/elsewhere", max_bytes=9_000_000, is_strict=True)


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
def test_who_drops_has_no_spool(when_full: str) -> None:
    settings = Settings.from_values(read_all({"TELEMETRY_FORWARDER_WHEN_FULL": when_full}))
    assert (settings.capacity.when_full, settings.spooling) == (when_full, None)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("BUFFER_BYTES", "10", "1048576 to 1073741824"),
        ("BUFFER_RECORDS", "many", "1000 to 10000000"),
        ("WHEN_FULL", "block", "`spill`, `drop_oldest`, `drop_newest`"),
        ("SPOOL_BYTES", "1000000", "8388608 to 8589934592"),
        ("SPOOL_DIR", "spool", "an absolute path below /"),
        ("SPOOL_DIR", "./spool", "an absolute path below /"),
        ("SPOOL_DIR", "/", "an absolute path below /"),
        ("SPOOL_DIR", "//.", "an absolute path below /"),
        ("DURABILITY", "paranoid", "`relaxed`, `strict`"),
    ],
)
def test_what_is_wrong_is_named_and_left_out(name: str, text: str, allowed: str) -> None:
    settings = Settings.from_values(read_all({f"TELEMETRY_FORWARDER_{name}": text}))
    (problem,) = settings.problems
    assert str(problem).startswith(f"TELEMETRY_FORWARDER_{name} is '{text}'; allowed: {allowed}.")
    assert settings.capacity == Settings.from_values(read_all({})).capacity
    assert settings.spooling == Settings.from_values(read_all({})).spooling
