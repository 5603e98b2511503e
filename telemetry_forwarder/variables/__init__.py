"""Environment variables: the table of them, their types, how they are read, and messages about wrong values."""
