"""What an invocation used of the machine is the difference of two samples; what cannot be read is said once."""

from pathlib import Path

from telemetry_forwarder.usage import Usage
from tests.builders import ManualClock

STAT = "cpu  {user} 10 {system} 1000 0 0 0 0 0 0\ncpu0 1 2 3 4\n"
NETWORK = """Inter-|   Receive                |  Transmit
 face |bytes    packets errs … |bytes    packets errs …
    lo: 9999999  1 0 0 0 0 0 0 9999999 1 0 0 0 0 0 0
  eth0:{received}  1  0  0  0  0  0  0   {sent}  1  0  0  0  0  0  0
"""


def machine(proc: Path, user: int, system: int, received: int, sent: int) -> None:
    (proc / "net").mkdir(exist_ok=True)
    (proc / "stat").write_text(STAT.format(user=user, system=system))
    (proc / "net/dev").write_text(NETWORK.format(received=received, sent=sent))


def test_an_invocation_s_use_is_what_came_between_its_begin_and_its_end(tmp_path: Path) -> None:
    said: list[str] = []
    for process, descriptors in (("1", 3), ("27", 2)):
        for name in [f"fd/{number}" for number in range(descriptors)] + [f"task/{process}"]:
            (tmp_path / process / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / process / name).touch()
    usage = Usage(said.append, ManualClock(), str(tmp_path), str(tmp_path))
    machine(tmp_path, 100, 50, 1000, 500)
    usage.begin()
    machine(tmp_path, 130, 60, 1700, 900)
    found = {point.name.removeprefix("lambda."): point.value for point in usage.end()}
    assert {"cpu_user_time": 300.0, "cpu_system_time": 100.0, "rx_bytes": 700, "tx_bytes": 400}.items() <= found.items()
    assert (found["fd_use"], found["threads_use"]) == (5, 2)
    assert 0 <= found["tmp_used"] <= found["tmp_max"]  # type: ignore[operator]
    assert not said


def test_there_is_no_use_without_a_begin(tmp_path: Path) -> None:
    machine(tmp_path, 100, 50, 1000, 500)
    usage = Usage(lambda text: None, ManualClock(), str(tmp_path), str(tmp_path))
    assert usage.end() == []
    usage.begin()
    assert usage.end()
    assert usage.end() == []


def test_counters_that_went_back_are_left_out(tmp_path: Path) -> None:
    """As after a restore from a snapshot."""
    usage = Usage(lambda text: None, ManualClock(), str(tmp_path), str(tmp_path))
    machine(tmp_path, 100, 50, 1000, 500)
    usage.begin()
    machine(tmp_path, 10, 60, 10, 900)
    assert not {"lambda.cpu_user_time", "lambda.rx_bytes"} & {point.name for point in usage.end()}


def test_a_machine_that_cannot_be_read_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    usage = Usage(said.append, ManualClock(), str(tmp_path / "nothing"), str(tmp_path))
    for _ in range(3):
        usage.begin()
        assert {point.name for point in usage.end()} <= {"lambda.tmp_used", "lambda.tmp_max"}
    assert len(said) == 1
    assert "nothing" in said[0]


def test_the_real_machine_can_be_read() -> None:
    said: list[str] = []
    usage = Usage(said.append, ManualClock())
    usage.begin()
    assert {"lambda.cpu_user_time", "lambda.fd_use", "lambda.tmp_used"} <= {point.name for point in usage.end()}
    assert not said


def test_what_is_in_use_is_looked_at_now_and_then(tmp_path: Path) -> None:
    """It costs more than all the rest."""
    machine(tmp_path, 100, 50, 1000, 500)
    clock = ManualClock()
    usage = Usage(lambda text: None, clock, str(tmp_path), str(tmp_path))
    seen = []
    for _ in range(4):
        usage.begin()
        seen.append("lambda.tmp_used" in {point.name for point in usage.end()})
        clock.pass_by(6.0)
    assert seen == [True, False, True, False]
