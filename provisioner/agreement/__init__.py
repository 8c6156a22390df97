"""The agreement's rules: pure, no I/O."""
