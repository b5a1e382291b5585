"""deploy/helm/diarserve and deploy/kuberay.yaml, by Helm's renderer and Kubernetes' schemas, without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from diarserve import __version__
from diarserve.core.configuration import load
from tests.support.kubernetes import Object, helm, locked_down, rendered, validate
from tests.support.paths import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "diarserve"
KUBERAY = REPOSITORY / "deploy" / "kuberay.yaml"
ONE: Object = {"access": {"keysSecret": {"name": "keys", "key": "keys"}}}
SHARED: Object = {
    **ONE,
    "replicas": 2,
    "store": {"urlSecret": {"name": "database", "key": "url"}, "objects": "s3://bucket/tasks"},
    "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432}]}]},
}
EVERYTHING: Object = {
    **SHARED,
    "access": {**ONE["access"], "trustedProxies": ["10.1.0.0/16"], "origins": ["https://app.example.org"]},
    "image": {"repository": "images.example.org/diarserve", "digest": "sha256:" + 64 * "0"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": "[limits]\nrunning = 16\n",
    "stopSeconds": 60,
    "tls": {"secretName": "certificate"},
    "env": {"AWS_REGION": "eu-central-1"},
    "envFromSecrets": ["s3"],
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "autoscaling": {"kind": "keda"},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podLabels": {"team": "speech"},
    "podAnnotations": {"note": "kept"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "extraVolumes": [{"name": "models", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models"}],
}
WAYS = {"one": ONE, "shared": SHARED, "everything": EVERYTHING, "hpa": {**SHARED, "autoscaling": {"kind": "hpa"}}}


def pod_of(objects: dict[str, Object]) -> Object:
    pod: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return pod


def settings_of(container: Object, config: Path | None = None) -> Any:
    secrets = {
        "DIARSERVE_ACCESS_KEYS": json.dumps([{"name": "app", "role": "submit", "sha256": 64 * "0"}]),
        "DIARSERVE_STORE_URL": "postgresql://database/diarserve",
        "DIARSERVE_STORE_OBJECTS": "s3://bucket/tasks",
    }
    return load(config, {each["name"]: each.get("value") or secrets[each["name"]] for each in container["env"]})


def test_the_schema_knows_every_value_and_takes_the_defaults() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    assert values.keys() == schema["properties"].keys() - {"global"}
    for name, value in values.items():
        if isinstance(value, dict) and "properties" in schema["properties"][name]:
            known = schema["properties"][name]["properties"].keys()
            assert value.keys() <= known if name == "resources" else value.keys() == known


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 2},
        {"image": {"digest": "latest"}},
        {"store": {"url": "postgresql://user:password@host/database"}},
        {"autoscaling": {"kind": "vpa"}},
        {"resources": {"limit": {}}},
        {"env": {"DIARSERVE_LIMITS_RUNNING": 4}},
    ],
)
def test_a_wrong_value_is_refused_by_the_schema(wrong: Object) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_the_chart_is_of_this_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


@pytest.mark.parametrize("way", WAYS)
def test_helm_finds_nothing_and_kubernetes_takes_what_it_renders(way: str) -> None:
    report = helm().lint(CHART, WAYS[way], strict=True)
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []
    objects = rendered(CHART, WAYS[way])
    assert {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"} <= objects.keys()
    validate(objects.values())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"access": {}}, "access.keysSecret"),
        ({"replicas": 2}, "more than one server needs store"),
        ({"autoscaling": {"kind": "keda"}}, "without them there is one server"),
        ({"store": {"objects": "s3://bucket"}}, "go together"),
        ({"store": SHARED["store"]}, "networkPolicy.egress"),
        ({"config": "port = 1", "configFile": "/file.toml"}, "alternatives"),
        ({**SHARED, "autoscaling": {"kind": "hpa", "minReplicas": 9}}, "less than minReplicas"),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_the_reason(changed: Object, said: str) -> None:
    library = helm()
    values = {**ONE, **changed}
    with pytest.raises(library.HelmError, match=re.escape(said)):
        rendered(CHART, values)


@pytest.mark.parametrize("way", WAYS)
def test_pods_are_locked_down_and_secrets_are_references(way: str) -> None:
    objects = rendered(CHART, WAYS[way])
    pod = pod_of(objects)
    assert locked_down(pod)
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    secret = {"DIARSERVE_ACCESS_KEYS", "DIARSERVE_STORE_URL"}
    given = {each["name"]: each for each in container["env"]}
    assert all("secretKeyRef" in given[name]["valueFrom"] for name in secret & given.keys())
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}


@pytest.mark.parametrize("way", WAYS)
def test_a_pod_has_longer_to_end_than_its_server_and_is_asked_where_it_listens(way: str) -> None:
    pod = pod_of(rendered(CHART, WAYS[way]))
    [container] = pod["containers"]
    settings = settings_of(container)
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= sleep + settings.stop_seconds + 5
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.access.metrics_port}
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: each["path"] for name, each in asked.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {each["port"] for each in asked.values()} <= ports.keys()


def test_one_server_has_a_claim_and_several_have_a_store() -> None:
    one, shared = rendered(CHART, ONE), rendered(CHART, SHARED)
    assert one["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert one["PersistentVolumeClaim"]["metadata"]["name"] == "call-diarserve"
    assert settings_of(pod_of(one)["containers"][0]).store.shared is False
    assert shared["Deployment"]["spec"]["replicas"] == 2
    assert "PersistentVolumeClaim" not in shared
    assert settings_of(pod_of(shared)["containers"][0]).store.shared is True


@pytest.mark.parametrize("kind", ["keda", "hpa"])
def test_scaling_follows_how_long_the_oldest_job_waits(kind: str) -> None:
    objects = rendered(CHART, {**SHARED, "autoscaling": {"kind": kind}})
    assert "replicas" not in objects["Deployment"]["spec"]
    name = objects["Deployment"]["metadata"]["name"]
    if kind == "keda":
        spec = objects["ScaledObject"]["spec"]
        queries = [each["metadata"]["query"] for each in spec["triggers"]]
        assert f'diarserve_queue_oldest_seconds{{namespace="speech", pod=~"{name}-.*"}}' in queries[0]
        described = (REPOSITORY / "docs" / "metrics.md").read_text()
        assert all(f"`{metric}`" in described for query in queries for metric in re.findall(r"diarserve_\w+", query))
    else:
        spec = objects["HorizontalPodAutoscaler"]["spec"]
        assert spec["metrics"][0]["external"]["metric"]["name"] == "diarserve_queue_oldest_seconds"
    assert spec["scaleTargetRef"]["name"] == name


def test_the_network_policy_opens_the_two_ports_and_nothing_else() -> None:
    spec = rendered(CHART, ONE)["NetworkPolicy"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in each["ports"]] for each in spec["ingress"]] == [["http"], ["metrics"]]
    assert "from" in spec["ingress"][1]
    assert [[port["port"] for port in each["ports"]] for each in spec["egress"]] == [[53, 53]]


@pytest.fixture(scope="module")
def kuberay() -> dict[str, Object]:
    return {each["kind"]: each for each in yaml.safe_load_all(KUBERAY.read_text())}


def groups(kuberay: dict[str, Object]) -> dict[str, Object]:
    spec = kuberay["RayCluster"]["spec"]
    return {"head": spec["headGroupSpec"], **{each["groupName"]: each for each in spec["workerGroupSpecs"]}}


def test_kubernetes_takes_the_pods_of_the_ray_cluster(kuberay: dict[str, Object]) -> None:
    templates = [group["template"] for group in groups(kuberay).values()]
    head = {"apiVersion": "v1", "kind": "Pod"}
    pods = [{**head, "metadata": each.get("metadata", {}), "spec": each["spec"]} for each in templates]
    assert all(locked_down(each["spec"]) for each in pods)
    validate([*pods, *kuberay.values()])


def test_the_server_on_ray_starts_with_its_settings(kuberay: dict[str, Object], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(kuberay["ConfigMap"]["data"]["config.toml"])
    template = groups(kuberay)["server"]["template"]
    [container] = template["spec"]["containers"]
    settings = settings_of(container, tmp_path / "config.toml")
    assert settings.store.shared
    assert {settings.whisper.place, settings.sortformer.place, settings.decode.place} == {"ray", "local"}
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {
        "http": settings.port,
        "watch": settings.access.metrics_port,
        "workers": settings.cluster.port,
    }
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert template["spec"]["terminationGracePeriodSeconds"] >= sleep + settings.stop_seconds + 5
    labels = template["metadata"]["labels"]
    assert kuberay["Service"]["spec"]["selector"].items() <= {**labels, "ray.io/cluster": "diarserve"}.items()
    most = groups(kuberay)["gpu"]
    limits = most["template"]["spec"]["containers"][0]["resources"]["limits"]
    for lane in (settings.whisper, settings.sortformer):
        assert lane.resources["GPU"] <= limits["nvidia.com/gpu"]
        assert lane.max_workers * lane.resources["GPU"] <= most["maxReplicas"]


def test_the_version_of_ray_is_the_images(kuberay: dict[str, Object]) -> None:
    [locked] = re.findall(r"(?m)^ray==(\S+)", (REPOSITORY / "requirements.lock").read_text())
    assert kuberay["RayCluster"]["spec"]["rayVersion"] == locked
    [image] = {each["template"]["spec"]["containers"][0]["image"] for each in groups(kuberay).values()}
    assert image.endswith(f":{__version__}")
