"""`provision resume` and `provision undo`: go on with an interrupted operation, or take it back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select

from provisioner import records
from provisioner.errors import BadInput, NeedsHand
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress, unfinished
from provisioner.journal.step import Step
from provisioner.mail import outbox
from provisioner.model.tables import Operation, OperationState, OperationStep, StepState
from provisioner.operations import (
    agreement,
    backup,
    copy_site,
    create,
    drill,
    expire,
    export,
    init,
    invite,
    restore,
    upgrade,
)
from provisioner.operations import undo as going_back


@dataclass(frozen=True)
class Recipe:
    """What is needed to go on with an operation of which only the record is left."""

    steps: Sequence[Step[Any]]
    work_on: Callable[[Installation, Operation], Any]


RECIPES = {
    agreement.SIGN: Recipe(agreement.SIGN_STEPS, agreement.work_on),
    agreement.END: Recipe(agreement.END_STEPS, agreement.work_on),
    agreement.KEEP: Recipe(agreement.KEEP_STEPS, agreement.work_on),
    agreement.SIGN_AGAIN: Recipe(agreement.SIGN_AGAIN_STEPS, agreement.work_on),
    agreement.CLOSE: Recipe(agreement.CLOSE_STEPS, agreement.work_on),
    backup.KIND: Recipe(backup.STEPS, backup.work_on),
    copy_site.KIND: Recipe(copy_site.STEPS, copy_site.work_on),
    create.KIND: Recipe(create.STEPS, create.work_on),
    drill.KIND: Recipe(drill.STEPS, drill.work_on),
    expire.KIND: Recipe(expire.STEPS, expire.work_on),
    export.KIND: Recipe(export.STEPS, export.work_on),
    init.KIND: Recipe(init.STEPS, init.work_on),
    invite.KIND: Recipe(invite.STEPS, invite.work_on),
    restore.KIND: Recipe(restore.STEPS, restore.work_on),
    restore.DATABASE_KIND: Recipe(restore.DATABASE_ALONE, restore.work_on),
    restore.FILES_KIND: Recipe(restore.FILES_ALONE, restore.work_on),
    restore.INTRUSION_KIND: Recipe(restore.AFTER_INTRUSION, restore.work_on),
    upgrade.KIND: Recipe(upgrade.STEPS, upgrade.work_on),
    going_back.KIND: Recipe(going_back.STEPS, going_back.work_on),
}


def resume(installation: Installation, subject: str, progress: Progress = no_progress) -> str:
    """Go on where the operation on ``subject`` stopped; return its kind and how it ended.

    Raises:
        BadInput: nothing is unfinished there.
        Busy: somebody works on it.
        ProvisionError, NeedsHand: as the operation itself.

    """
    return _go_on(installation, subject, progress, backwards=False)


def undo(installation: Installation, subject: str, progress: Progress = no_progress) -> str:
    """Take back the unfinished operation on ``subject``; return its kind and how it ended.

    Raises:
        BadInput: nothing is unfinished there.
        Busy: somebody works on it.
        NeedsHand: something could not be undone.

    """
    return _go_on(installation, subject, progress, backwards=True)


def has_ended(installation: Installation, subject: str) -> bool:
    """Return whether ``subject`` is a site on which nothing is unfinished."""
    with installation.store.transaction() as session:
        return records.find_site(session, subject) is not None and unfinished(session, subject) is None


def plan_of_undo(installation: Installation, subject: str) -> list[str]:
    """Return the names of the steps that `undo` would take back, newest first.

    Raises:
        BadInput: nothing is unfinished there.

    """
    operation = _unfinished(installation, subject)
    with installation.store.transaction() as session:
        query = select(OperationStep).where(OperationStep.operation_id == operation.id)
        rows = session.exec(query.order_by(col(OperationStep.position).desc())).all()
    return [row.name for row in rows if row.state in (StepState.STARTED, StepState.DONE)]


def _go_on(installation: Installation, subject: str, progress: Progress, *, backwards: bool) -> str:
    operation = _unfinished(installation, subject)
    recipe = RECIPES.get(operation.kind)
    if recipe is None:
        raise NeedsHand(f"{subject}: this version of provision knows no operation {operation.kind!r}")
    journal = Journal(installation.store, installation.locks, operation.kind, recipe.steps, progress)
    with journal.subject(subject):
        operation = _unfinished(installation, subject)  # its state may have changed before we held it
        # What needs a hand failed to be undone: there is only one direction left.
        undoing = operation.state in (OperationState.UNDOING, OperationState.NEEDS_HAND)
        journal.take_over(operation)
        work = recipe.work_on(installation, operation)
        work.end_leftovers()
        if backwards or undoing:
            journal.take_back(operation, work)
            ended = f"{operation.kind} undone"
        else:
            journal.carry_out(operation, work)
            ended = f"{operation.kind} succeeded"
    outbox.deliver_due(installation)
    return ended


def _unfinished(installation: Installation, subject: str) -> Operation:
    with installation.store.transaction() as session:
        operation = unfinished(session, subject)
        if operation is not None:
            return operation
        last = session.exec(
            select(Operation).where(Operation.subject == subject).order_by(col(Operation.id).desc())
        ).first()
    if last is None:
        raise BadInput(f"no operation on {subject!r} is on record", "provision status")
    raise BadInput(
        f"{subject}: {last.kind} ended as {last.state.value.replace('_', ' ')}; nothing is unfinished",
        f"provision status {subject}",
    )
