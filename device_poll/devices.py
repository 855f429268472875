"""Where simulated devices come from: a mail corpus on disk, a fetched public corpus, or the embedded town.

Each source is a frozen description with `load()`; what it loads is private and is dropped after embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from device_poll.population import DeviceUnit, device_unit
from device_poll.sources.fetch import spamassassin_path
from device_poll.sources.items import Fields, SourceError
from device_poll.sources.read import Format, read_items
from device_poll.town.build import build_town


@dataclass(frozen=True, kw_only=True)
class PrivateItems:
    """Private texts with their users, in time order within a user.

    `skipped` counts what was left out, by reason; `labels` (one a text) and `shares` (label -> known share) exist only
    where the source knows the truth, as the town does.
    """

    texts: tuple[str, ...] = field(repr=False)
    users: tuple[str, ...] = field(repr=False)
    skipped: Mapping[str, int]
    labels: tuple[str, ...] | None = field(default=None, repr=False)
    shares: Mapping[str, float] | None = None


class Devices(Protocol):
    """A source of devices."""

    unit: str
    items_per_device: int
    brought: ClassVar[bool]
    """Whether the texts are real ones that somebody brought, and not made up."""

    @property
    def numbered(self) -> Mapping[str, str]:
        """The settings by which a device's id is a place in a list, each with the one by which it is a user's name.

        No ledger file can keep an account by a place: with one message more, or another cut, it is another's.
        """

    def check(self) -> None:
        """Raise SourceError now if the source cannot be there."""

    def load(self) -> PrivateItems:
        """Read or build the private items. Raises SourceError for unreadable or empty sources."""


@dataclass(frozen=True, kw_only=True)
class MailDevices:
    """Mail of one's own: mbox, Maildir, JSONL(.gz), CSV(.gz), Parquet or a Hugging Face dataset folder."""

    path: str | None
    fields: Fields = field(default_factory=Fields)
    format: Format | Literal["auto"] = "auto"
    on_bad_row: Literal["error", "skip"] = "error"
    min_words: int = 3
    max_words: int | None = None
    unit: str = DeviceUnit.USER
    items_per_device: int = 5

    brought: ClassVar[bool] = True

    @property
    def numbered(self) -> Mapping[str, str]:
        """By the unit, and where no field names users."""
        by_field = {"devices.fields.user=null": "devices.fields.user=FIELD"} if self.fields.user is None else {}
        return _numbered(self.unit) | by_field

    def check(self) -> None:
        """Raise SourceError if no path is given or nothing is there."""
        device_unit(self.unit)
        if self.path is None:
            raise SourceError(
                "devices.path is not set; give your mail (devices.path=MAIL.jsonl.gz) or use devices=town or "
                "devices=spamassassin"
            )
        if not Path(self.path).expanduser().exists():
            raise SourceError(f"devices.path={self.path} does not exist; give an existing file or folder")

    def load(self) -> PrivateItems:
        """Read the mail."""
        self.check()
        items = read_items(
            Path(str(self.path)).expanduser(),
            self.fields,
            format=self.format,
            on_bad_row=self.on_bad_row,
            min_words=self.min_words,
            max_words=self.max_words,
        )
        return PrivateItems(texts=items.texts, users=items.users, skipped=items.skipped)


@dataclass(frozen=True, kw_only=True)
class SpamAssassinDevices:
    """The public SpamAssassin mail corpus, brought into the cache by `synthpoll fetch spamassassin`."""

    cache: str | Path
    unit: str = DeviceUnit.ITEM
    items_per_device: int = 5

    brought: ClassVar[bool] = True

    @property
    def numbered(self) -> Mapping[str, str]:
        """By the unit."""
        return _numbered(self.unit)

    def check(self) -> None:
        """Raise SourceError if the corpus has not been fetched."""
        device_unit(self.unit)
        if not self._path.is_file():
            raise SourceError("the SpamAssassin corpus is not in the cache; run: synthpoll fetch spamassassin")

    @property
    def _path(self) -> Path:
        return spamassassin_path(Path(self.cache).expanduser())

    def load(self) -> PrivateItems:
        """Read the fetched corpus."""
        self.check()
        items = read_items(self._path, Fields(time="date"))
        return PrivateItems(texts=items.texts, users=items.users, skipped=items.skipped)


@dataclass(frozen=True, kw_only=True)
class TownDevices:
    """The embedded town, whose topic shares are known."""

    devices: int = 10_000
    mails_per_device: int = 3
    seed: int = 0
    unit: str = DeviceUnit.USER
    items_per_device: int = 5

    brought: ClassVar[bool] = False

    @property
    def numbered(self) -> Mapping[str, str]:
        """By the unit."""
        return _numbered(self.unit)

    def check(self) -> None:
        """Nothing can be missing: the town travels with the package."""
        device_unit(self.unit)

    def load(self) -> PrivateItems:
        """Build the town."""
        town = build_town(self.devices, self.mails_per_device, self.seed)
        return PrivateItems(texts=town.texts, users=town.users, skipped={}, labels=town.topics, shares=town.proportions)


def _numbered(unit: str) -> dict[str, str]:
    """Raises PopulationError for no such unit."""
    return {} if device_unit(unit) is DeviceUnit.USER else {f"devices.unit={unit}": "devices.unit=user"}
