"""What is asked of a repository itself, without any content beside it."""

import json

from provisioner.agent import protocol as p
from provisioner.agent.faults import Fault
from provisioner.agent.repository import Repository, entry


def initialize(repository: Repository, _request: p.Initialize) -> p.Initialized:
    """Make the repository unless it is there."""
    return p.Initialized(repository.initialize())


def snapshots(repository: Repository, request: p.ListSnapshots) -> p.Snapshots:
    """Return the snapshots that carry all of the tags."""
    return p.Snapshots(repository.snapshots(*request.tags))


def check(repository: Repository, request: p.Check) -> p.Done:
    """Check that the repository is sound, and read a part of its data."""
    part = ["--read-data-subset", request.part] if request.part else []
    repository.run("check", *part)
    return p.Done()


def plan(repository: Repository, request: p.PlanPruning) -> p.Plan:
    """Return what a pruning would keep and remove."""
    said = repository.run("forget", "--dry-run", "--json", "--group-by", "", *request.keep)
    groups = json.loads(said) if said.strip() else []

    def listed(key: str) -> list[p.SnapshotEntry]:
        return [entry(one) for group in groups for one in group.get(key) or []]

    return p.Plan(keep=listed("keep"), remove=listed("remove"))


def forget(repository: Repository, request: p.Forget) -> p.Done:
    """Remove snapshots; their data go with the next pruning."""
    _remove(repository, request.snapshots)
    return p.Done()


def prune(repository: Repository, request: p.Prune) -> p.Done:
    """Remove snapshots, and the data that none needs any more."""
    if request.snapshots:
        _remove(repository, request.snapshots)
    repository.run("prune")
    return p.Done()


def locks(repository: Repository, _request: p.ListLocks) -> p.Locks:
    """Return who holds a lock."""
    return p.Locks(repository.locks())


def unlock(repository: Repository, _request: p.Unlock) -> p.Done:
    """Remove every lock: their holders are proven dead."""
    repository.run("unlock", "--remove-all")
    return p.Done()


def _remove(repository: Repository, ids: list[str]) -> None:
    repository.run("forget", *ids)
    left = {one.id for one in repository.snapshots()} & set(ids)
    if left:  # a server that takes additions only refuses, and restic ends with 0 all the same
        raise Fault(f"restic forget ended well, but {len(left)} snapshots are still there: may it delete?")
