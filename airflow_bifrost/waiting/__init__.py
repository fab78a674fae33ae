"""When to poll which batch, and what the answers mean. Everything is pure except the hub and the connection, which send the requests."""
