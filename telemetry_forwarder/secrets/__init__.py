"""Reading secrets from where they live."""
