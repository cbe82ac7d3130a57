"""deploy/ says what holds; and each of the checks that see to it fails when its promise is broken on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tools.deployments import commands, hygiene, references, schemas, settings, versions
from tools.deployments.check import problems
from tools.deployments.files import Deployments, documents, read

Node = dict[str, Any]
Break = Callable[[Deployments], object]


@pytest.fixture(scope="module")
def parsed() -> Deployments:
    return read()


def test_everything_that_deploy_says_holds(parsed: Deployments) -> None:
    assert problems(parsed) == []


def test_a_key_that_comes_twice_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="image: twice"):
        documents("a: {image: one, image: two}")


def service(deployments: Deployments, name: str) -> Node:
    return deployments.compose["services"][name]


def manifest(deployments: Deployments, kind: str, name: str) -> Node:
    [found] = [each for each in deployments.of_kind(kind) if each["metadata"]["name"] == name]
    return found


def pod(deployments: Deployments, name: str) -> Node:
    return manifest(deployments, "StatefulSet" if name == "postgres" else "Deployment", name)["spec"]["template"]["spec"]


def container(deployments: Deployments, name: str, place: int = 0) -> Node:
    return pod(deployments, name)["containers"][place]


def check(parsed: Deployments, check: Any, change: Break) -> list[str]:
    broken = copy.deepcopy(parsed)
    change(broken)
    return list(dict.fromkeys(check.problems(broken)))


def replaced(attribute: str, old: str, new: str) -> Break:
    """A change of a file that is kept as text."""

    def change(deployments: Deployments) -> None:
        text = getattr(deployments, attribute)
        assert old in text
        setattr(deployments, attribute, text.replace(old, new, 1))

    return change


def cases(*given: tuple[Break, list[str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("change", "expected"), given, ids=[(expected or ["?"])[0][:60] for _, expected in given])


@cases(
    (
        lambda d: container(d, "api").update(imagePullPolice="Always"),
        [
            f"Deployment api, Kubernetes {version}: spec.template.spec.containers.0: "
            "Additional properties are not allowed ('imagePullPolice' was unexpected)"
            for version in schemas.VERSIONS
        ],
    ),
    (
        lambda d: manifest(d, "Deployment", "worker")["spec"].update(replicas="two"),
        [f"Deployment worker, Kubernetes {version}: spec.replicas: 'two' is not of type 'integer', 'null'" for version in schemas.VERSIONS],
    ),
    (
        lambda d: service(d, "api").update(port=["127.0.0.1:8000:8000"]),
        ["compose.yaml: services.api: Unevaluated properties are not allowed ('port' was unexpected)"],
    ),
    (
        lambda d: service(d, "api")["environment"].update(AUTOLOADER_LOG_LEVEL="${LEVEL:-INFO}"),
        ["compose.yaml: ${LEVEL:-INFO}: only ${NAME:?what it is} is read from outside, without which nothing starts"],
    ),
    (
        lambda d: d.kustomization["resources"].remove("network.yaml"),
        ["kustomization.yaml: resources are not the files of the folder: network.yaml"],
    ),
    (lambda d: d.kustomization.update(patches=[]), ["kustomization.yaml: patches: not looked at by this check"]),
)
def test_documents_have_the_form_that_is_asked_for(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, schemas, change) == expected


def secret(name: str, old: str, new: str) -> Break:
    def change(deployments: Deployments) -> None:
        assert old in deployments.secrets[name]
        deployments.secrets[name] = deployments.secrets[name].replace(old, new, 1)

    return change


@cases(
    (
        lambda d: service(d, "spark").update(environment={"AUTOLOADER_SPARK_MEMORY": "2g"}),
        ["Compose, spark: AUTOLOADER_SPARK_MEMORY is no setting of autoloader"],
    ),
    (
        lambda d: container(d, "prefect")["env"].append({"name": "PREFECT_SERVER_ANALYTIC", "value": "no"}),
        ["Kubernetes, prefect/prefect: PREFECT_SERVER_ANALYTIC is no setting of prefect"],
    ),
    (
        lambda d: service(d, "worker")["environment"].update(AUTOLOADER_DRAIN_SECONDS="long"),
        ["Compose, worker: drain_seconds: Input should be a valid number, unable to parse string as a number"],
    ),
    (
        lambda d: service(d, "prefect")["environment"].update(PREFECT_SERVER_UI_ENABLED="maybe"),
        ["Compose, prefect: enabled: Input should be a valid boolean, unable to interpret input"],
    ),
    (
        lambda d: service(d, "worker")["environment"].update(AUTOLOADER_SPARK_MAX_CONCURRENT_RUNS="3"),
        ["Compose, worker: AUTOLOADER_SPARK_MAX_CONCURRENT_RUNS is not what it is in Compose, migrate"],
    ),
    (
        secret("spark.env", "TOKEN=", "TOKEN=another"),
        [
            "Compose, migrate: AUTOLOADER_SPARK_TOKEN is not the AUTOLOADER_SPARK_TOKEN of spark serve",
            "Kubernetes, api/migrate: AUTOLOADER_SPARK_TOKEN is not the AUTOLOADER_SPARK_TOKEN of spark serve",
        ],
    ),
    (
        secret("prefect.env", "AUTH_STRING=", "AUTH_STRING=another"),
        [
            "Compose, migrate: AUTOLOADER_PREFECT_AUTH_STRING is not the PREFECT_SERVER_API_AUTH_STRING of prefect",
            "Kubernetes, api/migrate: AUTOLOADER_PREFECT_AUTH_STRING is not the PREFECT_SERVER_API_AUTH_STRING of prefect",
        ],
    ),
    (
        lambda d: manifest(d, "ConfigMap", "autoloader")["data"].pop("AUTOLOADER_WAREHOUSE"),
        [
            "Kubernetes, api/api: AUTOLOADER_WAREHOUSE is not set, and would be the container's own",
            "Kubernetes, worker/worker: AUTOLOADER_WAREHOUSE is not set, and would be the container's own",
        ],
    ),
    (replaced("dockerfile", "AUTOLOADER_HOME=", "AUTOLOADER_HOUSE="), ["Dockerfile: AUTOLOADER_HOUSE is no setting"]),
)
def test_variables_are_settings_with_good_values(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, settings, change) == expected


def test_a_bad_value_is_not_shown(parsed: Deployments) -> None:
    found = check(parsed, settings, secret("autoloader.env", "CREDENTIALS={}", 'CREDENTIALS={"hidden-word"'))

    assert len(found) == 7
    assert "hidden-word" not in " ".join(found)


@cases(
    (
        lambda d: service(d, "worker").update(command=["wrker"]),
        ["Compose, worker: autoloader wrker: No such command 'wrker'. Did you mean 'worker'?"],
    ),
    (
        lambda d: container(d, "spark").update(args=["spark", "serve", "--address=0.0.0.0"]),
        ["Kubernetes, spark/spark: autoloader spark serve --address=0.0.0.0: No such option: --address"],
    ),
    (
        lambda d: service(d, "prefect").update(command=["server", "start", "--hots=0.0.0.0"]),
        ["Compose, prefect: prefect server start --hots=0.0.0.0: Unknown option: --hots. Did you mean --host?"],
    ),
    (
        lambda d: container(d, "prefect").update(command=["sleep"]),
        ["Kubernetes, prefect/prefect: sleep server start --host=0.0.0.0 --port=4200: no command of the image"],
    ),
    (
        replaced("dockerfile", "autoloader spark jars", "autoloader spark jar"),
        ["Dockerfile: autoloader spark jar: No such command 'jar'. Did you mean 'jars'?"],
    ),
    (replaced("dockerfile", 'CMD ["up"]', 'CMD ["serve"]'), ["Dockerfile: autoloader serve: No such command 'serve'."]),
)
def test_commands_exist_and_take_what_they_are_given(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, commands, change) == expected


@cases(
    (lambda d: service(d, "api").update(env_file=["secrets/api.env"]), ["Compose, api: secrets/api.env is not made"]),
    (lambda d: service(d, "migrate")["depends_on"].update(mysql={}), ["Compose, migrate: depends on mysql, which is not there"]),
    (
        lambda d: service(d, "prefect").pop("healthcheck"),
        [f"Compose, {name}: waits for the health of prefect, which has no check of it" for name in ("api", "worker")],
    ),
    (
        lambda d: service(d, "spark-tls").update(network_mode="service:spork"),
        [
            "Compose, spark-tls: shares the network of spork, which is not there",
            *(f"Compose, {name}: AUTOLOADER_SPARK_CONNECT_URL: nobody listens on spark:15443" for name in ("migrate", "api", "worker")),
        ],
    ),
    (
        lambda d: service(d, "api")["healthcheck"]["test"].append("http://127.0.0.1:8001/ready"),
        [
            "Compose, api: its check asks the port 8001, on which it does not listen",
            "Compose, api: its check asks for /ready, which it does not answer",
        ],
    ),
    (
        lambda d: service(d, "api").update(ports=["127.0.0.1:8000:80"]),
        ["Compose, api: 127.0.0.1:8000:80: it does not listen on that port"],
    ),
    (lambda d: d.compose["volumes"].pop("warehouse"), ["Compose: volumes: warehouse is used and not declared, or the other way round"]),
    (
        lambda d: d.compose["secrets"].update(other={"file": "secrets/spark.crt"}),
        ["Compose: secrets: other is used and not declared, or the other way round"],
    ),
    (lambda d: d.compose["secrets"]["spark.key"].update(file="secrets/tls.key"), ["Compose: secrets/tls.key is not made"]),
    (lambda d: d.compose["configs"]["postgres.sql"].update(file="postgres.sql"), ["Compose: postgres.sql is not there"]),
    (
        lambda d: service(d, "spark-tls").update(entrypoint=["nginx", "-c", "/etc/nginx/nginx.conf"]),
        [f"Compose, {name}: AUTOLOADER_SPARK_CONNECT_URL: nobody listens on spark:15443" for name in ("migrate", "api", "worker")],
    ),
)
def test_what_compose_names_is_there(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, references, change) == expected


@cases(
    (
        lambda d: manifest(d, "Deployment", "api")["spec"]["selector"]["matchLabels"].update(app="web"),
        ["Kubernetes, api: its selector is not its pods' labels"],
    ),
    (
        lambda d: d.kustomization["configMapGenerator"][0].update(files=["files/init.sql"]),
        ["kustomization.yaml: postgres-files: init.sql is not there"],
    ),
    (
        lambda d: d.kustomization["secretGenerator"][3].update(name="sparks"),
        ["Kubernetes, spark: there is no secret spark"],
    ),
    (
        lambda d: pod(d, "spark")["volumes"][3]["secret"].update(secretName="tls"),
        ["Kubernetes, spark: there is no secret tls"],
    ),
    (
        lambda d: pod(d, "worker")["volumes"][2]["secret"]["items"][0].update(key="tls.crt"),
        ["Kubernetes, worker: spark-tls has no tls.crt"],
    ),
    (
        lambda d: container(d, "api")["volumeMounts"][2].update(subPath="api.key"),
        ["Kubernetes, api: local-key has no api.key"],
    ),
    (
        lambda d: container(d, "api")["volumeMounts"][1].update(name="temp"),
        ["Kubernetes, api: the volume temp is mounted and not declared, or the other way round"],
    ),
    (
        lambda d: pod(d, "prefect")["volumes"].append({"name": "more", "emptyDir": {}}),
        ["Kubernetes, prefect: the volume more is mounted and not declared, or the other way round"],
    ),
    (
        lambda d: container(d, "api")["livenessProbe"]["httpGet"].update(path="/health", port="web"),
        ["Kubernetes, api/api: livenessProbe: it has no port web", "Kubernetes, api/api: livenessProbe: it does not answer /health"],
    ),
    (
        lambda d: container(d, "prefect")["ports"][0].update(containerPort=4201),
        ["Kubernetes, prefect/prefect: it does not listen on 4201"],
    ),
    (
        lambda d: container(d, "prefect").update(args=["server", "start", "--port=4200"]),
        [
            "Kubernetes, prefect/prefect: it does not listen on 4200",
            *(
                f"Kubernetes, {name}: AUTOLOADER_PREFECT_API_URL: nobody listens on prefect:4200"
                for name in ("api/migrate", "api/api", "worker/migrate", "worker/worker")
            ),
        ],
    ),
    (
        lambda d: manifest(d, "Service", "api")["spec"]["ports"][0].update(targetPort="web"),
        ["Service api: its pods have no port web"],
    ),
    (
        lambda d: manifest(d, "PodDisruptionBudget", "worker")["spec"]["selector"]["matchLabels"].update(app="workers"),
        ["PodDisruptionBudget worker: there are no such pods"],
    ),
    (
        lambda d: manifest(d, "NetworkPolicy", "spark")["spec"]["ingress"][0]["ports"][0].update(port="grpc"),
        ["NetworkPolicy spark: its pods have no port grpc"],
    ),
    (
        lambda d: manifest(d, "NetworkPolicy", "spark")["spec"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0].update(
            values=["worker"]
        ),
        [f"Kubernetes, api/{name}: AUTOLOADER_SPARK_CONNECT_URL: no NetworkPolicy lets it in to spark" for name in ("migrate", "api")],
    ),
    (
        lambda d: manifest(d, "Service", "prefect")["spec"]["ports"][0].update(port=80),
        [
            f"Kubernetes, {name}: AUTOLOADER_PREFECT_API_URL: the service prefect has no port 4200"
            for name in ("api/migrate", "api/api", "worker/migrate", "worker/worker")
        ],
    ),
    (
        lambda d: container(d, "spark", 1).update(command=["nginx", "-c", "/etc/nginx/nginx.conf"]),
        [
            "Kubernetes, spark/tls: it does not listen on 15443",
            *(
                f"Kubernetes, {name}: AUTOLOADER_SPARK_CONNECT_URL: nobody listens on spark:15443"
                for name in ("api/migrate", "api/api", "worker/migrate", "worker/worker")
            ),
        ],
    ),
)
def test_what_kubernetes_names_is_there(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, references, change) == expected


@cases(
    (
        lambda d: service(d, "postgres").update(environment={"POSTGRES_PASSWORD": "postgres"}),
        ["Compose, postgres: POSTGRES_PASSWORD is a secret, and is written down"],
    ),
    (
        lambda d: manifest(d, "ConfigMap", "autoloader")["data"].update(AUTOLOADER_OTLP_ENDPOINT="http://me:word@collector"),
        ["ConfigMap autoloader: AUTOLOADER_OTLP_ENDPOINT is a secret, and is written down"],
    ),
    (
        lambda d: container(d, "api")["env"].append({"name": "AUTOLOADER_METRICS_TOKEN", "value": "t"}),
        ["Kubernetes, api/api: AUTOLOADER_METRICS_TOKEN is a secret, and is written down"],
    ),
    (
        replaced("dockerfile", "ENV AUTOLOADER_HOME", "ENV AUTOLOADER_SPARK_TOKEN=t AUTOLOADER_HOME"),
        ["Dockerfile: AUTOLOADER_SPARK_TOKEN is a secret, and is written down"],
    ),
    (
        lambda d: d.manifests.append({"kind": "Secret", "metadata": {"name": "mine"}}),
        ["Secret mine: it is written down"],
    ),
    (lambda d: service(d, "spark-tls").update(image="nginx:latest"), ["Compose, spark-tls: nginx:latest is another image each day"]),
    (lambda d: container(d, "postgres").update(image="postgres"), ["Kubernetes, postgres/postgres: postgres is another image each day"]),
    (
        lambda d: service(d, "worker").update(volumes=["home:/var/lib/autoloader"]),
        ["Compose, worker: /var/lib/autoloader has to be a volume of the container's own"],
    ),
    (
        lambda d: container(d, "spark")["volumeMounts"].pop(0),
        ["Kubernetes, spark/spark: /var/lib/autoloader has to be a volume of the container's own"],
    ),
    (lambda d: service(d, "worker").update(stop_grace_period="60s"), ["Compose, worker: it gets 60 seconds to stop, and needs 120"]),
    (
        lambda d: manifest(d, "ConfigMap", "autoloader")["data"].update(AUTOLOADER_DRAIN_SECONDS="300"),
        ["Kubernetes, worker/worker: it gets 120 seconds to stop, and needs 310"],
    ),
    (lambda d: service(d, "api").update(ports=["8000:8000"]), ["Compose, api: 8000:8000 is published beyond this machine"]),
    (lambda d: service(d, "api").update(read_only=False), ["Compose, api: its file system can be written"]),
    (lambda d: service(d, "api").update(cap_add=["NET_ADMIN"]), ["Compose, api: it keeps capabilities"]),
    (lambda d: service(d, "api").update(privileged=True), ["Compose, api: it can gain privileges"]),
    (lambda d: service(d, "postgres").pop("user"), ["Compose, postgres: it runs as root"]),
    (lambda d: service(d, "api").update(network_mode="host"), ["Compose, api: it shares the machine's network"]),
    (lambda d: pod(d, "api").pop("automountServiceAccountToken"), ["Kubernetes, api: it gets a token of the cluster"]),
    (lambda d: pod(d, "api").pop("enableServiceLinks"), ["Kubernetes, api: services become environment variables"]),
    (lambda d: pod(d, "api")["securityContext"].update(runAsUser=0), ["Kubernetes, api: it may run as root"]),
    (lambda d: pod(d, "api")["securityContext"].pop("seccompProfile"), ["Kubernetes, api: it has no seccomp profile"]),
    (lambda d: pod(d, "api").update(hostNetwork=True), ["Kubernetes, api: it shares the node's network"]),
    (
        lambda d: container(d, "worker").update(securityContext={"capabilities": {"drop": ["NET_RAW"]}}),
        [
            "Kubernetes, worker: worker: its file system can be written",
            "Kubernetes, worker: worker: it can gain privileges",
            "Kubernetes, worker: worker: it keeps capabilities",
        ],
    ),
    (
        lambda d: container(d, "worker").pop("resources"),
        ["Kubernetes, worker: worker: it says not what it needs", "Kubernetes, worker: worker: its memory has no bound"],
    ),
    (lambda d: container(d, "api")["ports"][0].update(hostPort=80), ["Kubernetes, api: api: it takes a port of the node"]),
    (
        lambda d: manifest(d, "Service", "api")["spec"].update(type="LoadBalancer"),
        ["Service api: it is reached from outside the cluster"],
    ),
    (
        lambda d: d.manifests.remove(manifest(d, "NetworkPolicy", "nobody-unless-named")),
        ["Kubernetes: no NetworkPolicy keeps out who is not named"],
    ),
)
def test_nothing_is_open_that_need_not_be(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, hygiene, change) == expected


@cases(
    (
        lambda d: service(d, "api").update(image="autoloader:0.0.9"),
        ["Compose, api: autoloader:0.0.9 is not of the project's version, 0.1.0"],
    ),
    (
        lambda d: d.kustomization["images"][0].update(newTag="0.2.0"),
        [
            f"Kubernetes, {name}: autoloader:0.2.0 is not of the project's version, 0.1.0"
            for name in ("prefect/prefect", "spark/spark", "api/migrate", "api/api", "worker/migrate", "worker/worker")
        ],
    ),
    (
        lambda d: service(d, "prefect").update(image="prefecthq/prefect:3-latest"),
        ["Compose, prefect: prefecthq/prefect:3-latest does not come from uv.lock"],
    ),
    (lambda d: d.locked.update(uv="9.9.9"), ["Dockerfile: uv is 0.13.9, and 9.9.9 in uv.lock"]),
    (
        replaced("dockerfile", "--no-dev --extra spark --no-editable", "--no-dev --no-editable"),
        ["Dockerfile: uv sync --frozen --no-dev --no-editable: not what uv.lock says for a server with Spark"],
    ),
    (replaced("dockerfile", "FROM python:3.11", "FROM python:3.10"), ["Dockerfile: Python is 3.10, and has to be >=3.11"]),
    (replaced("dockerfile", "openjdk-17", "openjdk-11"), ["Dockerfile: Java is 11, and Spark needs 17 or 21"]),
    (
        replaced("dockerfile", "COPY persistence persistence\n", ""),
        [
            "Dockerfile: copied are not the packages of pyproject.toml: persistence",
            "Dockerfile.dockerignore: lets through what is not copied, or the other way round: persistence",
        ],
    ),
)
def test_versions_are_those_of_the_lock(parsed: Deployments, change: Break, expected: list[str]) -> None:
    assert check(parsed, versions, change) == expected
