"""Snapshots of one site, seen from inside a container on its host: taken, restored, compared, checked."""
