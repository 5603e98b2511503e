"""Delivery of one sink's records: queue, encode, pack into batches, send, retry, settle."""
