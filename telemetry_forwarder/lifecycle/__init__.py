"""The conversation with Lambda: the decision what to do when, and apart from it the calls."""
