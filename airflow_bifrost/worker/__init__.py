"""What a task in a worker does, in whichever operator: wait for batches, and remember across its attempts."""
