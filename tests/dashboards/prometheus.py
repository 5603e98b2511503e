"""What a Prometheus-like store makes of OTLP metrics, and Prometheus' own engine of queries over it.

The names and labels follow Prometheus; the queries are carried out by its `promtool test rules`.
    python -m tests.dashboards.prometheus [--mirror URL]                 `make promtool`
fetches that from Debian's archive into build/promtool, verified and without installing anything.
Source: OpenTelemetry, "Prometheus and OpenMetrics Compatibility"; Prometheus, "Using Prometheus as your OpenTelemetry
backend" and "Feature flags" (native delta support); read 2026-11-28, and tried with Prometheus 3.16.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from layer.commands import say
from layer.debian import Archive
from layer.errors import Refused
from local_backends.otlp import OtlpItem
from local_backends.otlp_messages import attributes_of
from tests.dashboards.expressions import Unsupported

FETCHED = Path(__file__).resolve().parents[2] / "build" / "promtool"
_SUITE = "stable"
_UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "ratio"}
Labels = tuple[tuple[str, str], ...]
# The values of each series by the second; one that Prometheus keeps as it came, or the sum of all up to it.
Series = Mapping[Labels, Mapping[int, float]]


def promtool() -> str | None:
    """Return the program, one that is installed or else what was fetched; None without."""
    program = FETCHED / "promtool"
    return shutil.which("promtool") or (str(program) if program.is_file() else None)


def series_of(items: Sequence[OtlpItem], *, is_summed: bool) -> Series:
    """Return the series that a store has of metrics.

    `is_summed`: something before it has added up the deltas of each series (`deltatocumulative`), without regard to the
    environment. A sum begins with a zero here, as one that was there before: Prometheus' `increase` never counts the
    first value of a series.
    """
    found: dict[Labels, dict[int, float]] = {}
    gauges = set()
    for item in items:
        job = (("job", str(item.resource["service.name"])),)
        for name, labels, second, value, is_delta in _samples(item.item):
            key = (("__name__", name), *job, *labels)
            values = found.setdefault(key, {})
            values[second] = values.get(second, 0.0) + value if is_delta else value
            if not is_delta:
                gauges.add(key)
    if not is_summed:
        return found
    return {key: values if key in gauges else _added_up(values) for key, values in found.items()}


def _added_up(values: Mapping[int, float]) -> dict[int, float]:
    total, sums = 0.0, {min(values) - 1: 0.0}
    for second in sorted(values):
        total += values[second]
        sums[second] = total
    return sums


def _samples(metric: Mapping[str, Any]) -> Iterator[tuple[str, Labels, int, float, bool]]:
    """Yield name, labels, second and value of each sample of a metric, and whether it is a delta."""
    kind = next(kind for kind in ("sum", "gauge", "histogram") if kind in metric)
    name = _name(metric["name"], metric.get("unit", ""), kind, metric[kind].get("isMonotonic", False))
    for point in metric[kind]["dataPoints"]:
        labels = tuple(sorted((_label(key), str(value)) for key, value in attributes_of(point).items()))
        second = int(point["timeUnixNano"]) // 1_000_000_000
        if kind == "histogram":
            yield f"{name}_count", labels, second, float(point["count"]), True
            yield f"{name}_sum", labels, second, float(point["sum"]), True
            count = 0
            for bound, here in zip([*point["explicitBounds"], math.inf], point["bucketCounts"], strict=True):
                count += int(here)
                le = (("le", "+Inf" if bound == math.inf else repr(float(bound))),)
                yield f"{name}_bucket", (*labels, *le), second, float(count), True
        else:
            value = float(point["asDouble"] if "asDouble" in point else point["asInt"])
            yield name, labels, second, value, kind == "sum"


def _name(name: str, unit: str, kind: str, is_monotonic: bool) -> str:
    """Return the name with its unit, if it is none in braces, and with `_total` for what only grows."""
    parts = re.sub(r"\W", "_", name).split("_")
    suffix = None if unit.startswith("{") or (unit == "1" and kind != "gauge") else _UNITS.get(unit)
    if unit and suffix is None and not unit.startswith("{") and unit != "1":
        raise Unsupported(f"the unit {unit}")
    if suffix is not None and suffix not in parts:
        parts.append(suffix)
    if kind == "sum" and is_monotonic:
        parts = [part for part in parts if part != "total"] + ["total"]
    return "_".join(parts)


def _label(name: str) -> str:
    return re.sub(r"\W", "_", name)


def query(expressions: Sequence[str], series: Series) -> list[dict[Labels, float]]:
    """Return what Prometheus answers to each expression, an hour after the first value.

    Raises Unsupported for what it does not take, RuntimeError if promtool cannot be run.
    """
    program = promtool()
    if program is None:
        raise RuntimeError("promtool is not there: make promtool")
    first = min(second for values in series.values() for second in values)
    asked = [
        # A sample that is never there: promtool says what it found instead.
        {"expr": one, "eval_time": "1h", "exp_samples": [{"labels": "expected_nothing", "value": 0}]}
        for one in expressions
    ]
    test = {
        "interval": "1s",
        "input_series": [
            {"series": _selector(labels), "values": _values(values, first)} for labels, values in series.items()
        ],
        "promql_expr_test": asked,
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "queries.json"  # which is YAML, too
        file.write_text(json.dumps({"evaluation_interval": "1s", "tests": [test]}))
        done = subprocess.run([program, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    answers = re.findall(r"^ +expr: .*?(?=^ +expr: |\Z)", said, re.MULTILINE | re.DOTALL)
    if len(answers) != len(expressions):
        raise RuntimeError(f"promtool: {said[:2000]}")
    return [_answer(one) for one in answers]


def _selector(labels: Labels) -> str:
    known = dict(labels)
    inner = ",".join(f"{name}={json.dumps(value)}" for name, value in labels if name != "__name__")
    return f"{known['__name__']}{{{inner}}}"


def _values(values: Mapping[int, float], first: int) -> str:
    """Return the values in promtool's notation, one for each second, `_` where there is none."""
    return " ".join(repr(values[second]) if second in values else "_" for second in range(first, max(values) + 1))


_SAMPLE = re.compile(r"\{(?P<labels>(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*)\} (?P<value>[^\s,]+)")
_PAIR = re.compile(r"(\w+)=(\"(?:[^\"\\]|\\.)*\")")


def _answer(text: str) -> dict[Labels, float]:
    if (refused := re.search(r" err: (.*)", text)) is not None:
        raise Unsupported(refused[1])
    got = text.partition("got: ")[2]
    return {
        tuple((name, json.loads(value)) for name, value in _PAIR.findall(found["labels"])): float(found["value"])
        for found in _SAMPLE.finditer(got)
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards.prometheus", description="Fetch promtool.")
    parser.add_argument("--mirror", metavar="URL", help="an archive of Debian's (http://deb.debian.org/debian)")
    options = parser.parse_args()
    try:
        if promtool() is None:
            FETCHED.mkdir(parents=True, exist_ok=True)
            archive = Archive(mirror=options.mirror, suite=_SUITE, into=FETCHED)
            archive.fetch_program("promtool", "usr/bin/promtool", FETCHED / "promtool")
    except Refused as refusal:
        say(f"refused: {refusal}")
        return 1
    say(f"queries of Prometheus are judged by {promtool()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
