"""What every step on a site works with, and the containers that a generation needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, TypeVar

from provisioner import records
from provisioner.adapters.answers import answered
from provisioner.adapters.docker_host import ONE_SHOT_SECONDS, DockerHost
from provisioner.agent import protocol, wire
from provisioner.agent.protocol import Request
from provisioner.errors import Unavailable
from provisioner.installation import Installation
from provisioner.inventory import SitePolicy
from provisioner.journal.step import Work
from provisioner.model.container import FILE_CAPABILITIES, Bind, Confinement, OneShot, Outcome, Overlay, Service
from provisioner.model.names import LABEL_OPERATION, LABEL_ROLE, GenerationNames, HostNames
from provisioner.model.tables import Generation, GenerationState, Operation, Site

SITE_PROGRAM = "/srv/provision/provision.php"
ANSWER_SECONDS = 60  # for what WordPress does in one or two; a FIFO among a site's plugins keeps it for ever
_UPLOADS = "/srv/wordpress/wp-content/uploads"

A = TypeVar("A")


@dataclass(kw_only=True)
class SiteWork(Work):
    """An operation on one site; `number` is the generation that it builds or works on."""

    installation: Installation
    slug: str
    number: int

    @classmethod
    def of(cls, installation: Installation, operation: Operation, number: int) -> Self:
        """Return what the steps of a recorded operation need, on generation ``number`` of its site."""
        return cls(
            kind=operation.kind,
            operation_id=operation.key,
            installation=installation,
            slug=operation.subject,
            number=number,
        )

    @cached_property
    def site(self) -> Site:
        """Return the site's record."""
        with self.installation.store.transaction() as session:
            return records.site(session, self.slug)

    @cached_property
    def host(self) -> DockerHost:
        """Return the host on which the site lives."""
        return self.installation.host(self.site.host)

    @property
    def netloc(self) -> str:
        """Return the site's host name, with the port where it is not 443."""
        return self.installation.netloc(self.site.host_name, self.site.host)

    @property
    def url(self) -> str:
        """Return the site's address, without a slash at the end."""
        return f"https://{self.netloc}"

    @cached_property
    def generation(self) -> Generation:
        """Return the generation's record, once it is reserved."""
        with self.installation.store.transaction() as session:
            return records.generation(session, self.site.key, self.number)

    @property
    def names(self) -> GenerationNames:
        """Return the names of what the generation owns; they exist before it does."""
        return GenerationNames(self.installation.namespace, self.slug, self.number)

    def beside(self, number: int) -> Self:
        """Return the same operation at work on another generation of its site, with notes of its own."""
        mark = f"generation {number}: "
        return replace(
            self,
            number=number,
            notes={key.removeprefix(mark): value for key, value in self.notes.items() if key.startswith(mark)},
            write_note=lambda key, value: self.note(f"{mark}{key}", value),
        )

    def run_as_root(self, name: str, command: Sequence[str], binds: Sequence[Bind], *, image: str) -> Outcome:
        """Run a one-shot that works on the host's files for this operation."""
        return self.host.run(
            OneShot(
                name=f"{self.one_shot_prefix}.{name}",
                image=image,
                labels=self.operation_labels,
                command=command,
                binds=binds,
                capabilities=FILE_CAPABILITIES,
            )
        )

    def run_in_site(
        self,
        request: Request[A],
        files: Mapping[str, bytes] | None = None,
        more: Sequence[Bind] = (),
        seconds: float = ONE_SHOT_SECONDS,
    ) -> A:
        """Have the site's own program, beside the generation, do what ``request`` asks; return its answer.

        Raises:
            Unavailable: the generation's image speaks a protocol that this program does not.
            ProvisionError: it failed, or its answer is no answer.

        """
        require_spoken(self.slug, self.spoken)
        given = {"request.json": wire.written(request), **(files or {})}
        outcome = self.run_beside(request.verb, ["php", SITE_PROGRAM, request.verb], given, more, seconds)
        outcome.require_success(f"{self.slug}: {request.verb}")
        return answered(request, outcome.output)

    def run_beside(
        self,
        name: str,
        command: Sequence[str],
        files: Mapping[str, bytes],
        more: Sequence[Bind] = (),
        seconds: float = ONE_SHOT_SECONDS,
    ) -> Outcome:
        """Run a command beside the generation: with its image, its mounts (and ``more``), its rights and its limits."""
        one_shot = beside(self.service, f"{self.one_shot_prefix}.{name}", command, files, self.spoken)
        labels = {**one_shot.labels, **self.operation_labels}
        return self.host.run(replace(one_shot, labels=labels, binds=[*one_shot.binds, *more]), seconds)

    @property
    def spoken(self) -> int:
        """Return the protocol that the generation's image speaks."""
        return self.host.protocol(self.generation.image)

    @property
    def service(self) -> Service:
        """Return the generation's container as it must run."""
        return site_service(self.host, self.site, self.generation, self.installation.inventory.policy.site)

    @property
    def one_shot_prefix(self) -> str:
        """Return how the names of this operation's one-shots begin."""
        return f"{self.installation.namespace}.op.{self.operation_id}.{self.slug}.{self.number}"

    @property
    def operation_labels(self) -> dict[str, str]:
        """Return the labels of this operation's one-shots; who only looks is no operation, and holds nothing."""
        if not self.operation_id:
            return self.host.role_labels("one-shot")
        return {**self.host.held_labels(self.slug), LABEL_OPERATION: str(self.operation_id)}

    def end_leftovers(self) -> None:
        """End the one-shots that a process which died left at work for this operation."""
        with self.installation.store.transaction() as session:
            site = records.find_site(session, self.slug)
            on_host = site is not None and records.generations(session, site.key) != []
        if on_host:  # else nothing of it is there, and no engine is asked
            self.host.remove_labelled(**{LABEL_OPERATION: str(self.operation_id)})


