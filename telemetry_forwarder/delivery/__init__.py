"""One sink: what waits, what is sent, and what came of it."""
