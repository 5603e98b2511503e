"""The conversation with Lambda: what happens when, decided apart from the calls themselves."""
