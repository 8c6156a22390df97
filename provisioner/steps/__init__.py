"""What operations are made of: each step's `do` and `undo` side by side, one subject per file."""
