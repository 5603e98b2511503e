"""Everything that is said to Lambda."""
