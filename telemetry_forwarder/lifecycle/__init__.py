"""The conversation with Lambda: a pure state machine decides what to do when, and a loop does it."""
