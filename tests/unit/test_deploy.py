"""What is in `deploy/` agrees with the program and with itself; `make containers` shows it at work."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from footfall import config, telemetry
from footfall.processes.roles import ROLES
from footfall.queue.account import RelayAccount
from footfall.queue.base import SinkReport
from footfall.queue.local.reader import QueueState
from footfall.queue.sink import VISIT_LOG
from footfall.status.refusals import RefusalCounts
from footfall.status.service import ServiceStatus
from harness import needs_tool

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE_FILES = ["compose.yaml", "compose.rabbitmq.yaml", "compose.tls.yaml"]

_VARIABLE = re.compile(r"\$\{(\w+):([-?])([^${}]*)\}")
_ENV_LINE = re.compile(r"^#?(\w+)=(.*)$", re.MULTILINE)
_SECRET = re.compile(r"\w*(?:TOKEN|PASSWORD|PASS)")


def _services(name: str) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / name).read_text("utf-8"))["services"]
    return services


def _interpolated(text: str) -> str:
    """With every variable at its default, and `secret` where one must be set."""
    return _VARIABLE.sub(lambda match: match[3] if match[2] == "-" else "secret", text)


def _environment(service: dict[str, Any]) -> dict[str, str]:
    """What a service gets. One without a value comes from `.env`, where the example has it at its default."""
    example = dict(_ENV_LINE.findall((DEPLOY / ".env.example").read_text("utf-8")))
    variables: dict[str, Any] = service.get("environment", {})
    return {
        name: example[name] if value is None else _interpolated(str(value))
        for name, value in variables.items()
        if value is not None or example[name]
    }


def _instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = dockerfile.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def _run_stage(dockerfile: Path) -> list[tuple[str, str]]:
    instructions = _instructions(dockerfile)
    last = max(number for number, (word, _) in enumerate(instructions) if word == "FROM")
    return instructions[last:]


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_setting_of_a_compose_file_is_known(name: str) -> None:
    """With what its image sets already, a container's settings are accepted."""
    for service, options in _services(name).items():
        image = DEPLOY / "docker" / f"{service}.Dockerfile"
        baked = _variables(image) if image.exists() else {}
        config.load(DEPLOY / "appsettings.json", environ=baked | _environment(options))


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_no_secret_has_a_default(name: str) -> None:
    """Compose refuses to start before somebody has chosen them."""
    for text in re.findall(r"\$\{[^}]+\}", (DEPLOY / name).read_text("utf-8")):
        assert (text, True) == (text, ":?" in text or not _SECRET.match(text.removeprefix("${").split(":")[0]))


def test_example_of_settings_holds_no_secret() -> None:
    """Nobody runs with a token that everybody knows."""
    example = _ENV_LINE.findall((DEPLOY / ".env.example").read_text("utf-8"))
    secrets = {name: value for name, value in example if _SECRET.fullmatch(name)}
    assert {"FOOTFALL__REPORTING__TOKEN": "", "CLICKHOUSE_PASSWORD": "", "RABBITMQ_PASSWORD": ""} == secrets


