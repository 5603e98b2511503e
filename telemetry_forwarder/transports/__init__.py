"""The transports: everything that sends to the destinations."""
