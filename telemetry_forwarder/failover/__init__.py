"""Failover: store records that a sink has not accepted in S3 or SQS before the environment ends."""
