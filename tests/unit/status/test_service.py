import json

from footfall.queue.local.reader import QueueState
from footfall.status.service import ServiceStatus

STATE = QueueState(3, {}, 1, {}, {}, {}, 4096)


def service(reason: str | None = None) -> ServiceStatus:
    return ServiceStatus(lambda: STATE, sinks=("visit_log",), checks={"storage": lambda: reason})


def test_each_path_is_answered() -> None:
    """Health, readiness and the ledger in JSON, the metrics as Prometheus reads them."""
    answers = {path: service().answer(path) for path in ("/healthz", "/readyz", "/ledger", "/metrics")}

    assert {200} == {answer.status for answer in answers.values()}
    assert {"status": "alive"} == json.loads(answers["/healthz"].body)
    assert {"status": "ready", "roles": {"storage": "ready"}} == json.loads(answers["/readyz"].body)
    account = {"written": 0, "skipped": {}, "pending": 3}
    assert {"received": 3, "refused": {}, "sinks": {"visit_log": account}} == json.loads(answers["/ledger"].body)
    assert answers["/metrics"].content_type.startswith("text/plain; version=0.0.4")
    assert b"footfall_received_total 3.0" in answers["/metrics"].body


def test_a_role_that_can_not_do_its_work_makes_it_unready() -> None:
    """503 for a load balancer, and the role with the reason for a person; it lives all the same."""
    status = service("no space left")

    answer = status.answer("/readyz")

    assert (503, {"status": "not ready", "roles": {"storage": "no space left"}}) == (
        answer.status,
        json.loads(answer.body),
    )
    assert 200 == status.answer("/healthz").status
