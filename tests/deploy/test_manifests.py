"""What kustomize makes of k8s/: valid for Kubernetes, fit for what the backend does."""

import ast
import functools
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import kubernetes_validate
import pytest
import yaml

from tabwise_server.settings import ServeSettings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
K8S = ROOT / "k8s"
OVERLAYS = ("cpu", "gpu", "vllm", "spot")
VERSIONS = ("1.32", "1.37")  # the oldest and the newest that are promised
CUSTOM = ("monitoring.coreos.com/v1", "kustomize.config.k8s.io")
# what pip and setuptools put into every environment
VENDORED = ("pip", "setuptools", "backports.tarfile")
SCRIPTS = Path(sysconfig.get_path("scripts"))

Manifest = dict[str, Any]


@functools.cache
def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    command = [str(SCRIPTS / "kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found = [
        m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name
    ]
    assert len(found) == 1, f"{kind}/{name}: {len(found)}"
    return found[0]


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """The pod template of everything that runs."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job"):
            yield manifest["spec"]["template"]


def backend(overlay: str) -> Manifest:
    deployment = one(render(K8S / "overlays" / overlay), "Deployment", "code-assistant")
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "folder", [*(f"overlays/{name}" for name in OVERLAYS), "training", "monitoring"]
)
def test_every_manifest_fits_the_schemas_of_kubernetes(
    folder: str, version: str
) -> None:
    for manifest in render(K8S / folder):
        if not manifest["apiVersion"].startswith(CUSTOM):
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.skipif(
    not (HERE / "node_modules").exists(), reason="npm ci --prefix tests/deploy"
)
@pytest.mark.parametrize(
    ("change", "said"),
    [(("", ""), ""), (('"15s"', "15"), "interval"), (('"page"', "3"), "severity")],
)
def test_the_operators_objects_fit_its_schemas(
    change: tuple[str, str], said: str
) -> None:
    """As they are, and not with a number where text belongs."""
    manifests = [
        json.dumps(m) for m in render(K8S / "monitoring") if "coreos" in m["apiVersion"]
    ]
    assert len(manifests) == 2
    done = subprocess.run(
        ["node", "validate.mjs"],
        cwd=HERE,
        input="\n".join(manifests).replace(*change),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is (said == ""), done.stderr
    assert said in done.stderr


def test_a_misspelt_key_is_noticed() -> None:
    manifest = {**one(render(K8S / "training"), "Job", "tabwise-train"), "spek": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", [*(f"overlays/{o}" for o in OVERLAYS), "training"])
def test_nothing_runs_with_more_rights_than_it_needs(folder: str) -> None:
    for pod in pods(render(K8S / folder)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            tag = container["image"].rpartition(":")[2]
            assert tag != "latest"
            assert any(c.isdigit() for c in tag), container["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_covers_what_leaving_takes(overlay: str) -> None:
    spec = backend(overlay)
    container = spec["containers"][0]
    env = {e["name"]: e.get("value") for e in container["env"]}
    drain = env.get("TABWISE_SERVE_DRAIN_S") or 20.0  # vLLM's --shutdown-timeout
    leaving = container["lifecycle"]["preStop"]["sleep"]["seconds"] + float(drain)
    assert spec["terminationGracePeriodSeconds"] >= leaving + 5
    # and the name service has forgotten the pod by the time that it stops listening
    probe = container["readinessProbe"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 10
    assert probe["periodSeconds"] * probe.get("failureThreshold", 3) <= 15


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "spot"])
def test_every_option_in_the_environment_is_one_that_the_backend_has(
    overlay: str,
) -> None:
    known = {f"TABWISE_SERVE_{a.name}".upper() for a in attrs.fields(ServeSettings)}
    names = {e["name"] for e in backend(overlay)["containers"][0]["env"]}
    assert names <= known


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_selector_finds_its_pods_and_no_others(overlay: str) -> None:
    manifests = render(K8S / "overlays" / overlay)
    labels = {
        m["metadata"]["name"]: m["spec"]["template"]["metadata"]["labels"]
        for m in manifests
        if m["kind"] == "Deployment"
    }

    def chosen(selector: dict[str, str]) -> list[str]:
        return [n for n, got in labels.items() if selector.items() <= got.items()]

    for name, manifest, wanted in (
        ("code-assistant-pods", "Service", "code-assistant"),
        ("code-assistant-service", "Service", "code-assistant-router"),
    ):
        selector = one(manifests, manifest, name)["spec"]["selector"]
        assert chosen(selector) == [wanted]
    for name in ("code-assistant", "code-assistant-router"):
        for kind, key in (
            ("PodDisruptionBudget", "selector"),
            ("NetworkPolicy", "podSelector"),
        ):
            spec = one(manifests, kind, name)["spec"]
            assert chosen(spec[key]["matchLabels"]) == [name]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_scaled_and_what_is_kept_agree(overlay: str) -> None:
    manifests = render(K8S / "overlays" / overlay)
    replicas = one(manifests, "Deployment", "code-assistant")["spec"]["replicas"]
    scaler = one(manifests, "HorizontalPodAutoscaler", "code-assistant")["spec"]
    assert scaler["minReplicas"] == replicas >= 3
    assert scaler["maxReplicas"] == 10


def test_the_scalers_metrics_are_those_that_the_adapter_gives() -> None:
    text = (K8S / "monitoring" / "adapter.yaml").read_text(encoding="utf-8")
    given = {rule["name"]["as"] for rule in yaml.safe_load(text)["rules"]}
    for overlay in OVERLAYS:
        manifests = render(K8S / "overlays" / overlay)
        scaler = one(manifests, "HorizontalPodAutoscaler", "code-assistant")["spec"]
        for metric in scaler["metrics"]:
            assert metric["pods"]["metric"]["name"] in given


def test_both_machines_of_a_training_job_agree_on_their_number() -> None:
    job = one(render(K8S / "training"), "Job", "tabwise-train")["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert job["completions"] == job["parallelism"]
    assert f"--nnodes={job['completions']}" in container["args"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nproc-per-node={gpus}" in container["args"]
    name = one(render(K8S / "training"), "Service", "tabwise-train")["metadata"]["name"]
    assert f"--rdzv-endpoint={name}-0.{name}:29500" in container["args"]


def test_the_image_lints_and_is_pinned() -> None:
    command = [str(SCRIPTS / "hadolint"), str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    for file in (ROOT / "docker").glob("*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert line.startswith("#") or "==" in line, f"{file.name}: {line}"


def test_the_language_servers_image_holds_all_that_it_imports() -> None:
    """`tabwise lsp` loads no package beyond docker/lsp.txt, nor tabwise_model."""
    code = (
        "import sys, importlib.metadata as m\n"
        "import tabwise_server.lsp.transport, tabwise_server.commands.lsp\n"
        "import tabwise_server.backends.choose, tabwise_server.suggest.shape\n"
        "import tabwise_server.suggest.syntax\n"
        "tops = m.packages_distributions()\n"
        "files = {n for n, x in sys.modules.items() if getattr(x, '__file__', None)}\n"
        "print(sorted({d for n in files for d in tops.get(n, ())}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    locked = (ROOT / "docker" / "lsp.txt").read_text(encoding="utf-8")
    names = {line.partition("==")[0].replace("_", "-") for line in locked.split()}
    needed = {n.lower().replace("_", "-") for n in ast.literal_eval(done.stdout)}
    assert needed - names - {"tabwise", *VENDORED} == set()
