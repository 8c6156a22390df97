"""The control plane's own files: put here by whoever starts the container, kept as they are, given back as such."""

import json
from pathlib import Path

from provisioner.agent import files, snapshot, wire
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import (
    ControlPlaneFound,
    ControlPlaneManifest,
    Figures,
    GiveBackControlPlane,
    KeepControlPlane,
)
from provisioner.agent.repository import Repository

ROOT = Path("/control-plane")
FILES, MANIFEST = ROOT / "files", ROOT / "manifest.json"


def keep(repository: Repository, request: KeepControlPlane) -> Figures:
    """Take a snapshot of the files; it counts when all of them had arrived whole and restic read each.

    Raises:
        Fault: restic failed, or a file is not in the snapshot as the manifest names it.

    """
    manifest = _manifest()
    for path, entry in manifest["files"].items():
        if files.sha256(FILES / path) != entry["sha256"]:
            raise Fault(f"{path} did not arrive whole")
    mark = snapshot.Mark(manifest["site"], manifest["namespace"], request.operation, request.time, request.append_only)
    seen = snapshot.read_into(repository, mark, ROOT)
    missing = {str(MANIFEST), *(str(FILES / path) for path in manifest["files"])} - seen.paths
    if missing:
        snapshot.withdraw(repository, request.append_only, seen.summary["snapshot_id"])
        raise Fault(f"{min(missing)} is not in the snapshot")
    return snapshot.figures(seen)


def give_back(repository: Repository, request: GiveBackControlPlane) -> ControlPlaneFound:
    """Restore a snapshot of the control plane to where it is collected; return its manifest.

    Raises:
        Fault: restic failed, or the snapshot is not one of this control plane (D12).

    """
    repository.run("restore", f"{request.snapshot}:{ROOT}", "--target", str(ROOT))
    manifest = _manifest()
    snapshot.require_owner({"site": manifest["site"], "namespace": manifest["namespace"]}, request.owner)
    for path, entry in manifest["files"].items():
        if files.sha256(FILES / path) != entry["sha256"]:
            raise Fault(f"{path} is not what the snapshot's manifest says")
    return ControlPlaneFound(manifest)


def _manifest() -> ControlPlaneManifest:
    found: ControlPlaneManifest = wire.read(ControlPlaneManifest, json.loads(MANIFEST.read_text()), "manifest")
    return found
