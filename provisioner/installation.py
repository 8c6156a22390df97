"""One installation: its inventory, its state, its hosts. Every command begins by opening it."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner import clock, inventory
from provisioner.inventory import Inventory
from provisioner.journal import failpoint
from provisioner.keys import Keys
from provisioner.store import Store

if TYPE_CHECKING:
    from provisioner.adapters.authority import Authority
    from provisioner.adapters.docker_host import DockerHost
    from provisioner.adapters.relays import Relays


class Installation:
    """What the operations of one namespace share."""

    def __init__(self, settings: Inventory) -> None:
        self.inventory = settings
        self.namespace = settings.namespace
        self.state = settings.state_directory
        self.locks = self.state / "locks"
        self.store = Store(settings.database_url or f"sqlite:///{self.state / 'provision.db'}")
        self.keys = Keys(self.state)
        self._hosts: dict[str, DockerHost] = {}

    @classmethod
    def open(cls, path: Path | None) -> "Installation":
        """Open the installation of the inventory at ``path`` (or its default place).

        Raises:
            BadInput: the inventory is missing or faulty, or a test lever is set outside tests.
            Unavailable: `provision init` has not run, or not for this version.

        """
        installation = cls.described(path)
        installation.store.check()
        return installation

    @classmethod
    def described(cls, path: Path | None) -> "Installation":
        """Return the installation that an inventory describes, initialised or not."""
        settings = inventory.load(inventory.find(path))
        clock.refuse_levers_outside_tests(settings.namespace)
        failpoint.check()
        return cls(settings)

    def host(self, name: str) -> "DockerHost":
        """Return the host called ``name``; it connects when first used."""
        if name not in self._hosts:
            from provisioner.adapters.docker_host import DockerHost

            self._hosts[name] = DockerHost(self.inventory.host(name), self.namespace)
        return self._hosts[name]

    @cached_property
    def relays(self) -> "Relays":
        """Return the relays by which this process reaches backup repositories."""
        from provisioner.adapters.relays import Relays

        return Relays()

    @cached_property
    def authority(self) -> "Authority":
        """Return the local certificate authority."""
        from provisioner.adapters.authority import Authority

        return Authority(self.state / "authority")

    @property
    def mail_folder(self) -> Path:
        """Return where mails are written when no server is named."""
        return self.inventory.resolve(self.inventory.mail.folder)

    def documents(self, slug: str) -> Path:
        """Return the folder of an association's agreement: its document, and the signed copy."""
        return self.inventory.resolve(self.inventory.conventions) / slug

    @property
    def has_secrets(self) -> bool:
        """Return whether the installation's keys and its certificate authority are there."""
        return self.keys.complete and self.authority.root.exists()

    def netloc(self, host_name: str, host: str) -> str:
        """Return ``host_name`` as it stands in an address: with the port, where it is not 443."""
        port = self.inventory.host(host).edge.https_port
        return host_name if port == 443 else f"{host_name}:{port}"

    def url(self, host_name: str, host: str) -> str:
        """Return the address of a site, without a slash at the end."""
        return f"https://{self.netloc(host_name, host)}"
