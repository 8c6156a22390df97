"""agent VERB: the closed list of what the control plane asks here. Reads /request.json, prints one line of JSON.

Exit codes: 0 done; restic's own where restic failed; else 1, with one line on standard error.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import pymysql

from provisioner.agent import (
    comparing,
    control_plane,
    copying,
    export,
    logs,
    pages,
    placing,
    recorder,
    rehearsal,
    relay,
    restoring,
    snapshot,
    steward,
    switch,
    wire,
)
from provisioner.agent import protocol as p
from provisioner.agent.faults import Fault
from provisioner.agent.repository import Repository, entry

RECORD = "record"  # the one verb without a request: the recorder's, which runs for good
# Below /tmp where the root is read-only, which is so beside a site.
_REQUESTS = (Path("/request.json"), Path("/tmp/request.json"))
_PR_SET_DUMPABLE = 4  # prctl(2)


def _initialize(repository: Repository, _request: p.Initialize) -> p.Initialized:
    return p.Initialized(repository.initialize())


def _snapshots(repository: Repository, request: p.ListSnapshots) -> p.Snapshots:
    return p.Snapshots(repository.snapshots(*request.tags))


def _manifest(repository: Repository, request: p.ReadManifest) -> p.ManifestFound:
    said = repository.run("dump", "--no-lock", request.snapshot, str(snapshot.MANIFEST))
    return p.ManifestFound(wire.read(p.Manifest, json.loads(said), "manifest"))


def _check(repository: Repository, request: p.Check) -> p.Done:
    part = ["--read-data-subset", request.part] if request.part else []
    repository.run("check", *part)
    return p.Done()


def _plan(repository: Repository, request: p.PlanPruning) -> p.Plan:
    said = repository.run("forget", "--dry-run", "--json", "--group-by", "", *request.keep)
    groups = json.loads(said) if said.strip() else []

    def listed(key: str) -> list[p.SnapshotEntry]:
        return [entry(one) for group in groups for one in group.get(key) or []]

    return p.Plan(keep=listed("keep"), remove=listed("remove"))


def _remove(repository: Repository, snapshots: list[str]) -> None:
    repository.run("forget", *snapshots)
    left = {one.id for one in repository.snapshots()} & set(snapshots)
    if left:  # a server that takes additions only refuses, and restic ends with 0 all the same
        raise Fault(f"restic forget ended well, but {len(left)} snapshots are still there: may it delete?")


def _forget(repository: Repository, request: p.Forget) -> p.Done:
    _remove(repository, request.snapshots)
    return p.Done()


def _prune(repository: Repository, request: p.Prune) -> p.Done:
    if request.snapshots:
        _remove(repository, request.snapshots)
    repository.run("prune")
    return p.Done()


def _locks(repository: Repository, _request: p.ListLocks) -> p.Locks:
    return p.Locks(repository.locks())


def _unlock(repository: Repository, _request: p.Unlock) -> p.Done:
    repository.run("unlock", "--remove-all")
    return p.Done()


# A unit test compares the types of these functions with those of the requests that they answer.
WITH_REPOSITORY: dict[type[p.Request[Any]], Callable[[Repository, Any], object]] = {
    p.Initialize: _initialize,
    p.Take: snapshot.take,
    p.ListSnapshots: _snapshots,
    p.ReadManifest: _manifest,
    p.Fetch: restoring.fetch,
    p.Place: placing.place,
    p.CompareCode: restoring.code,
    p.Check: _check,
    p.PlanPruning: _plan,
    p.Forget: _forget,
    p.Prune: _prune,
    p.ListLocks: _locks,
    p.Unlock: _unlock,
    p.KeepControlPlane: control_plane.keep,
    p.GiveBackControlPlane: control_plane.give_back,
}
WITHOUT: dict[type[p.Request[Any]], Callable[[Any], object]] = {
    p.Load: restoring.load,
    p.Rewrite: restoring.rewrite,
    p.Measure: restoring.measure,
    p.PutBack: placing.put_back,
    p.Compare: comparing.compare,
    p.CopyCode: copying.code,
    p.FillTwins: copying.twins,
    p.ComparePages: rehearsal.rehearse,
    p.LockOut: restoring.lock_out,
    p.RenewSalts: restoring.new_salts,
    p.Weigh: export.weigh,
    p.Stage: export.stage,
    p.CopyPages: pages.copy,
    p.Pack: export.pack,
    p.ReadActivity: logs.activity,
    p.TidyLogs: logs.tidy,
    p.CopyGeneration: copying.copy_generation,
    p.HandOver: steward.hand_over,
}


def main() -> None:
    """Do what the first argument says."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb == RECORD:
        recorder.record()
    # No link in a site's files, such as one to /proc/self/environ or /proc/self/mem, leads into this process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    content = _read_request()
    if verb == p.Switch.verb:  # speaks as it goes, and its exit code says what serves
        sys.exit(switch.switch(wire.read(p.Switch, content, verb)))
    if verb == p.Relay.verb:
        relay.run(wire.read(p.Relay, content, verb))
    try:
        answer = _answer(verb, content)
    except Fault as fault:
        _fail(str(fault), fault.exit_code)
    except pymysql.MySQLError as error:  # such as a table that is damaged: one line, and it names the table
        _fail(f"the database: {error}")
    except wire.Malformed as error:  # such as a manifest that lacks something
        _fail(str(error))
    except OSError as error:  # such as a disk that is full
        _fail(f"{error.strerror}: {error.filename}")
    finally:
        if verb == p.Take.verb:
            snapshot.tidy()
    sys.stdout.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")  # type: ignore[call-overload]  # a dataclass


def _read_request() -> dict[str, Any]:
    """Return the request. Beside a site it goes before anything of the site's is read: it may hold a key."""
    path = next(path for path in _REQUESTS if path.exists())
    content: dict[str, Any] = json.loads(path.read_text())
    if os.geteuid() != 0:
        path.unlink()
    return content


def _answer(verb: str, content: dict[str, Any]) -> object:
    for kind, act in WITH_REPOSITORY.items():
        if kind.verb == verb:
            access = wire.read(p.Access, content.get("repository"), "repository")
            repository = Repository(access)
            repository.wait()
            return act(repository, wire.read(kind, content, verb))
    for kind, do in WITHOUT.items():
        if kind.verb == verb:
            return do(wire.read(kind, content, verb))
    raise Fault(f"unknown verb: {verb}", 2)


def _fail(message: str, exit_code: int = 1) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
