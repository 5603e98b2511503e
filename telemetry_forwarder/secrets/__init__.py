"""Parameters and secrets from AWS: read, cached, and served to the function on localhost."""
