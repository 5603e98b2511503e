"""The extension with every round of its event loop timed; benchmarks/stalls.py starts it.

For each round of more than a millisecond of CPU it appends a line to the file WATCHED_FILE: when the round ended
(seconds since the epoch), its CPU time and its duration by the clock (seconds).
"""

import os
import sys
import time
from asyncio import base_events, events

from telemetry_forwarder.bootstrap import main

_NOTED_S = 0.001
found = open(os.environ["WATCHED_FILE"], "a", buffering=1)  # noqa: SIM115 - until the process ends
run, run_once = events.Handle._run, base_events.BaseEventLoop._run_once
began = None


def _timed_run(handle):
    global began
    if began is None:
        began = time.monotonic(), time.thread_time()
    run(handle)


def _timed_round(loop):
    global began
    began = None
    run_once(loop)
    if began is not None:
        took_s, cpu_s = time.monotonic() - began[0], time.thread_time() - began[1]
        if cpu_s > _NOTED_S:
            found.write(f"{time.time()} {cpu_s} {took_s}\n")


events.Handle._run, base_events.BaseEventLoop._run_once = _timed_run, _timed_round
sys.exit(main("telemetry-forwarder", os.environ))
