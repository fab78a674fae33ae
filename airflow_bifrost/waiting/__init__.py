"""When to ask again, and for whom: the decisions are pure, the hub does the asking."""
