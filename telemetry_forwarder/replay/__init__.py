"""Send what the failover has kept: the engine, its journals and sources, and the Lambda function for many objects."""
