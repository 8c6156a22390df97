"""The control plane's own files: put here by whoever starts the container, kept as they are, given back as such."""

import json
from pathlib import Path
from typing import Any

from provisioner.agent import files, snapshot
from provisioner.agent.faults import Fault
from provisioner.agent.repository import Repository

ROOT = Path("/control-plane")
FILES, MANIFEST = ROOT / "files", ROOT / "manifest.json"


def keep(repository: Repository, request: dict[str, Any]) -> dict[str, Any]:
    """Take a snapshot of the files; it counts when all of them had arrived whole and restic read each.

    Raises:
        Fault: restic failed, or a file is not in the snapshot as the manifest names it.

    """
    manifest = json.loads(MANIFEST.read_text())
    for path, entry in manifest["files"].items():
        if files.sha256(FILES / path) != entry["sha256"]:
            raise Fault(f"{path} did not arrive whole")
    seen = snapshot.read_into(repository, request, manifest, ROOT)
    missing = {str(MANIFEST), *(str(FILES / path) for path in manifest["files"])} - seen.paths
    if missing:
        snapshot.withdraw(repository, request, seen.summary["snapshot_id"])
        raise Fault(f"{min(missing)} is not in the snapshot")
    return snapshot.figures(seen)


def give_back(repository: Repository, request: dict[str, Any]) -> dict[str, Any]:
    """Restore a snapshot of the control plane to where it is collected; return its manifest.

    Raises:
        Fault: restic failed, or the snapshot is not one of this control plane (D12).

    """
    repository.run("restore", f"{request['snapshot']}:{ROOT}", "--target", str(ROOT))
    manifest: dict[str, Any] = json.loads(MANIFEST.read_text())
    for key in ("site", "namespace"):
        if manifest[key] != request["identity"][key]:
            raise Fault(f"the snapshot is of {key} {manifest[key]!r}, not of {request['identity'][key]!r}")
    for path, entry in manifest["files"].items():
        if files.sha256(FILES / path) != entry["sha256"]:
            raise Fault(f"{path} is not what the snapshot's manifest says")
    return manifest
