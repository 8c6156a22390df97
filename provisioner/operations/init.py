"""`provision init`: from an engine and an inventory to hosts that are ready for sites."""

import tempfile
from pathlib import Path

from provisioner import render
from provisioner.adapters import images
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.inventory import Inventory
from provisioner.journal.journal import Journal, Progress, no_progress, unfinished
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.located_yaml import LocatedYaml
from provisioner.model.tables import Operation, OperationState
from provisioner.steps.host import (
    HostWork,
    build_images,
    is_ready,
    make_authority,
    make_directories,
    remove_directories,
    start_cron,
    start_database,
    start_edge,
    start_recorder,
    stop_cron,
    stop_database,
    stop_edge,
    stop_recorder,
)

KIND = "init"

STEPS: tuple[Step[HostWork], ...] = (
    Step("authority", make_authority, undo=nothing_to_undo),  # kept: somebody may trust its root already
    Step("images", build_images, undo=nothing_to_undo),  # kept: a cache
    Step("directories", make_directories, undo=remove_directories),
    Step("database", start_database, undo=stop_database),
    Step("edge", start_edge, undo=stop_edge),
    Step("cron", start_cron, undo=stop_cron),
    Step("recorder", start_recorder, undo=stop_recorder),
)


def subject(host: str) -> str:
    """Return the journal's name for a host."""
    return f"host:{host}"


def work_on(installation: Installation, operation: Operation) -> HostWork:
    """Return what the steps of a recorded operation need."""
    name = operation.subject.removeprefix("host:")
    return HostWork(kind=KIND, operation_id=operation.key, installation=installation, name=name)


def init(installation: Installation, progress: Progress = no_progress, tell: images.Tell = images.silent) -> None:
    """Make every host of the inventory ready, or bring it up to date; repeatable at any time.

    An initialisation that was interrupted is resumed.

    Raises:
        ProvisionError: what this run brought was taken away again.
        Unavailable: an engine does not answer; nothing was changed.

    """
    for settings in installation.inventory.hosts:
        installation.host(settings.name).version()
    installation.store.upgrade()
    for settings in installation.inventory.hosts:
        journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
        name = subject(settings.name)
        with journal.subject(name):
            with installation.store.transaction() as session:
                operation = unfinished(session, name)
            if operation is not None and operation.state is not OperationState.RUNNING:
                journal.take_over(operation)
                journal.take_back(operation, work_on(installation, operation))
                operation = None
            if operation is None:
                if is_ready(HostWork(kind=KIND, operation_id=0, installation=installation, name=settings.name)):
                    continue
                operation = journal.begin(name, {})
            else:
                journal.take_over(operation)
            work = work_on(installation, operation)
            work.tell = tell
            journal.carry_out(operation, work)


def write_inventory(path: Path, answers: dict[str, str], *, dry_run: bool) -> None:
    """Write a first inventory from templates/inventory.yaml.j2; nothing is written unless it is sound.

    Raises:
        BadInput: an answer is not acceptable, with the place it would have had.

    """
    server, _, port = answers["mail_server"].partition(":")
    if not (port or "587").isdecimal():
        raise BadInput(f"--mail-server {answers['mail_server']!r}: HOST, HOST:PORT or none is expected")
    text = render.text("inventory.yaml.j2", server=server, port=port or "587", **answers)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        draft.write_text(text, encoding="utf-8")
        LocatedYaml(draft).parse(Inventory)
    if dry_run:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
