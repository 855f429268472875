"""Who owns which item: the deal of items to devices, and devices' rounded vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_poll.population import DeviceUnit, Population, PopulationError, assign_items, device_codes, device_unit

USERS = ["bea", "abe", "bea", "cid", "abe", "bea", "bea", "bea"]


def dealt(users: list[str], unit: str, items_per_device: int = 1) -> dict[str, list[int]]:
    """Item numbers of each device, in its order."""
    owned = assign_items(users, unit, items_per_device)
    parts = np.split(owned.order, owned.offsets[1:-1])
    return dict(zip(owned.device_ids, [part.tolist() for part in parts], strict=True))


def test_unit_user_gives_every_user_one_device_in_time_order() -> None:
    assert dealt(USERS, "user") == {"abe": [1, 4], "bea": [0, 2, 5, 6, 7], "cid": [3]}


def test_unit_item_gives_every_item_its_own_device() -> None:
    assert dealt(USERS, "item", items_per_device=3) == {
        "abe/0": [1], "abe/1": [4], "bea/0": [0], "bea/1": [2], "bea/2": [5], "bea/3": [6], "bea/4": [7], "cid/0": [3]
    }  # fmt: skip


def test_unit_split_deals_a_users_items_in_time_order() -> None:
    assert dealt(USERS, "split", items_per_device=2) == {
        "abe/0": [1, 4], "bea/0": [0, 2], "bea/1": [5, 6], "bea/2": [7], "cid/0": [3]
    }  # fmt: skip


@given(
    users=st.lists(st.sampled_from(["a", "b", "a/0", "c", ""]), min_size=1, max_size=40),
    unit=st.sampled_from([*DeviceUnit]),
    size=st.integers(1, 7),
)
def test_every_item_has_one_device_of_its_own_user(users: list[str], unit: DeviceUnit, size: int) -> None:
    owned = assign_items(users, unit, size)
    assert sorted(owned.order.tolist()) == list(range(len(users)))
    assert owned.unit is unit
    assert len(set(owned.device_ids)) == len(owned.device_ids)
    most = {DeviceUnit.USER: len(users), DeviceUnit.ITEM: 1, DeviceUnit.SPLIT: size}[unit]
    for device, items in dealt(users, unit, size).items():
        assert 1 <= len(items) <= most
        assert items == sorted(items)
        owner = device if unit is DeviceUnit.USER else device.rpartition("/")[0]
        assert {users[item] for item in items} == {owner}
    # What assign_items deals is what a population accepts.
    Population(
        embeddings=np.ones((len(users), 1), np.float32),
        offsets=owned.offsets,
        device_ids=owned.device_ids,
        unit=owned.unit,
    )


@pytest.mark.parametrize(
    ("users", "unit", "size", "message"),
    [
        ([], "user", 1, "has no items"),
        (USERS, "person", 1, "devices.unit is 'person'; expected one of user, item, split"),
        ([], "person", 1, "devices.unit is 'person'"),
        (USERS, "split", 0, "devices.items_per_device is 0; expected 1 or more"),
    ],
)
def test_what_cannot_be_dealt(users: list[str], unit: str, size: int, message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        assign_items(users, unit, size)


def test_unit_by_name() -> None:
    assert device_unit("split") is DeviceUnit.SPLIT


@pytest.mark.parametrize(
    ("items", "offsets", "ids"),
    [
        (3, [0, 1, 3], ("a",)),
        (3, [0, 1, 2], ("a", "b")),
        (3, [1, 2, 3], ("a", "b")),
        (3, [0, 3, 3], ("a", "b")),
        (3, [0, 2, 1, 3], ("a", "b", "c")),
    ],
)
def test_a_population_that_does_not_fit_together(items: int, offsets: list[int], ids: tuple[str, ...]) -> None:
    with pytest.raises(PopulationError, match=f"{len(ids)} devices, {len(offsets)} offsets and {items} items"):
        Population(
            embeddings=np.ones((items, 2), np.float32),
            offsets=np.array(offsets),
            device_ids=ids,
            unit=DeviceUnit.USER,
        )


def test_a_population_that_fits_and_prints_nothing_private() -> None:
    population = Population(
        embeddings=np.full((3, 1), 0.125, np.float32),
        offsets=np.array([0, 1, 3]),
        device_ids=("secret-1", "secret-2"),
        unit=DeviceUnit.USER,
    )
    assert population.devices == 2
    assert "secret" not in repr(population) and "0.125" not in repr(population)


@pytest.mark.parametrize(("dimension", "levels"), [(2, 127), (384, 127), (4096, 63)])
def test_device_codes_round_each_row_on_its_own_scale(dimension: int, levels: int) -> None:
    rows = np.random.default_rng(0).normal(size=(50, dimension))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    codes = device_codes(rows)
    assert codes.dtype == np.int8 and codes.shape == rows.shape
    assert (np.abs(codes.astype(int)).max(axis=1) == levels).all()
    step = np.abs(rows).max(axis=1, keepdims=True) / levels
    assert np.abs(codes * step - rows).max() <= step.max() * 0.5001
    # A row's codes depend on that row alone.
    np.testing.assert_array_equal(device_codes(rows[7:8]), codes[7:8])