def test_every_setting_of_the_example_is_passed_on() -> None:
    """A line of `.env` that no container gets would be a trap."""
    named = {name for name, _ in _ENV_LINE.findall((DEPLOY / ".env.example").read_text("utf-8"))}
    files = "".join(str(_services(name)) for name in COMPOSE_FILES)
    assert {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE"} == {name for name in named if name not in files}


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_only_the_broker_is_on_both_sides(name: str) -> None:
    """What collects and what records share no network but through the broker."""
    services = _services("compose.yaml")
    for service, options in _services(name).items():
        networks = {*services.get(service, {}).get("networks", []), *options.get("networks", [])}
        is_broker = service in {"kafka", "rabbitmq"}
        assert (service, is_broker) == (service, networks >= {"collecting", "recording"})
    assert ["collecting"] == services["collector"]["networks"]


def test_there_is_an_image_for_each_role() -> None:
    """Named as the role, and in compose.yaml built from it."""
    assert sorted(ROLES) == [dockerfile.stem for dockerfile in DOCKERFILES]
    built = {
        name: options["build"]["dockerfile"]
        for name, options in _services("compose.yaml").items()
        if "build" in options
    }
    assert {role: f"deploy/docker/{role}.Dockerfile" for role in ROLES} == built


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_image_runs_its_role_as_nobody_special(dockerfile: Path) -> None:
    """Not as root, with a health check, and the command gets the signal that stops it."""
    stage = dict(_run_stage(dockerfile))
    assert "10001:10001" == stage["USER"]
    assert "SIGTERM" == stage["STOPSIGNAL"]
    assert ["footfall", "run", dockerfile.stem] == json.loads(stage["ENTRYPOINT"]) + json.loads(stage["CMD"])
    port = stage["EXPOSE"]
    assert f"http://127.0.0.1:{port}/healthz" in stage["HEALTHCHECK"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_image_holds_no_build_tools(dockerfile: Path) -> None:
    """What is installed is checked by hash in one stage, and nothing is installed in the other."""
    instructions = _instructions(dockerfile)
    assert 2 == sum(word == "FROM" for word, _ in instructions)
    assert any("--require-hashes" in rest for word, rest in instructions if word == "RUN")
    assert not [rest for word, rest in _run_stage(dockerfile) if word == "RUN" and re.search(r"\b(?:pip|apt)", rest)]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_settings_of_an_image_are_known(dockerfile: Path) -> None:
    """And put its data where the volume is."""
    settings = config.load(DEPLOY / "appsettings.json", environ=_variables(dockerfile)).settings
    assert settings.data_dir in json.loads(dict(_run_stage(dockerfile))["VOLUME"])


def _variables(dockerfile: Path) -> dict[str, str]:
    words = [word for name, rest in _run_stage(dockerfile) if name == "ENV" for word in rest.split()]
    return dict(word.split("=", 1) for word in words)


def test_images_have_one_base() -> None:
    """Of a given release; all four move together."""
    bases = {rest for dockerfile in DOCKERFILES for word, rest in _instructions(dockerfile) if word == "ARG"}
    assert 1 == len(bases)
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-\w+", bases.pop())


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_settings_of_a_unit_are_known(unit: Path) -> None:
    """And put its files into the directories that systemd makes for it."""
    words = [word for line in _lines(unit, "Environment") for word in line.split()]
    settings = config.load(DEPLOY / "appsettings.json", environ=dict(word.split("=", 1) for word in words)).settings
    assert ["footfall"] == _lines(unit, "StateDirectory") == _lines(unit, "LogsDirectory")
    assert "/var/lib/footfall" == settings.data_dir
    assert "/var/log/footfall/visits.log" == settings.storage.path


def _lines(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def test_units_differ_in_what_they_run_only() -> None:
    """So that a hardening of one is not forgotten in the other."""
    whole, role = (unit.read_text("utf-8").splitlines() for unit in UNITS)
    assert {line.partition("=")[0] for line in _settings_of(whole) ^ _settings_of(role)} <= {
        "Description",
        "Environment",
        "EnvironmentFile",
        "ExecStart",
    }


def _settings_of(unit: list[str]) -> set[str]:
    return {line for line in unit if not line.startswith("#")}


@needs_tool("systemd-analyze", "systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    """No key is misspelt, no value impossible."""
    name = unit.name.replace("@", "@collector")
    there = tmp_path / name
    there.write_text(unit.read_text("utf-8").replace("/opt/footfall/.venv/bin/footfall", shutil.which("true") or ""))
    command = ["systemd-analyze", "verify", "--man=no", str(there)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [] == [line for line in result.stderr.splitlines() if name in line]


def test_log_is_never_copied_and_cut() -> None:
    """`copytruncate` loses lines; test_logrotate_loses_no_line shows that the snippet does not."""
    assert "copytruncate" not in _directives((DEPLOY / "logrotate").read_text("utf-8"))
    assert {"delaycompress", "nocreate"} <= set(_directives((DEPLOY / "logrotate").read_text("utf-8")))


def _directives(text: str) -> Iterator[str]:
    return (line.split()[0] for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def test_workflow_runs_what_ci_runs_and_builds_the_images() -> None:
    """There is one way to test, and each image is built."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    assert ".ci/run" in [step.get("run") for step in jobs["test"]["steps"]]
    assert sorted(ROLES) == sorted(jobs["images"]["strategy"]["matrix"]["service"])


def _sample_names() -> set[str]:
    """What `/metrics` can show: a counter's name ends in `_total` there."""
    told = QueueState(
        received=1,
        refused={"invalid": 1},
        last_sequence=1,
        sinks={VISIT_LOG: SinkReport(1, 1, 1, {"event": 1}, "", None, {"erased": 1})},
        lag_batches={VISIT_LOG: 1},
        lag_seconds={VISIT_LOG: 1.0},
        bytes=1,
        has_assignment={VISIT_LOG: True},
        relay=RelayAccount(),
    )
    status = ServiceStatus(lambda: told, sinks=(VISIT_LOG,), checks={}, refusals=RefusalCounts())
    text = status.answer("/metrics").body.decode()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_every_metric_is_in_the_dashboard() -> None:
    """And nothing that is not there to be shown."""
    dashboard = json.loads((DEPLOY / "grafana" / "footfall.json").read_text("utf-8"))
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"\bfootfall_\w+", target["expr"])
    }
    named = {name for name in vars(telemetry).values() if isinstance(name, str) and name.startswith("footfall_")}

    assert _sample_names() == shown
    assert named == {name.removesuffix("_total") for name in shown}


def test_the_dashboard_asks_whatever_data_source_is_chosen() -> None:
    """None of somebody else's is written down in it."""
    text = (DEPLOY / "grafana" / "footfall.json").read_text("utf-8")

    assert {"${datasource}"} == set(re.findall(r'"uid": "([^"]*)"', text)) - {"footfall"}


def test_prometheus_scrapes_with_a_token_from_a_file() -> None:
    """A token in the file itself would be in a repository soon."""
    settings = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))

    [job] = settings["scrape_configs"]
    assert ["credentials_file"] == list(job["authorization"])
