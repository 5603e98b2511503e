"""A function whose init takes a while."""

import time

time.sleep(0.5)


def handler(event, context):
    return "ok"
