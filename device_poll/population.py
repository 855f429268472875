"""The population of simulated devices: who owns which private items.

Items are held as embeddings in CSR form. Within a device they are in time order, oldest first, so that 'the recent
items' are the last ones. Texts are not kept: after embedding, nothing here could print one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embed.compact import exact_levels


class DeviceUnit(StrEnum):
    """What counts as one device. The privacy claim protects one device, so this choice is part of it."""

    USER = "user"
    """Every user of the data is one device that owns all of the user's items."""
    ITEM = "item"
    """Every item is a device of its own: a pseudo-device; protects one item, not one person."""
    SPLIT = "split"
    """A user's items are dealt to pseudo-devices of `items_per_device`; protects one such part."""


def device_unit(value: str) -> DeviceUnit:
    """The unit of this name. Raises PopulationError that lists the names."""
    try:
        return DeviceUnit(value)
    except ValueError:
        raise PopulationError(f"devices.unit is {value!r}; expected one of {', '.join(DeviceUnit)}") from None


class PopulationError(ValueError):
    """The population cannot be polled as asked; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """Private items of all devices.

    `embeddings` float32[items, dimension] with unit rows; device i owns rows offsets[i] : offsets[i + 1] (int64[devices
    + 1]), oldest first; `device_ids` name the devices. Raises PopulationError if these do not fit together.
    """

    embeddings: NDArray[np.float32] = field(repr=False)
    offsets: NDArray[np.int64] = field(repr=False)
    device_ids: tuple[str, ...] = field(repr=False)
    unit: DeviceUnit

    def __post_init__(self) -> None:
        fits = (
            len(self.offsets) == len(self.device_ids) + 1
            and self.offsets[0] == 0
            and self.offsets[-1] == len(self.embeddings)
            and bool(np.all(np.diff(self.offsets) >= 1))
        )
        if not fits:
            raise PopulationError(
                f"{len(self.device_ids)} devices, {len(self.offsets)} offsets and {len(self.embeddings)} items do not "
                "fit together; every device needs at least one item"
            )

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self.device_ids)


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Which item belongs to which device, before embedding.

    `order` lists item indices device by device, oldest first; `offsets` cuts it into devices.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    device_ids: tuple[str, ...] = field(repr=False)
    unit: DeviceUnit


def assign_items(users: Sequence[str], unit: str, items_per_device: int = 1) -> Ownership:
    """Deal items to devices. `users[i]` owns item i; items are in time order within a user.

    Raises PopulationError if there are no items, items_per_device < 1 or no such unit.
    """
    unit = device_unit(unit)
    if not users:
        raise PopulationError("the population has no items; give mail with at least one usable message")
    if items_per_device < 1:
        raise PopulationError(f"devices.items_per_device is {items_per_device}; expected 1 or more")
    names, owner = np.unique(np.asarray(users, dtype=object), return_inverse=True)
    order = np.argsort(owner, kind="stable").astype(np.int64)
    per_user = np.bincount(owner, minlength=len(names))
    size = {DeviceUnit.USER: int(per_user.max()), DeviceUnit.ITEM: 1, DeviceUnit.SPLIT: items_per_device}[unit]
    sizes: list[int] = []
    ids: list[str] = []
    for name, count in zip(names.tolist(), per_user.tolist(), strict=True):
        parts = [min(size, count - start) for start in range(0, count, size)]
        sizes += parts
        ids += [name] if unit is DeviceUnit.USER else [f"{name}/{part}" for part in range(len(parts))]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Ownership(order=order, offsets=offsets, device_ids=tuple(ids), unit=unit)


def device_codes(embeddings: NDArray[np.float32]) -> NDArray[np.int8]:
    """Each item's vector in whole numbers, int8[n, dimension], every row on its own scale.

    A device rounds its own vector as the server rounds the candidates, so that inner products are exact in float32
    (embed/compact.py). A row's scale multiplies all its inner products alike, so it cannot change which is largest.
    """
    levels = exact_levels(embeddings.shape[1])
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    codes: NDArray[np.int8] = np.rint(embeddings * (levels / largest)).astype(np.int8)
    return codes
