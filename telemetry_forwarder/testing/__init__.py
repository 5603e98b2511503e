"""What a sink of a third party is tested with: the contract that every sink passes, in virtual time. Not in layers."""
