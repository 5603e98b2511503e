"""What Lambda's event source mapping does between a queue and a function, for workers that can be killed.

Each worker is a process of its own with one environment of the function: it gets one event at a time. The mapping
receives messages, invokes, deletes what was done, and leaves the rest to the queue: what the function reports in
`batchItemFailures`, and all of a batch whose worker ended, was killed, or exceeded its time.

Source: AWS Lambda Developer Guide, "Using Lambda with Amazon SQS" (read 2026-11-28): the shape of events, partial batch
responses; a response without `batchItemFailures` deletes all, an unknown identifier fails the whole batch.
"""

import asyncio
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["telemetry_forwarder.replay.function", __name__])  # else each start takes 0.6 s of CPU


class Context:
    """Lambda's context object, of one invocation."""

    def __init__(self, timeout_s: float, request_id: str) -> None:
        self._ends_at = time.monotonic() + timeout_s
        self.aws_request_id = request_id

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends_at - time.monotonic()) * 1000))


def work(connection: Connection, environ: Mapping[str, str]) -> None:
    """Be one environment of the function: handle events that come over `connection` until it is closed."""
    os.environ.clear()
    os.environ.update(environ)
    from telemetry_forwarder.replay.function import handler

    while True:
        try:
            event, timeout_s, request_id = connection.recv()
        except EOFError:
            return
        try:
            answer = {"result": handler(event, Context(timeout_s, request_id))}
        except Exception as error:  # noqa: BLE001 - as Lambda's runtime does
            answer = {"error": f"{type(error).__name__}: {error}"}
        connection.send(answer)


class Worker:
    """One process; `invoke` starts it if there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._process: Any = None
        self._connection: Connection | None = None
        self.is_busy = False

    def invoke(self, event: Any, timeout_s: float, request_id: str) -> Any:
        """Return what the handler returned; None if its process ended or took too long. Blocks."""
        if self._process is not None and not self._process.is_alive():  # it was killed while it was idle
            self.end()
        if self._process is None:
            self._connection, theirs = _FORKS.Pipe()
            process = _FORKS.Process(target=work, args=(theirs, self._environ), daemon=True)
            process.start()
            theirs.close()
            self._process = process
        assert self._connection is not None
        self.is_busy = True
        try:
            self._connection.send((event, timeout_s, request_id))
            if self._connection.poll(timeout_s):
                return self._connection.recv()
        except (EOFError, OSError):  # it was killed
            pass
        finally:
            self.is_busy = False
        self.kill()
        return None

    def kill(self) -> None:
        if (process := self._process) is not None:
            process.kill()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None


@dataclass
class EventSource:
    """A mapping from the queue `url` to workers; `run` polls until it is empty."""

    sqs: Any
    url: str
    arn: str
    environ: Mapping[str, str]
    concurrency: int
    timeout_s: float
    batch_size: int = 10
    invocations: int = 0
    killed: int = 0  # at work
    failed_items: int = 0
    errors: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    async def run(self) -> None:
        """Poll, and invoke workers that are idle, until nothing is in the queue, visible or not."""
        self.workers = [Worker(self.environ) for _ in range(self.concurrency)]
        idle: asyncio.Queue[Worker] = asyncio.Queue()
        for worker in self.workers:
            idle.put_nowait(worker)
        with ThreadPoolExecutor(self.concurrency) as threads:
            try:
                async with asyncio.TaskGroup() as group:
                    while True:
                        worker = await idle.get()
                        if messages := await self._receive():
                            group.create_task(self._serve(worker, messages, threads, idle))
                            continue
                        idle.put_nowait(worker)
                        if await self.left() == (0, 0):
                            return
                        await asyncio.sleep(0.5)
            finally:
                for worker in self.workers:
                    worker.end()

    def kill_one(self) -> None:
        """Kill a worker by SIGKILL, whatever it does; count it if that was work."""
        worker = random.choice(self.workers)
        self.killed += worker.is_busy
        worker.kill()

    async def _serve(
        self,
        worker: Worker,
        messages: Sequence[dict[str, Any]],
        threads: ThreadPoolExecutor,
        idle: asyncio.Queue[Worker],
    ) -> None:
        await self._invoke(worker, messages, threads)
        idle.put_nowait(worker)

    async def _receive(self) -> list[dict[str, Any]]:
        answer = await self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=self.batch_size,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", ()))

    async def _invoke(self, worker: Worker, messages: Sequence[dict[str, Any]], threads: ThreadPoolExecutor) -> None:
        self.invocations += 1
        event = {"Records": [self._record(message) for message in messages]}
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            threads, worker.invoke, event, self.timeout_s, f"{random.getrandbits(64):016x}"
        )
        if answer is None:
            worker.end()
            return
        if "error" in answer:
            self.errors.append(answer["error"])
            return
        failed = {one["itemIdentifier"] for one in answer["result"]["batchItemFailures"]}
        assert failed <= {message["MessageId"] for message in messages}
        self.failed_items += len(failed)
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            entries = [{"Id": one["MessageId"], "ReceiptHandle": one["ReceiptHandle"]} for one in done]
            await self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        attributes = {
            name: {"stringValue": value.get("StringValue"), "dataType": value["DataType"]}
            for name, value in message.get("MessageAttributes", {}).items()
        }
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": attributes,
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn,
            "awsRegion": self.arn.split(":")[3],
        }

    async def left(self) -> tuple[int, int]:
        """Return how many messages are visible in the queue (or delayed), and how many are not."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
        )
        answer = await self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=list(names))
        visible, delayed, hidden = (int(answer["Attributes"][name]) for name in names)
        return visible + delayed, hidden


@asynccontextmanager
async def killing(source: EventSource, every_s: float) -> AsyncIterator[None]:
    """In this block, kill a worker every `every_s` seconds."""

    async def kill() -> None:
        while True:
            await asyncio.sleep(every_s)
            if source.workers:
                source.kill_one()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(kill())
        try:
            yield
        finally:
            task.cancel()
