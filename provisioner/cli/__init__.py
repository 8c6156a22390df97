"""The command line: parse, confirm, call, print; no decisions."""
