"""What a registry asks of its index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from legion.neuro_architecture.registry.query.terms import Query
from legion.neuro_architecture.spec.entries import AnyEntry

__all__ = ["RegistryIndex"]


class RegistryIndex(Protocol):
    """Where things stand in the log: everything in it follows from the entries applied, in their order.

    An index may lag behind its log and is then brought forward by `apply`; it must never be ahead. One object may be
    shared by threads, and many processes may share what is behind it. A method sees whole `apply` calls only. Numbers
    are entry numbers of the log. Every iterator is detached: applying while it runs disturbs neither.
    """

    def position(self) -> tuple[int, str]:
        """How many entries were applied, and the hex leaf hash of the last of them (empty before the first)."""
        ...

    def apply(self, start: int, entries: Sequence[tuple[AnyEntry, str]]) -> None:
        """Takes in entries from number `start` on, each with its hex leaf hash: all or none, with the position.

        What was applied already, by whomever, is passed over, so that several processes may apply the same entries.

        Raises:
            InvalidValueError: entries before `start` are missing, or an entry's digest is none.
            IntegrityError: what was applied already is of another log.
        """
        ...

    def refill(self, batches: Callable[[], Iterable[Sequence[tuple[AnyEntry, str]]]]) -> None:
        """Everything anew, even where it is damaged: until the last batch is in, all see what stood before.

        Args:
            batches: Gives the entries from number 0 on, as `apply` takes them; asked again where tables had to go.
        """
        ...

    def by_digest(self, digest: str) -> int | None:
        """The snapshot with this digest."""
        ...

    def by_beginning(self, digits: str, *, limit: int) -> list[str]:
        """The digests of at most `limit` snapshots whose digest begins with these hex digits, oldest first."""
        ...

    def latest(self, semantic_hash: str) -> int | None:
        """The newest snapshot of this architecture."""
        ...

    def revisions(self, semantic_hash: str) -> list[int]:
        """All snapshots of this architecture, oldest first."""
        ...

    def by_content(self, name: str) -> int | None:
        """The first snapshot with this `content_name`."""
        ...

    def by_key(self, key: str) -> int | None:
        """The first entry with this idempotency key."""
        ...

    def tagged(self, tags: Sequence[str]) -> Iterator[int]:
        """The snapshots that now have all these tags, oldest first; all snapshots where no tag is named."""
        ...

    def tags(self, digest: str) -> tuple[str, ...]:
        """The tags that a snapshot now has, sorted; none where it is unknown."""
        ...

    def aliases(self) -> dict[str, str]:
        """Every alias with the digest it now names, in the order of their names."""
        ...

    def alias(self, name: str) -> str | None:
        """The digest that this alias now names."""
        ...

    def events(self, digest: str) -> list[int]:
        """The entries that speak of this snapshot, oldest first: its registration, and whatever names it later."""
        ...

    def snapshots(self, *, after: int = -1, limit: int | None = None) -> Iterator[int]:
        """The snapshots with a number above `after`, oldest first, at most `limit`; streams."""
        ...

    def children(self, digest: str) -> list[int]:
        """The snapshots whose parent this is, oldest first."""
        ...

    def select(
        self, query: Query, *, order: str | None = None, is_descending: bool = False, limit: int | None = None
    ) -> Iterator[int]:
        """The snapshots that fit, oldest first.

        Args:
            query: What they must fit.
            order: A metric to order by instead; those without it come last, ties and they oldest first.
            is_descending: The largest metric first.
            limit: At most so many.

        Raises:
            InvalidValueError: `limit` is negative.
        """
        ...

    def metric_names(self) -> tuple[str, ...]:
        """Every dotted name under which some snapshot has a number, sorted."""
        ...

    def referenced_blobs(self) -> Iterator[str]:
        """The digest of every blob that a snapshot names, deleted or not, sorted."""
        ...

    def deleted_blobs(self) -> set[str]:
        """The digests of blobs that were deleted and not registered again since."""
        ...

    def close(self) -> None:
        """Lets go of files and connections of all threads; none may be at work. Closing twice does nothing."""
        ...
