"""The directory that stands for /var/task while the conformance suite runs."""
