"""The directory that plays /var/task while the conformance suite runs."""
