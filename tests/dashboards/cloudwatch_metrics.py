"""An engine for what a CloudWatch dashboard and alarms ask of metrics: a statistic of one metric, by periods.

moto's knows no percentiles and no metric math.
Source: CloudWatch User Guide, "Statistics definitions" and "Using metric math"; PutMetricAlarm and "Dashboard body
structure and syntax" of its API reference; read 2026-11-28.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local_backends.embedded_metrics import Measurement
from tests.dashboards.expressions import Unsupported, percentile

Periods = Mapping[int, float]  # by the second at which a period begins
_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "Sum": math.fsum,
    "Average": lambda values: math.fsum(values) / len(values),
    "Maximum": max,
    "Minimum": min,
    "SampleCount": lambda values: float(len(values)),
}
_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
}


def statistic(
    measurements: Sequence[Measurement],
    namespace: str,
    name: str,
    dimensions: Mapping[str, str],
    *,
    stat: str,
    period_s: int,
) -> Periods:
    """Return a statistic of the metric that has just these dimensions. Raises Unsupported for an unknown one."""
    values: dict[int, list[float]] = {}
    for one in measurements:
        if (one.namespace, one.name, dict(one.dimensions)) == (namespace, name, dict(dimensions)):
            values.setdefault(one.time_ms // 1000 // period_s * period_s, []).extend(one.values)
    if percent := re.fullmatch(r"p(\d+(?:\.\d+)?)", stat):
        return {start: percentile(found, float(percent[1])) for start, found in values.items()}
    if stat not in _STATISTICS:
        raise Unsupported(f"the statistic {stat}")
    return {start: _STATISTICS[stat](found) for start, found in values.items()}


def widget(measurements: Sequence[Measurement], properties: Mapping[str, Any]) -> dict[str, Periods]:
    """Return what a widget shows of metrics, by label."""
    shown = {}
    for line in properties["metrics"]:
        namespace, name, *dimensions, options = line
        if not set(options) <= {"stat", "label"} or len(dimensions) % 2:
            raise Unsupported(f"{line}")
        shown[options["label"]] = statistic(
            measurements,
            namespace,
            name,
            dict(zip(dimensions[::2], dimensions[1::2], strict=True)),
            stat=options["stat"],
            period_s=properties["period"],
        )
    return shown


def is_alarm(measurements: Sequence[Measurement], alarm: Mapping[str, Any]) -> bool:
    """Return whether an alarm would have been raised: so many periods in a row breach the threshold.

    A period without data breaches nothing; an alarm that says otherwise is refused.
    """
    if alarm["TreatMissingData"] != "notBreaching":
        raise Unsupported(alarm["TreatMissingData"])
    if "Metrics" in alarm:
        values, period_s = _calculated(measurements, alarm["Metrics"])
    else:
        values, period_s = _asked(measurements, alarm, alarm)
    is_breached = _COMPARED[alarm["ComparisonOperator"]]
    breached = {start for start, value in values.items() if is_breached(value, float(alarm["Threshold"]))}
    in_a_row = range(int(alarm["EvaluationPeriods"]))
    return any(all(start + step * period_s in breached for step in in_a_row) for start in breached)


def _calculated(measurements: Sequence[Measurement], metrics: Sequence[Mapping[str, Any]]) -> tuple[Periods, int]:
    """Return the result of an expression that adds up metrics."""
    (expression,) = [one["Expression"] for one in metrics if one.get("ReturnData", True)]
    parts = {
        one["Id"]: _asked(measurements, one["MetricStat"]["Metric"], one["MetricStat"])
        for one in metrics
        if "MetricStat" in one
    }
    if not re.fullmatch(r"\w+( \+ \w+)*", expression):
        raise Unsupported(f"the expression {expression}")
    added = [parts[name] for name in expression.split(" + ")]
    starts = set[int].intersection(*(set(values) for values, _ in added))  # without a value there is no sum
    return {start: math.fsum(values[start] for values, _ in added) for start in starts}, added[0][1]


def _asked(
    measurements: Sequence[Measurement], metric: Mapping[str, Any], how: Mapping[str, Any]
) -> tuple[Periods, int]:
    dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
    stat = how.get("Stat") or how.get("Statistic") or how["ExtendedStatistic"]
    period_s = int(how["Period"])
    found = statistic(measurements, metric["Namespace"], metric["MetricName"], dimensions, stat=stat, period_s=period_s)
    return found, period_s
