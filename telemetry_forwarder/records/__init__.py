"""What came in and what is known of it: pure."""
