"""What stands between the door and a destination: bounded buffers, batches, retries and the task that drives them."""
