"""The client of Lambda's own APIs: registration, subscription and events."""