def require_spoken(slug: str, spoken: int) -> None:
    """Make sure that this program speaks the protocol of a site's image.

    Raises:
        Unavailable: it does not; an upgrade gives the site an image that it does.

    """
    if spoken not in protocol.SPOKEN:
        mine = ", ".join(map(str, sorted(protocol.SPOKEN)))
        raise Unavailable(
            f"{slug}: its image speaks protocol {spoken}, this version of provision speaks {mine}",
            f"provision upgrade {slug}"
            if spoken < max(protocol.SPOKEN)
            else "install the version of provision that built the image",
        )


def edge_image(host: DockerHost) -> str:
    """Return the digest of the image that a host's edge runs.

    Raises:
        Unavailable: the host is not initialised.

    """
    edge = host.inspect(HostNames(host.namespace).edge)
    if edge is None:
        raise Unavailable(f"host {host.name} has no edge", "provision init")
    return str(edge["Image"])


def beside(service: Service, name: str, command: Sequence[str], files: Mapping[str, bytes], spoken: int) -> OneShot:
    """Return a one-shot beside a site's generation, which is ``service``: its image, its mounts, its rights and limits.

    Its /tmp is its own: the site's is the site's. An image of the first protocol reads its request from the root.
    """
    uid = int((service.user or "").partition(":")[0])
    return OneShot(
        name=name,
        image=service.image,
        labels=service.labels,
        command=command,
        binds=[bind for bind in service.binds if bind.target != "/tmp"],  # noqa: S108  (inside the container)
        confinement=Confinement(
            uid=uid,
            memory_mb=service.memory_mb or 0,
            cpus=service.cpus or 0,
            processes=service.processes or 0,
            writable_root=spoken == protocol.FIRST,
        ),
        files=files,
    )


def site_service(host: DockerHost, site: Site, generation: Generation, policy: SitePolicy) -> Service:
    """Return the container of a generation: no network, nothing writable but its own directories (H12, H13).

    A twin sees the media through a layer that takes its writes, and stays down when it dies. Images of the first
    protocol need directories mounted that lie below one which the site owns; an upgrade ends that.
    """
    names = generation.names(host.namespace, site.slug)
    old = host.protocol(generation.image) == protocol.FIRST
    twin = generation.state is GenerationState.TWIN
    content, media = f"{names.directory}/content", f"{names.site_directory}/{generation.media}"
    temporary = f"{names.directory if twin else names.site_directory}/tmp"  # noqa: S108  (the site's own disk)
    shown = Bind(media, _UPLOADS)
    if twin:
        shown = Overlay(
            media,
            _UPLOADS,
            name=f"{names.container}.media",
            layer=f"{names.directory}/overlay",
            labels=names.labels,
        )
    return Service(
        name=names.container,
        image=generation.image,
        labels={**names.labels, LABEL_ROLE: "twin" if twin else "site"},
        user=f"{site.uid}:{site.uid}",
        binds=[
            Bind("run/database", "/run/mysqld", read_only=True),
            Bind(names.socket_directory, "/run/site"),
            Bind(f"{names.site_directory}/secrets", "/run/secrets/site", read_only=True),
            Bind(f"{names.directory}/secrets", "/run/secrets/generation", read_only=True),
            Bind(temporary, "/tmp"),  # noqa: S108  (inside the container)
            Bind(content, "/srv/wordpress/wp-content"),
            shown,
            *(
                [Bind(f"{content}/languages/{kind}", f"/srv/languages/{kind}") for kind in ("plugins", "themes")]
                if old
                else []
            ),
            # Nothing that happens on a twin is the association's doing.
            *([] if twin else [Bind(names.activity_directory, "/run/activity", read_only=True)]),
        ],
        tmpfs={"/run/php": f"size=1m,mode=0700,uid={site.uid},gid={site.uid}"},
        memory_mb=policy.memory_mb,
        cpus=policy.cpus,
        processes=policy.processes,
        restart="no" if twin else "unless-stopped",
    )
