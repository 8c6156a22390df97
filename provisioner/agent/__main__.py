"""agent VERB: the closed list of what the control plane asks here. Reads /request.json, prints one line of JSON.

Exit codes: 0 done; restic's own where restic failed; else 1, with one line on standard error.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    restoring,
    snapshot,
    switch,
)
from provisioner.agent.faults import Fault
from provisioner.agent.repository import Repository

Answer = dict[str, Any] | list[dict[str, Any]]


def _initialize(repository: Repository, _request: dict[str, Any]) -> Answer:
    return {"made": repository.initialize()}


def _snapshots(repository: Repository, request: dict[str, Any]) -> Answer:
    return repository.snapshots(*request["tags"])


def _manifest(repository: Repository, request: dict[str, Any]) -> Answer:
    found: dict[str, Any] = json.loads(repository.run("dump", "--no-lock", request["snapshot"], str(snapshot.MANIFEST)))
    return found


def _check(repository: Repository, request: dict[str, Any]) -> Answer:
    part = ["--read-data-subset", request["part"]] if request["part"] else []
    repository.run("check", *part)
    return {}


def _plan(repository: Repository, request: dict[str, Any]) -> Answer:
    """Ask restic which snapshots it would keep and which it would remove, by the given rules."""
    said = repository.run("forget", "--dry-run", "--json", "--group-by", "", *request["keep"])
    groups = json.loads(said) if said.strip() else []
    return {key: [one for group in groups for one in group.get(key) or []] for key in ("keep", "remove")}


def _forget(repository: Repository, request: dict[str, Any]) -> Answer:
    repository.run("forget", *request["snapshots"])
    left = {one["id"] for one in repository.snapshots()} & set(request["snapshots"])
    if left:  # a server that takes additions only refuses, and restic ends with 0 all the same
        raise Fault(f"restic forget ended well, but {len(left)} snapshots are still there: may it delete?")
    return {}


def _prune(repository: Repository, request: dict[str, Any]) -> Answer:
    if request["snapshots"]:
        _forget(repository, request)
    repository.run("prune")
    return {}


def _locks(repository: Repository, _request: dict[str, Any]) -> Answer:
    return repository.locks()


def _unlock(repository: Repository, _request: dict[str, Any]) -> Answer:
    repository.run("unlock", "--remove-all")
    return {}


WITH_REPOSITORY: dict[str, Callable[[Repository, dict[str, Any]], Answer]] = {
    "initialize": _initialize,
    "take": snapshot.take,
    "snapshots": _snapshots,
    "manifest": _manifest,
    "fetch": restoring.fetch,
    "place": placing.place,
    "code": restoring.code,
    "check": _check,
    "plan": _plan,
    "forget": _forget,
    "prune": _prune,
    "locks": _locks,
    "unlock": _unlock,
    "keep": control_plane.keep,
    "give-back": control_plane.give_back,
}
WITHOUT: dict[str, Callable[[dict[str, Any]], Answer]] = {
    "load": restoring.load,
    "rewrite": restoring.rewrite,
    "measure": restoring.measure,
    "put-back": placing.put_back,
    "compare": comparing.compare,
    "copy": copying.code,
    "twins": copying.twins,
    "rehearse": rehearsal.rehearse,
    "lock-out": restoring.lock_out,
    "new-salts": restoring.new_salts,
    "weigh": export.weigh,
    "stage": export.stage,
    "pages": pages.copy,
    "pack": export.pack,
    "activity": logs.activity,
    "tidy-logs": logs.tidy,
}


def main() -> None:
    """Do what the first argument says."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb == "record":  # for good, and on its own
        recorder.record()
    request = json.loads(Path("/request.json").read_text())
    if verb == "switch":  # speaks as it goes, and its exit code says what serves
        sys.exit(switch.switch(request))
    try:
        if verb in WITH_REPOSITORY:
            answer = WITH_REPOSITORY[verb](Repository(**request.pop("repository")), request)
        elif verb in WITHOUT:
            answer = WITHOUT[verb](request)
        else:
            raise Fault(f"unknown verb: {verb}", 2)
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        sys.exit(fault.exit_code)
    except pymysql.MySQLError as error:  # such as a table that is damaged: one line, and it names the table
        sys.stderr.write(f"the database: {error}\n")
        sys.exit(1)
    except OSError as error:  # such as a disk that is full
        sys.stderr.write(f"{error.strerror}: {error.filename}\n")
        sys.exit(1)
    finally:
        if verb == "take":
            snapshot.tidy()
    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
