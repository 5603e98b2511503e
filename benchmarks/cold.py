"""What a cold start costs: until `/register`, in INIT, in the first response, and behind it."""

import asyncio
import socket
import threading
import time
from pathlib import Path

from benchmarks.measure import free_port, median, run_cpu_s
from benchmarks.subjects import NOTHING, OURS, Subject
from benchmarks.world import world

# The sizes of a function: one full processor; and a small one, where INIT is cheap and what follows is not.
SIZES = (1769, 256)
BUSY_INIT_MS = 200


class Refusing:
    """An Extensions API that refuses every registration, so that the process ends right after it."""

    def __enter__(self) -> "Refusing":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked_at = 0.0
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.asked_at = time.perf_counter()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def until_register(subjects: list[Subject], python: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return for each subject the ms from exec to the call of `/register`, wall and CPU, and for the interpreter."""
    bare = [str(python), "-I", "-S", "-c", "pass"]
    found: dict[str, list[tuple[float, float]]] = {"pass": []}
    with Refusing() as api:
        for _ in range(rounds):
            cpu, wall = run_cpu_s(bare)
            found["pass"].append((wall, cpu))
            for subject in subjects:
                if subject.executable is None:
                    continue
                environment = {
                    "PATH": "/usr/bin:/bin",
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                    "TELEMETRY_FORWARDER_PORT": str(free_port()),
                    "SPLUNK_HEC_URL": "http://127.0.0.1:1",
                    "SPLUNK_HEC_TOKEN": "t",
                }
                began = time.perf_counter()
                cpu, _ = run_cpu_s([str(subject.executable)], environment)
                found.setdefault(subject.name, []).append((api.asked_at - began, cpu))
    bare_runs = found["pass"]
    return {
        name: {
            "wall_ms": median([wall for wall, _ in runs]) * 1000,
            "cpu_ms": median([cpu for _, cpu in runs]) * 1000,
            "wall_ratio": median([run[0] / bare_run[0] for run, bare_run in zip(runs, bare_runs, strict=True)]),
            "cpu_ratio": median([run[1] / bare_run[1] for run, bare_run in zip(runs, bare_runs, strict=True)]),
        }
        for name, runs in found.items()
    }


async def once(subject: Subject, memory_mb: int, init_cpu_ms: int, **environment: str) -> dict[str, float]:
    """Start one environment and invoke it once; times in ms."""
    began = time.perf_counter()
    async with world(subject, memory_mb, init_cpu_ms=init_cpu_ms, **environment) as w:
        init = (time.perf_counter() - began) * 1000
        result = await w.env.invoke({})
        if result.status != "success":
            raise RuntimeError(f"{subject.name}: the first invocation ended as {result.status}")
        return {
            "init": init,
            "response": init + (result.response_ms or 0.0),
            "held": result.extension_overhead_ms or 0.0,
        }


async def starts(
    subjects: list[Subject], memory_mb: int, init_cpu_ms: int, rounds: int, **environment: str
) -> dict[str, dict[str, float]]:
    """Return medians for each subject: `init` and `response` as added to what no extension takes; `held` as it is."""
    found: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            found[subject.name].append(await once(subject, memory_mb, init_cpu_ms, **environment))
    bare = found[NOTHING]
    table = {}
    for name, runs in found.items():
        table[name] = {
            "init_added": median([a["init"] - b["init"] for a, b in zip(runs, bare, strict=True)]),
            "response_added": median([a["response"] - b["response"] for a, b in zip(runs, bare, strict=True)]),
            "held": median([a["held"] for a in runs]),
            "init": median([a["init"] for a in runs]),
        }
    return table


if __name__ == "__main__":  # one figure alone, while working on it
    import sys
    import tempfile

    from benchmarks.subjects import subjects

    with tempfile.TemporaryDirectory() as folder:
        all_of_them = subjects(Path(folder), Path(sys.executable), None, None)
        wanted = [one for one in all_of_them if one.name in (NOTHING, OURS)]
        for size in SIZES:
            print(size, asyncio.run(starts(wanted, size, 0, 7)))
