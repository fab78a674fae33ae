"""The sensor."""
