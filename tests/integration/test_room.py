"""A room by itself: programs are started in it and end, whatever becomes of who asked."""

import asyncio
import os
from pathlib import Path

import pytest

from local_lambda.machine.rooms import Plan, Room, why_not
from tests.integration.local_lambda_probe import eventually, state_of

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no mount namespaces here: {why_not()}")

PLAN = Plan(address="127.9.9.9")
VARIABLES = {"PATH": "/usr/bin:/bin"}


async def start(room: Room, *argv: str, out: int) -> tuple[int, asyncio.Future[int]]:
    return await room.start(argv, cwd=Path("/"), variables=VARIABLES, fds=[out, out], log_fd=3)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def null() -> int:
    return os.open(os.devnull, os.O_WRONLY)


async def test_exit_codes_and_signals_are_told(null: int) -> None:
    room = await Room.open(PLAN)
    ended = [(await start(room, "sh", "-c", how, out=null))[1] for how in ("exit 0", "exit 7", "kill -9 $$")]
    assert [await one for one in ended] == [0, 7, -9]
    room.close()


async def test_what_cannot_be_executed_is_an_error_and_the_room_goes_on(null: int) -> None:
    room = await Room.open(PLAN)
    with pytest.raises(FileNotFoundError):
        await start(room, "/nowhere", out=null)
    with pytest.raises(PermissionError):
        await start(room, "/etc/hosts", out=null)
    assert await (await start(room, "true", out=null))[1] == 0
    room.close()


async def test_who_was_cancelled_gets_no_process_and_takes_nobody_elses(null: int) -> None:
    room = await Room.open(PLAN)
    first = asyncio.create_task(start(room, "sleep", "60", out=null))
    await asyncio.sleep(0)  # it has asked by now, and is not answered yet
    second = asyncio.create_task(start(room, "sh", "-c", "exit 5", out=null))
    await asyncio.sleep(0)
    first.cancel()
    _, ended = await second
    assert await ended == 5
    await eventually(lambda: not room._running)  # nor has it left one behind
    room.close()


async def test_a_room_that_is_closed_leaves_no_process(null: int) -> None:
    room = await Room.open(PLAN)
    pid, _ = await start(room, "sh", "-c", "sleep 60 & sleep 60", out=null)
    room.close()
    await eventually(lambda: state_of(pid) is None)


async def test_a_keeper_that_dies_takes_its_processes_along_and_nobody_waits_for_it(null: int) -> None:
    room = await Room.open(PLAN)
    pid, ended = await start(room, "sleep", "60", out=null)
    os.kill(parent_of(pid), 9)
    assert await asyncio.wait_for(ended, 5) == -9
    await eventually(lambda: state_of(pid) is None)
    room.close()
