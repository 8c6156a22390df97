"""Single files brought back into the generation that serves; what they take the place of is kept beside it."""

import json
import os
import re
import shutil
from pathlib import Path

from provisioner.agent import files
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Done, Place, Placed, PutBack
from provisioner.agent.repository import Repository
from provisioner.agent.restoring import DIRECTORY, SCRATCH

_GLOB = re.compile(r"([*?\[\]\\])")


class _Place:
    """Where the files of one operation come from, and where they go."""

    def __init__(self, request: Place | PutBack) -> None:
        self.content = DIRECTORY / "generations" / str(request.number) / "content"
        self.media = DIRECTORY / request.media
        self.folder = SCRATCH / f"restored-{request.number}-{request.operation}"
        self.new, self.before, self.list = self.folder / "new", self.folder / "before", self.folder / "files.json"

    def target(self, path: str) -> Path:
        """Return where a path of wp-content lies on the host.

        Raises:
            Fault: a link of the association's leads out of it.

        """
        first, _, rest = path.partition("/")
        root, inner = (self.media, rest) if first == "uploads" else (self.content, path)
        target = root / inner
        parent = Path(os.path.realpath(target.parent))
        if not parent.is_relative_to(os.path.realpath(root)):
            raise Fault(f"{path}: a link leads out of the site's files")
        return target


def place(repository: Repository, request: Place) -> Placed:
    """Fetch files of a snapshot and put each into its place by one rename; return which. May be repeated.

    Raises:
        Fault: restic failed, or the snapshot has nothing of that name.

    """
    where = _Place(request)
    if not where.list.exists():
        shutil.rmtree(where.folder, ignore_errors=True)
        where.folder.mkdir(mode=0o700)
        included = [f"--include=/{_GLOB.sub(_escaped, path)}" for path in request.paths]
        repository.run("restore", f"{request.snapshot}:/site/wp-content", "--target", str(where.new), *included)
        found = sorted(str(path.relative_to(where.new)) for path, _ in files.walk(where.new))
        for path in request.paths:
            if not any(one == path or one.startswith(f"{path}/") for one in found):
                raise Fault(f"the snapshot has no {path}")
        where.list.write_text(json.dumps(found))
    placed: list[str] = json.loads(where.list.read_text())
    for path in placed:
        _put(where.new / path, where.target(path), where.before / path)
    return Placed(placed)


def put_back(request: PutBack) -> Done:
    """Undo `place`: what was there is there again, what was not is gone."""
    where = _Place(request)
    if where.list.exists():
        for path in json.loads(where.list.read_text()):
            before, target = where.before / path, where.target(path)
            if os.path.lexists(before):
                before.replace(target)
            elif not os.path.lexists(where.new / path):  # it was put there by us
                target.unlink(missing_ok=True)
    shutil.rmtree(where.folder, ignore_errors=True)
    return Done()


def _put(new: Path, target: Path, before: Path) -> None:
    if not os.path.lexists(new):
        return  # an earlier run did it
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        before.parent.mkdir(parents=True, exist_ok=True)
        os.link(target, before, follow_symlinks=False)
    new.replace(target)


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[1]
