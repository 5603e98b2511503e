"""Where records are kept that a sink has not taken when the environment ends."""
