"""The sample function of the tests: it does what the event says."""

import json
import logging
import os
import sys
import time

cold = True


def handler(event, context):
    global cold
    was_cold, cold = cold, False
    event = event or {}
    for text in event.get("print", []):
        print(text)
    for text in event.get("log", []):
        logging.getLogger().warning(text)
    time.sleep(event.get("sleep", 0))
    if "allocate_mb" in event:
        held = bytearray(event["allocate_mb"] * 1024 * 1024)
        held[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(held[:: os.sysconf("SC_PAGESIZE")])  # touch every page
        del held
    if "busy" in event:
        began = time.process_time()
        while time.process_time() - began < event["busy"]:
            pass
    if "raise" in event:
        raise ValueError(event["raise"])
    if "exit" in event:
        sys.stdout.flush()
        os._exit(event["exit"])
    if event.get("big"):
        return "x" * event["big"]
    answer = {"request_id": context.aws_request_id, "cold": was_cold, "pid": os.getpid()}
    if event.get("environ"):
        answer["environ"] = dict(os.environ)
    if event.get("left"):
        answer["left_ms"] = context.get_remaining_time_in_millis()
    if event.get("client_context"):
        answer["client_context"] = context.client_context.custom
    return json.loads(json.dumps(answer))
