"""A function that ends as it is told: each event is a list of steps, such as ["say", "hello"]."""

import ctypes
import os
import time
from pathlib import Path


def first_time():
    """Say whether this is the first init in this environment."""
    marker = Path(os.environ["FIRST_INIT"])
    is_first = not marker.exists()
    marker.touch()
    return is_first


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.005)


def allocate(megabytes):
    held = bytearray(megabytes * 1024 * 1024)
    held[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(held[:: os.sysconf("SC_PAGESIZE")])  # touch every page


def fail(what):
    raise ValueError(what)


STEPS = {
    "say": lambda text: print(text, flush=True),
    "sleep": time.sleep,
    "wait for": wait_for,
    "allocate": allocate,
    "fail": fail,
    "exit": os._exit,
    "crash": lambda address: ctypes.string_at(address),
}

if "INIT" in os.environ:
    print("connecting to the database", flush=True)
    if os.environ["INIT"] == "fails":
        fail("no database")
    if os.environ["INIT"] == "hangs once" and first_time():
        time.sleep(60)


def handler(event, context):
    for step, argument in event:
        STEPS[step](argument)
    return "ok"
