"""What needs neither root nor an engine: the one place that says so."""

FOLDERS = ("unit", "records")  # what `make unit` runs; here every test finds an engine that is not there (conftest.py)
NO_ENGINE = "unix:///nonexistent/docker.sock"
ROOT = {"disks", "postfix", "second_engine", "sshd"}  # modules of tests/support that need it
