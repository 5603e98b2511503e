"""A function that measures itself with Powertools for AWS Lambda: EMF for CloudWatch, and lines for Datadog."""

import os

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics.provider.datadog import DatadogMetrics

metrics = Metrics(namespace="Shop", service="payment")
datadog = DatadogMetrics(namespace="Shop", flush_to_log=True)


@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    if event.get("exit"):
        os._exit(7)
    metrics.add_metadata(key="order_id", value=event["order"])
    for amount in event["paid"]:
        metrics.add_metric(name="Paid", unit="Count", value=amount)
    if "refunds" in event:
        datadog.add_metric(name="Refunds", value=event["refunds"], product="ticket")
        datadog.flush_metrics()
    print(f"a line about _aws and order {event['order']}")
    return {"ok": True}
