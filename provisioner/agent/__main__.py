"""agent VERB: the closed list of what the control plane asks here. Reads /request.json, prints one line of JSON.

Exit codes: 0 done; restic's own where restic failed; else 1, with one line on standard error.
"""

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from provisioner.agent import protocol as p
from provisioner.agent import wire
from provisioner.agent.faults import Fault

RECORD = "record"  # the one verb without a request: the recorder's, which runs for good
# Below /tmp where the root is read-only, which is so beside a site.
_REQUESTS = (Path("/request.json"), Path("/tmp/request.json"))
_PR_SET_DUMPABLE = 4  # prctl(2)


# Who answers, by the names of a module here and its function. Only what a verb needs is imported: for most of them,
# importing all of it takes longer than what they do. A unit test looks for each, and compares their types.
WITH_REPOSITORY: dict[type[p.Request[Any]], str] = {
    p.Initialize: "upkeep.initialize",
    p.Take: "snapshot.take",
    p.ListSnapshots: "upkeep.snapshots",
    p.ReadManifest: "snapshot.read_manifest",
    p.Fetch: "restoring.fetch",
    p.Place: "placing.place",
    p.CompareCode: "restoring.code",
    p.Check: "upkeep.check",
    p.PlanPruning: "upkeep.plan",
    p.Forget: "upkeep.forget",
    p.Prune: "upkeep.prune",
    p.ListLocks: "upkeep.locks",
    p.Unlock: "upkeep.unlock",
    p.KeepControlPlane: "control_plane.keep",
    p.GiveBackControlPlane: "control_plane.give_back",
}
WITHOUT: dict[type[p.Request[Any]], str] = {
    p.Load: "restoring.load",
    p.Rewrite: "restoring.rewrite",
    p.Measure: "restoring.measure",
    p.PutBack: "placing.put_back",
    p.Compare: "comparing.compare",
    p.CopyCode: "copying.code",
    p.FillTwins: "copying.twins",
    p.ComparePages: "rehearsal.rehearse",
    p.LockOut: "restoring.lock_out",
    p.RenewSalts: "restoring.new_salts",
    p.Weigh: "export.weigh",
    p.Stage: "export.stage",
    p.CopyPages: "pages.copy",
    p.Pack: "export.pack",
    p.ReadActivity: "logs.activity",
    p.TidyLogs: "logs.tidy",
    p.CopyGeneration: "copying.copy_generation",
    p.HandOver: "steward.hand_over",
}
# Those who speak as they go, or never end: their exit code is the answer.
ALONE: dict[type[p.Request[Any]], str] = {p.Switch: "switch.switch", p.Relay: "relay.run"}


def function(name: str) -> Callable[..., Any]:
    """Return the function that a table names."""
    module, _, called = name.partition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(f"provisioner.agent.{module}"), called)
    return found


def main() -> None:
    """Do what the first argument says."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb == RECORD:
        function("recorder.record")()
    # No link in a site's files, such as one to /proc/self/environ or /proc/self/mem, leads into this process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    content = _read_request()
    for kind, name in ALONE.items():
        if kind.verb == verb:
            sys.exit(function(name)(wire.read(kind, content, verb)))
    try:
        answer = _answer(verb, content)
    except Fault as fault:
        _fail(str(fault), fault.exit_code)
    except wire.Malformed as error:  # such as a manifest that lacks something
        _fail(str(error))
    except OSError as error:  # such as a disk that is full
        _fail(f"{error.strerror}: {error.filename}")
    except Exception as error:
        if not _is_of_the_database(error):
            raise
        _fail(f"the database: {error}")  # such as a table that is damaged: one line, and it names the table
    finally:
        if verb == p.Take.verb:
            function("snapshot.tidy")()
    sys.stdout.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")  # type: ignore[call-overload]  # a dataclass


def _read_request() -> dict[str, Any]:
    """Return the request. Beside a site it goes before anything of the site's is read: it may hold a key."""
    path = next(path for path in _REQUESTS if path.exists())
    content: dict[str, Any] = json.loads(path.read_text())
    if os.geteuid() != 0:
        path.unlink()
    return content


def _answer(verb: str, content: dict[str, Any]) -> object:
    for kind, name in WITH_REPOSITORY.items():
        if kind.verb == verb:
            access = wire.read(p.Access, content.get("repository"), "repository")
            repository = function("repository.Repository")(access)
            repository.wait()
            return function(name)(repository, wire.read(kind, content, verb))
    for kind, name in WITHOUT.items():
        if kind.verb == verb:
            return function(name)(wire.read(kind, content, verb))
    raise Fault(f"unknown verb: {verb}", 2)


def _is_of_the_database(error: Exception) -> bool:
    pymysql = sys.modules.get("pymysql")  # only where a verb speaks to it
    return pymysql is not None and isinstance(error, pymysql.MySQLError)


def _fail(message: str, exit_code: int = 1) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
