"""When to poll which batch, and what the answers mean. All of it is pure but the hub and the connection, which send the requests."""
