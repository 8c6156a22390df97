"""Tables and names: what exists, without any I/O."""
