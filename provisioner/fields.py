"""Values of inventory.yaml and of an association's file that are text with a rule: names, addresses, paths, lines."""

import re
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator, Field

from provisioner.model.names import DATA_ROOT_LENGTH

NAMESPACE = re.compile(r"[a-z][a-z0-9-]{0,30}")
SHA256 = re.compile(r"[0-9a-f]{64}")
DATA_ROOT = re.compile(r"[A-Za-z0-9._/-]+")  # a colon would end a bind mount's source
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+")
_ENCODED_WORD = re.compile(r"=\?.*\?=")
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, surrogates, line and paragraph separators


def one_line(text: str) -> str:
    """Return ``text`` unless it holds a control character (G7: a line break forges headers) or shows nothing."""
    if any(category(character) in _CONTROL or character in "\ufffe\uffff" for character in text):
        raise ValueError("a line break or control character is not allowed")
    if _ENCODED_WORD.search(text):  # Python's mail headers decode it, with the line breaks in it
        raise ValueError("an encoded word of a mail header (=?…?=) is not allowed")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise ValueError("cannot be empty")
    return text


def visible(text: str) -> str:
    """Return ``text`` as one line; control characters, and those that reorder a line, show as escapes (H3, J10)."""
    return "".join(character if character.isprintable() else _escaped(ord(character)) for character in text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def host_name(text: str) -> str:
    """Return ``text`` when it is a full host name in lower case, and no IP address."""
    if not HOST_NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is no host name (lower case, for example: kayane.example.test)")
    return text


def mail_address(text: str) -> str:
    """Return ``text`` when it is a mail address that WordPress takes; whether it receives mail is not asked here."""
    from email_validator import EmailNotValidError, validate_email

    try:
        address = validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise ValueError(f"{text!r} is no mail address: {' '.join(str(error).split())}") from None
    if not address.isascii() or "." not in address.partition("@")[2] or len(address) < 6:  # is_email() of WordPress
        raise ValueError(f"{text!r} is no mail address: a-z, 0-9 and punctuation, a full domain, 6 characters at least")
    return address


def _file(path: Path) -> Path:
    one_line(str(path))
    return path


def _listen(text: str) -> str:
    bracketed = text.startswith("[") and text.endswith("]") and "%" not in text
    return text if bracketed and IPv6Address(text[1:-1]) else str(IPv4Address(text))


def _database_url(text: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        backend = make_url(text).get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in ("sqlite", "postgresql"):
        raise ValueError("sqlite:///PATH or postgresql+DRIVER://… is expected")
    return text


def _base_image(text: str) -> str:
    if set("{}") & set(text.replace("{suite}", "")):
        raise ValueError("{suite} is all that may stand in braces")
    return text


def _namespace(text: str) -> str:
    if not NAMESPACE.fullmatch(text):
        raise ValueError("a-z, 0-9 and hyphens, a letter first, at most 31 characters")
    return text


def _data_root(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
        raise ValueError("an absolute path at least two levels deep, such as /srv/provision")
    if not DATA_ROOT.fullmatch(str(path)):
        raise ValueError("a-z, A-Z, 0-9, dots, hyphens, underscores and slashes")
    if len(str(path)) > DATA_ROOT_LENGTH:
        raise ValueError(f"at most {DATA_ROOT_LENGTH} characters: longer socket paths fail")
    return path


def _sha256(text: str) -> str:
    if not SHA256.fullmatch(text):
        raise ValueError("sha256 is 64 lower-case hexadecimal digits")
    return text


Line = Annotated[str, Field(max_length=250), AfterValidator(one_line)]
FilePath = Annotated[Path, AfterValidator(_file)]
HostName = Annotated[str, Field(max_length=253), AfterValidator(host_name)]
MailAddress = Annotated[str, Field(max_length=254), AfterValidator(one_line), AfterValidator(mail_address)]
ListenAddress = Annotated[str, AfterValidator(_listen)]
Port = Annotated[int, Field(ge=1, le=65535)]
Namespace = Annotated[str, AfterValidator(_namespace)]
DataRoot = Annotated[Path, AfterValidator(_data_root)]
DatabaseUrl = Annotated[Line, AfterValidator(_database_url)]
BaseImage = Annotated[Line, AfterValidator(_base_image)]
ReleaseName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,30}$")]  # part of image and container names
Euros = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=2)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
