"""Names of devices: which are one piece of hardware, which are free, and what a worker's environment says of them."""

from typing import Any

import pytest

from dpo_tui.runs.devices import (
    DEVICES_VARIABLE,
    Device,
    DeviceRequest,
    Machine,
    device_variables,
    is_number,
    machine_from,
    set_device_variables,
)

BOX = Machine(
    {
        "gpu:0": Device(0, False, 10),
        "gpu:GPU-a": Device(0, False, 10),
        "gpu:MIG-x": Device(0, True, 4),
        "gpu:MIG-y": Device(0, True, 5),
        "gpu:1": Device(1, False, 30),
        "gpu:2": Device(2, False, None),
    }
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gpu:0", "gpu:0", True),
        ("gpu:unknown", "gpu:unknown", True),
        ("gpu:0", "gpu:GPU-a", True),
        ("gpu:0", "gpu:MIG-x", True),
        ("gpu:MIG-x", "gpu:GPU-a", True),
        ("gpu:MIG-x", "gpu:MIG-y", False),
        ("gpu:0", "gpu:1", False),
        ("gpu:0", "gpu:unknown", False),
        ("gpu:unknown", "gpu:other", False),
    ],
)
def test_names_share_hardware_if_they_are_of_one_card_and_not_two_of_its_slices(
    one: str, other: str, same: bool
) -> None:
    assert BOX.same(one, other) is same
    assert BOX.same(other, one) is same


def test_free_candidates_come_with_the_most_memory_first_and_those_not_listed_only_for_want_of_others() -> None:
    candidates = ("gpu:0", "gpu:2", "gpu:1", "gpu:lost")
    assert BOX.free(DeviceRequest(candidates), []) == ["gpu:1", "gpu:0", "gpu:2"]
    assert BOX.free(DeviceRequest(candidates), ["gpu:1"]) == ["gpu:0", "gpu:2"]
    assert BOX.free(DeviceRequest(candidates), ["gpu:MIG-x"]) == ["gpu:1", "gpu:2"], "a slice of the first is taken"
    assert BOX.free(DeviceRequest(candidates, 3), []) == ["gpu:1", "gpu:0", "gpu:2"]
    assert BOX.free(DeviceRequest(candidates, 4), []) == ["gpu:1", "gpu:0", "gpu:2", "gpu:lost"]
    assert Machine().free(DeviceRequest(candidates), ["gpu:0"]) == ["gpu:2", "gpu:1", "gpu:lost"]


@pytest.mark.parametrize(
    ("name", "memory", "room"),
    [("gpu:1", 30, True), ("gpu:1", 31, False), ("gpu:1", None, True), ("gpu:2", 99, True), ("gpu:lost", 99, True)],
)
def test_there_is_room_unless_the_driver_says_otherwise(name: str, memory: int | None, room: bool) -> None:
    assert BOX.has_room(name, DeviceRequest((name,), memory=memory)) is room


def test_a_worker_sees_its_devices_in_the_order_of_the_pci_bus() -> None:
    assert device_variables([]) == device_variables(["cpu"]) == {}
    assert device_variables(["gpu:1", "cpu", "gpu:MIG-x"]) == {
        "CUDA_VISIBLE_DEVICES": "1,MIG-x",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    environment = {"CUDA_VISIBLE_DEVICES": "7", DEVICES_VARIABLE: "gpu:7", "HOME": "/"}
    set_device_variables(environment, [])
    assert environment == {"CUDA_VISIBLE_DEVICES": "7", "HOME": "/"}, "the person's choice stays"
    set_device_variables(environment, ["gpu:1", "gpu:2"])
    assert (environment["CUDA_VISIBLE_DEVICES"], environment[DEVICES_VARIABLE]) == ("1,2", "gpu:1,gpu:2")


@pytest.mark.parametrize(("name", "number"), [("gpu:0", True), ("gpu:12", True), ("gpu:GPU-1", False), ("gpu:", False)])
def test_a_number_is_told_from_a_uuid(name: str, number: bool) -> None:
    assert is_number(name) is number


@pytest.mark.parametrize("document", [None, [], {}, {"devices": [{"name": "gpu:0"}]}, {"devices": 3}])
def test_an_answer_of_the_driver_in_another_form_names_no_devices(document: Any) -> None:
    assert machine_from(document) == Machine()
    known = {"devices": [{"name": "gpu:0", "card": 0, "slice": False, "free": 5}]}
    assert machine_from(known) == Machine({"gpu:0": Device(0, False, 5)})


@pytest.mark.parametrize(
    ("candidates", "count", "memory"),
    [
        ((), 1, None),
        (("gpu:0",), 0, None),
        (("gpu:0",), 2, None),
        (("gpu:0",), "1", None),
        (("gpu:0",), 1, 1.5),
        ((0,), 1, 1),
    ],
)
def test_a_request_that_no_machine_could_meet_is_none(candidates: Any, count: Any, memory: Any) -> None:
    with pytest.raises(ValueError, match=r"candidates|chosen|bytes"):
        DeviceRequest(candidates, count, memory)


def test_a_request_survives_its_file() -> None:
    request = DeviceRequest(("gpu:0", "gpu:1"), 2, 10**9)
    assert DeviceRequest.from_document(request.to_document()) == request
    assert DeviceRequest.from_document({"candidates": ["gpu:0"]}) == DeviceRequest(("gpu:0",), 1, None)
    assert DeviceRequest.from_document(None) is None
    assert (request.description, DeviceRequest(("gpu:0",)).description) == ("2 free GPUs", "any free GPU")
