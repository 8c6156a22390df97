"""Questions about what really runs, one function each. They change nothing."""
