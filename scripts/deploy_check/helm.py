"""deploy/helm: Helm's own linter and templates, its schema of values, and Kubernetes' schemas of what it renders."""

import copy
import re

import helm_python as helm
import kubernetes_validate
import yaml

from .checks import CheckFailed, require

# Kubernetes' oldest and newest versions that are checked.
KUBERNETES = ["1.29", "1.34"]
SMALLEST = {"storage": "s3://images/latentd"}
FULL = {
    "storage": "s3://images/latentd?region=eu-central-1&endpoint=https://s3.example",
    "models": ["stable-diffusion-3.5-large", "stable-diffusion-3.5-medium"],
    "modelsClaim": "models",
    "offline": True,
    "image": {"pullSecrets": ["registry"]},
    "secrets": {"huggingFace": {"name": "hub", "key": "token"}},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/latentd"}},
    "gateway": {
        "publicUrl": "https://images.example.com", "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
        "env": {"LATENTD_MAX_QUEUE": "1000"}, "nodeSelector": {"pool": "web"}, "tolerations": [{"operator": "Exists"}],
    },
    "worker": {"env": {"LATENTD_DTYPE": "fp8"}, "runtimeClassName": "nvidia", "nodeSelector": {"gpu": "h100"}},
    "keda": {"enabled": True, "connection": {"name": "keda", "key": "url"}},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "tlsSecret": "tls"},
}
# Values that the schema must refuse.
REFUSED = [
    {},
    {"storage": "/srv/images"},
    SMALLEST | {"modles": []},
    SMALLEST | {"models": []},
    SMALLEST | {"drainTimeout": "60"},
    SMALLEST | {"gateway": {"readinessPath": "/metrics"}},
    SMALLEST | {"secrets": {"database": {"name": ""}}},
    SMALLEST | {"keda": {"requestsPerWorker": 0}},
]


def lint(chart):
    for values in (SMALLEST, FULL):
        report = helm.lint(chart, values, strict=True)
        problems = report["errors"] + [m for m in report["messages"] if m["severity"] >= 2]
        require(not problems, problems)
    return f"Helm {helm.helm_sdk_version()}"


def schema(chart):
    with helm.Chart.load(chart) as loaded:
        for values in (SMALLEST, FULL):
            loaded.validate_schema(loaded.merge_values(values))
        for values in REFUSED:
            try:
                loaded.validate_schema(loaded.merge_values(values))
            except helm.HelmError:
                continue
            raise CheckFailed(f"accepts {values}")
    return f"refuses {len(REFUSED)} wrong values"


def rendered(chart, values):
    """Every object that the chart makes."""
    with helm.Chart.load(chart) as loaded:
        files = loaded.render(values, name="images", namespace="default")
    objects = []
    for name, text in files.items():
        if name.endswith(".yaml"):
            objects += [thing for thing in yaml.load_all(text, UniqueKeys) if thing]
    return objects


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error, as for Kubernetes."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        require(len(keys) == len(set(keys)), f"a key is there twice: {keys}")
        return super().construct_mapping(node, deep)


def kubernetes(chart):
    """What the chart renders is valid for Kubernetes, and for KEDA as far as its fields are known here."""
    kinds = []
    for values in (SMALLEST, FULL):
        for thing in rendered(chart, values):
            kinds.append(thing["kind"])
            if thing["apiVersion"].startswith("keda.sh/"):
                keda(thing)
                continue
            for version in KUBERNETES:
                # It changes what it gets.
                kubernetes_validate.validate(copy.deepcopy(thing), version, strict=True)
    wanted = {"Deployment", "Service", "ServiceAccount", "Ingress", "PodDisruptionBudget", "ScaledObject", "TriggerAuthentication"}
    require(set(kinds) == wanted, f"renders {sorted(set(kinds))}")
    return f"{len(kinds)} objects, Kubernetes {' and '.join(KUBERNETES)}"


def keda(thing):
    spec = thing["spec"]
    if thing["kind"] == "TriggerAuthentication":
        require([set(ref) for ref in spec["secretTargetRef"]] == [{"parameter", "name", "key"}], spec)
        return
    known = {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "advanced", "triggers",
    }
    require(set(spec) == known, f"fields {sorted(spec)}")
    (trigger,) = spec["triggers"]
    require(set(trigger["metadata"]) == {"query", "targetQueryValue"}, trigger)
    require(all(isinstance(value, str) for value in trigger["metadata"].values()), f"KEDA takes only text: {trigger}")


def security(chart):
    """Every container is without root, privileges and a writable root file system, and has a memory limit."""
    names = []
    for values in (SMALLEST, FULL):
        for thing in rendered(chart, values):
            if thing["kind"] != "Deployment":
                continue
            pod = thing["spec"]["template"]["spec"]
            require(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, pod)
            require(pod["automountServiceAccountToken"] is False, "a service account's token")
            require(pod["terminationGracePeriodSeconds"] > drain_timeout(pod), "too short to drain")
            for container in pod["containers"] + pod.get("initContainers", []):
                context = container["securityContext"]
                require(context["readOnlyRootFilesystem"] and context["allowPrivilegeEscalation"] is False, container)
                require(context["capabilities"] == {"drop": ["ALL"]}, container)
                require(container["resources"]["limits"]["memory"], container)
                names.append(container["name"])
    return f"{len(names)} containers"


def drain_timeout(pod):
    (value,) = [v["value"] for c in pod["containers"] for v in c["env"] if v["name"] == "LATENTD_DRAIN_TIMEOUT"]
    return int(value)


def environments(chart):
    """The subcommand and the variables of each container of latentd."""
    for thing in rendered(chart, FULL):
        if thing["kind"] == "Deployment":
            for container in thing["spec"]["template"]["spec"]["containers"]:
                yield container["args"], {variable["name"] for variable in container["env"]}


def scaling_query(chart):
    objects = [thing for thing in rendered(chart, FULL) if thing["kind"] == "ScaledObject"]
    return objects[0]["spec"]["triggers"][0]["metadata"]["query"]


def query_counts(chart, database, submit):
    """The scaler's query counts waiting and running requests in a real database."""
    query = scaling_query(chart)
    require(re.fullmatch(r"\d+", database.psql(query)), "the query must return one integer")
    before = int(database.psql(query))
    for _ in range(3):
        submit()
    counted = int(database.psql(query))
    require(counted > before, f"{before} before and {counted} after three submits")
    return f"{counted} of 3 submitted requests wait or run"
