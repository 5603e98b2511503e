"""Test tools for sinks, third-party ones too: the contract that every sink passes, in virtual time. Not in layers."""
