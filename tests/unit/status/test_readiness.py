from footfall.status.readiness import Readiness, readiness_of


def test_every_role_can_do_its_work() -> None:
    """Each is named, in the order of the checks."""
    assert Readiness("ready", {"storage": "ready", "processor": "ready"}) == readiness_of(
        {"storage": lambda: None, "processor": lambda: None}
    )
    assert readiness_of({}).is_ready


def test_only_roles_that_can_not_are_named() -> None:
    """One is enough, and it says why."""
    readiness = readiness_of({"storage": lambda: "is not running", "processor": lambda: None})

    assert Readiness("not ready", {"storage": "is not running"}) == readiness
    assert not readiness.is_ready
