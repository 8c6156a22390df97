"""An association as the operator describes it: on the command line or in a file."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from provisioner.errors import BadInput
from provisioner.fields import HostName, Line, MailAddress
from provisioner.located_yaml import LocatedYaml, fault_in_words
from provisioner.model.names import slug_problem

PROFILES = ("general", "education", "culture", "sport", "fetes")


def _slug(text: str) -> str:
    problem = slug_problem(text)
    if problem:
        raise ValueError(problem)
    return text


def _rna(text: str) -> str:
    """RNA number: W and nine digits (CONTEXT.md); the registry publishes no check digit."""
    number = text.replace(" ", "").upper()
    if len(number) != 10 or number[0] != "W" or not (number[1:].isascii() and number[1:].isdigit()):
        raise ValueError(f"{text!r} is no RNA number: W and nine digits, for example W751234567")
    return number


def _siret(text: str) -> str:
    from stdnum.exceptions import ValidationError as NotValid
    from stdnum.fr import siret

    try:
        return str(siret.validate(text))
    except NotValid:
        raise ValueError(f"{text!r} is no SIRET number: 14 digits with a Luhn check digit") from None


class ContactSpec(BaseModel):
    """A person, or a function, whom the council may write to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Line
    mail: MailAddress
    administrator: bool = False


class AssociationSpec(BaseModel):
    """All that `provision create` needs to know of an association."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slug: Annotated[str, AfterValidator(_slug)]
    name: Line
    profile: Literal["general", "education", "culture", "sport", "fetes"] = "general"
    contacts: Annotated[tuple[ContactSpec, ...], Field(max_length=20)]
    commune: Line | None = None
    rna: Annotated[str, Field(max_length=40), AfterValidator(_rna)] | None = None
    siret: Annotated[str, Field(max_length=40), AfterValidator(_siret)] | None = None
    seat: Line | None = None
    telephone: Line | None = None
    mail: MailAddress | None = None
    publication_director: Line | None = None
    theme: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")] | None = None
    host_name: HostName | None = None
    agreement_start: date | None = None

    @model_validator(mode="after")
    def _administered(self) -> "AssociationSpec":
        if not any(contact.administrator for contact in self.contacts):
            raise ValueError("no contact is an administrator: the association must be able to run its site")
        mails = [contact.mail.lower() for contact in self.contacts]
        if len(set(mails)) < len(mails):
            raise ValueError("two contacts have the same mail address")
        if self.agreement_start is not None and not 2000 <= self.agreement_start.year <= 2100:
            raise ValueError("agreement_start lies outside the years 2000 to 2100")
        return self

    def warnings(self) -> list[str]:
        """Return what should be better, but stops nothing (CONTEXT.md: contacts)."""
        found = []
        if len(self.contacts) < 2:
            found.append(f"{self.slug}: one contact only; two are wanted, so that the site survives one person leaving")
        if sum(contact.administrator for contact in self.contacts) < 2:
            found.append(f"{self.slug}: one administrator alone")
        return found


def from_options(data: dict[str, Any]) -> AssociationSpec:
    """Return the association that the command line describes.

    Raises:
        BadInput: one line about the first fault.

    """
    try:
        return AssociationSpec.model_validate(data)
    except ValidationError as error:
        raise BadInput(fault_in_words(error.errors()[0])) from None


def from_file(path: Path) -> list[AssociationSpec]:
    """Return the association, or the associations, described in ``path``.

    Raises:
        BadInput: one line with the place of the first fault; two entries with one slug.

    """
    document = LocatedYaml(path)
    if not isinstance(document.data, list):
        return [document.parse(AssociationSpec)]
    if not document.data:
        raise BadInput(f"{path}:1:1: the list is empty")
    found: dict[str, AssociationSpec] = {}
    for index in range(len(document.data)):
        spec = document.parse(AssociationSpec, (index,))
        if spec.slug in found:
            raise BadInput(f"{document.place((index, 'slug'))}: a second entry has the slug {spec.slug!r}")
        found[spec.slug] = spec
    return list(found.values())
