"""The files in `cluster/` hold together, as far as that can be told without a cloud."""

import copy
import json
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
RAY_UP = ("aws.yaml", "gcp.yaml", "onprem.yaml")
KUBERNETES = ("board.yaml", "pvc.yaml", "raycluster.yaml", "rayjob.yaml")
PLACEHOLDER = re.compile(r"(?<!\$)\b(?:[A-Z]+_)+(?:ID|IP|IMAGE|CLASS|PROJECT|FAMILY)\b")

# --- the fields that our manifests use, from the CRD reference of ray.io/v1 and core v1 ---------

STRING, INTEGER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
QUANTITY = {"type": "string", "pattern": r"^\d+(m|Mi|Gi)?$"}


def record(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


RESOURCES = {
    "type": "object",
    "properties": {"cpu": QUANTITY, "memory": QUANTITY, "nvidia.com/gpu": QUANTITY},
    "required": ["cpu", "memory"],
    "additionalProperties": False,
}
POD_SPEC = record(
    ("containers", "volumes", "restartPolicy"),
    restartPolicy={"enum": ["Never", "OnFailure", "Always"]},
    securityContext=record(fsGroup=INTEGER),
    tolerations=array(record(key=STRING, operator={"enum": ["Exists"]}, effect=STRING)),
    containers=array(
        record(
            ("name", "image", "resources"),
            name=STRING,
            image={"const": "SIAMTUNE_IMAGE"},
            command=array(STRING),
            ports=array(record(("name", "containerPort"), name=STRING, containerPort=INTEGER)),
            resources=record(("requests", "limits"), requests=RESOURCES, limits=RESOURCES),
            volumeMounts=array(record(("name", "mountPath"), name=STRING, mountPath=STRING)),
        )
    ),
    volumes=array(
        record(
            ("name",),
            name=STRING,
            persistentVolumeClaim=record(("claimName",), claimName=STRING),
            emptyDir=record(("medium",), medium={"const": "Memory"}, sizeLimit=QUANTITY),
        )
    ),
)
TEMPLATE = record(("spec",), spec=POD_SPEC)
START_PARAMS = {"type": "object", "additionalProperties": STRING}
RAY_CLUSTER_SPEC = record(
    ("rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"),
    rayVersion=STRING,
    authOptions=record(("mode",), mode={"const": "token"}),
    enableInTreeAutoscaling={"const": True},
    autoscalerOptions=record(
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=INTEGER,
    ),
    headGroupSpec=record(
        ("rayStartParams", "template"), rayStartParams=START_PARAMS, template=TEMPLATE
    ),
    workerGroupSpecs=array(
        record(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=STRING,
            replicas=INTEGER,
            minReplicas=INTEGER,
            maxReplicas=INTEGER,
            rayStartParams=START_PARAMS,
            template=TEMPLATE,
        )
    ),
)
METADATA = record(("name",), name={"type": "string", "pattern": "^[a-z0-9-]{1,63}$"})


def manifest(api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return record(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": api_version},
        kind={"const": kind},
        metadata=METADATA,
        spec=spec,
    )


SCHEMAS = {
    "raycluster.yaml": manifest("ray.io/v1", "RayCluster", RAY_CLUSTER_SPEC),
    "rayjob.yaml": manifest(
        "ray.io/v1",
        "RayJob",
        record(
            ("entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes"),
            entrypoint=STRING,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode"]},
            backoffLimit=INTEGER,
            shutdownAfterJobFinishes=BOOLEAN,
            ttlSecondsAfterFinished=INTEGER,
            activeDeadlineSeconds=INTEGER,
            rayClusterSpec=RAY_CLUSTER_SPEC,
        ),
    ),
    "board.yaml": manifest("v1", "Pod", POD_SPEC),
    "pvc.yaml": manifest(
        "v1",
        "PersistentVolumeClaim",
        record(
            ("accessModes", "resources", "storageClassName"),
            accessModes=array({"const": "ReadWriteMany"}),
            storageClassName=STRING,
            resources=record(("requests",), requests=record(("storage",), storage=QUANTITY)),
        ),
    ),
}


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def ray_cluster_spec(name: str) -> Any:
    spec = load(CLUSTER / "kuberay" / name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pod_specs(name: str) -> list[Any]:
    if name == "board.yaml":
        return [load(CLUSTER / "kuberay" / name)["spec"]]
    spec = ray_cluster_spec(name)
    return [
        group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


# --- Kubernetes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_manifest_has_the_fields_of_its_kind_and_no_others(name: str) -> None:
    import jsonschema

    jsonschema.validate(load(CLUSTER / "kuberay" / name), SCHEMAS[name])


def test_the_schema_refuses_a_misspelt_field() -> None:
    import jsonschema

    broken = copy.deepcopy(load(CLUSTER / "kuberay" / "rayjob.yaml"))
    broken["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        jsonschema.validate(broken, SCHEMAS["rayjob.yaml"])


def test_every_manifest_is_tested() -> None:
    assert {path.name for path in (CLUSTER / "kuberay").iterdir()} == set(KUBERNETES)
    assert {path.name for path in CLUSTER.glob("*.yaml")} == set(RAY_UP)


@pytest.mark.parametrize("name", ["board.yaml", "raycluster.yaml", "rayjob.yaml"])
def test_volumes_are_mounted_and_mounts_have_volumes(name: str) -> None:
    claim = load(CLUSTER / "kuberay" / "pvc.yaml")["metadata"]["name"]
    for pod in pod_specs(name):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {
            mount["name"]: mount["mountPath"]
            for container in pod["containers"]
            for mount in container["volumeMounts"]
        }
        assert set(mounts) == set(volumes)
        assert mounts["shared"] == "/shared"
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim
        if "shm" in mounts:
            assert mounts["shm"] == "/dev/shm"


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_only_the_workers_have_gpus_and_none_waits_idle(name: str) -> None:
    spec = ray_cluster_spec(name)
    (head,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = spec["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    assert group["minReplicas"] == 0 < group["maxReplicas"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # Ray tells its autoscaler the limits and Kubernetes places by the requests: they must agree.
    assert all(
        container["resources"]["requests"] == container["resources"]["limits"]
        for container in (head, worker)
    )
    memory = worker["resources"]["limits"]["memory"]
    (shm,) = (v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm")
    assert gibibytes(shm["emptyDir"]["sizeLimit"]) < gibibytes(memory)
    assert {port["containerPort"] for port in head["ports"]} == {6379, 8265}


def gibibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def test_the_job_and_the_cluster_are_the_same_cluster() -> None:
    assert ray_cluster_spec("rayjob.yaml") == ray_cluster_spec("raycluster.yaml")


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_the_manifests_name_the_ray_that_the_image_holds(name: str) -> None:
    assert ray_cluster_spec(name)["rayVersion"] == constraints()["ray"]


# --- ray up -------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would speak to a cloud fails at once."""
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("validation must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_accepts_a_cluster_file(name: str, no_network: None) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(load(CLUSTER / name))
    validate_config(prepared)
    assert prepared["max_workers"] > 0
    assert prepared["auth"][
        "ssh_user"
    ]  # Ray accepts a file without it and fails at the first login


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_refuses_a_misspelt_key(name: str, no_network: None) -> None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config({**load(CLUSTER / name), "idle_timeout": 5}))


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_a_cloud_keeps_a_head_without_gpu_and_pays_for_workers_only_while_they_work(
    name: str,
) -> None:
    config = load(CLUSTER / name)
    types = config["available_node_types"]
    head, gpu = types[config["head_node_type"]], types["gpu"]
    assert head["resources"] == {"CPU": 0}
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == config["max_workers"]
    assert gpu["resources"]["GPU"] == 1
    assert 0 < config["idle_timeout_minutes"] <= 15
    spot = json.dumps(gpu["node_config"]).lower()
    assert '"spot"' in spot
    assert '"spot"' not in json.dumps(head["node_config"]).lower()


def test_a_google_machine_with_a_gpu_can_boot_and_leaves_nothing_behind_when_it_is_taken_back() -> (
    None
):
    config = load(CLUSTER / "gcp.yaml")
    node = config["available_node_types"]["gpu"]["node_config"]
    (disk,) = node["disks"]
    zone = config["provider"]["availability_zone"]
    assert node["machineType"].startswith("g2-")
    # G2 takes no pd-standard, which is the default of the API.
    assert disk["initializeParams"]["diskType"] == f"zones/{zone}/diskTypes/pd-balanced"
    assert node["scheduling"]["instanceTerminationAction"] == "DELETE"


@pytest.mark.parametrize("name", RAY_UP)
def test_what_a_cluster_file_copies_and_installs_exists(name: str) -> None:
    config = load(CLUSTER / name)
    sources = {there: here for there, here in config["file_mounts"].items() if here[0] != "~"}
    for here in sources.values():
        assert (ROOT / here).exists()
    assert set(sources) == {f"~/siamtune/{here}" for here in image_sources()}
    install = [command for command in config["setup_commands"] if "pip install" in command]
    assert install == ["~/venv/bin/pip install -q -c ~/siamtune/constraints.txt ~/siamtune"]


@pytest.mark.parametrize("name", RAY_UP)
def test_a_cluster_starts_behind_a_token_with_its_dashboard_on_loopback(name: str) -> None:
    config = load(CLUSTER / name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    for command in (head[-1], worker[-1]):
        assert "RAY_AUTH_MODE=token" in command
    assert "--dashboard-host=127.0.0.1" in head[-1]


@pytest.mark.parametrize("name", RAY_UP)
def test_the_commands_of_a_cluster_file_are_shell(name: str) -> None:
    config = load(CLUSTER / name)
    for key in config:
        if key.endswith("_commands"):
            for command in config[key]:
                subprocess.run(["bash", "-n", "-c", command], check=True)


# --- Slurm, the image ---------------------------------------------------------------------------


def test_the_slurm_script_is_bash() -> None:
    script = CLUSTER / "slurm.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, str(script)], check=True)


@pytest.fixture
def slurm_job(tmp_path: Path) -> dict[str, str]:
    """The environment of a Slurm job whose `srun` and `hostname` only tell what they were given."""
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "activate").write_text(f'PATH="{tools}:$PATH"\n')
    (tools / "hostname").write_text("#!/bin/sh\necho '192.0.2.7 198.51.100.7'\n")
    (tools / "srun").write_text(
        "#!/bin/sh\n"
        'printf "%s\\n" "$@" >"$SLURM_SUBMIT_DIR/srun"\n'
        'stat -c %a "$RAY_AUTH_TOKEN_PATH" >"$SLURM_SUBMIT_DIR/mode"\n'
        'cat "$RAY_AUTH_TOKEN_PATH" >"$SLURM_SUBMIT_DIR/token"\n'
        'echo "$RAY_AUTH_MODE" >"$SLURM_SUBMIT_DIR/auth"\n'
    )
    for tool in ("hostname", "srun"):
        (tools / tool).chmod(0o755)
    return {
        "PATH": "/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_NAME": "siamtune",
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_GPUS_ON_NODE": "1",
    }


def srun_arguments(job: dict[str, str]) -> list[str]:
    folder = Path(job["SLURM_SUBMIT_DIR"])
    subprocess.run(["bash", str(CLUSTER / "slurm.sh")], env=job, check=True)
    return (folder / "srun").read_text().splitlines()


def test_the_slurm_script_starts_a_search_behind_a_token_of_its_own(
    slurm_job: dict[str, str],
) -> None:
    folder = Path(slurm_job["SLURM_SUBMIT_DIR"])
    arguments = srun_arguments(slurm_job)
    ray, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    address = ray[ray.index("--address") + 1]
    assert address == "192.0.2.7:23456"
    assert ray[ray.index("--min-nodes") + 1] == "2"
    assert ray[ray.index("--num-gpus") + 1] == "1"
    assert command[command.index("--address") + 1] == address
    parse(command)
    assert command[1] == "search"

    assert (folder / "auth").read_text() == "token\n"
    assert (folder / "mode").read_text() == "600\n"
    assert re.fullmatch("[0-9a-f]{64}", (folder / "token").read_text())
    assert not list((folder / ".siamtune").iterdir())  # gone with the job


def test_the_slurm_script_goes_on_with_the_run_of_its_name(slurm_job: dict[str, str]) -> None:
    run = Path(slurm_job["SLURM_SUBMIT_DIR"]) / "runs" / "siamtune"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    arguments = srun_arguments(slurm_job)
    command = arguments[arguments.index("--") + 1 :]
    assert command[:3] == ["siamtune", "resume", "siamtune"]
    parse(command)


def docker_instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (CLUSTER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]  # type: ignore[misc]


def image_sources() -> list[str]:
    """What the image copies from the checkout."""
    return [
        source
        for instruction, rest in docker_instructions()
        if instruction == "COPY"
        for source in rest.split()[:-1]
    ]


def test_the_dockerfile_has_known_instructions_and_copies_what_exists() -> None:
    known = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD"}
    assert {instruction for instruction, _ in docker_instructions()} <= known
    for source in image_sources():
        assert (ROOT / source).exists()
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == set(image_sources())


def test_the_image_holds_what_the_build_needs_and_runs_without_root() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    needed = {project["project"]["readme"], *project["project"]["license-files"], *included}
    assert needed <= set(image_sources())
    installs = [rest for instruction, rest in docker_instructions() if "pip install" in rest]
    assert all("-c constraints.txt" in install for install in installs)
    users = [rest for instruction, rest in docker_instructions() if instruction == "USER"]
    assert users[-1] not in ("root", "0")
    python = docker_instructions()[0][1].split("python:")[1].split("-")[0]
    assert python == "3.11"


# --- every command line that a person or a machine will copy ------------------------------------


def code_blocks(markdown: str) -> Iterator[str]:
    """Every line of shell, continued ones in one, from blocks that may stand in a list."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", markdown, flags=re.MULTILINE | re.DOTALL):
        yield from (line.strip() for line in re.sub(r"\\\n *", "", block).splitlines())


def command_lines() -> list[str]:
    """Every command of siamtune in `cluster/`, as it stands there."""
    lines = list(code_blocks((CLUSTER / "README.md").read_text()))
    lines.append(load(CLUSTER / "kuberay" / "rayjob.yaml")["spec"]["entrypoint"])
    lines.append(shlex.join(pod_specs("board.yaml")[0]["containers"][0]["command"]))
    lines.append(docker_instructions()[-1][1].translate(str.maketrans("", "", '[],"')))
    return [line[match.start() :] for line in lines if (match := COMMAND.search(line))]


# At the line's beginning, after a separator, a quote or the image: not a path, not a pod's name.
COMMAND = re.compile(r"""(?:^|(?<=[|;&] )|(?<=')|(?<=IMAGE" ))siamtune(?= [a-z-])""")


def words(line: str) -> list[str]:
    """The words of a command up to where the shell would end it."""
    if line.count("'") % 2:  # it stood between quotes, and the second one is left
        line = line.rpartition("'")[0]
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if set(word) <= set("|;&<>"):
            break
        found.append(word)
    return found


def parse(command: list[str]) -> None:
    """Have the real command line read a command, without running it."""
    import typer

    from siamtune.cli.jobs import check_command
    from siamtune.cli.main import app

    found: Any = typer.main.get_command(app)
    root = typer.Context(found, info_name="siamtune")
    assert command[0] == "siamtune"
    name, rest = "siamtune", command[1:]
    if rest == ["--help"]:
        return
    while rest and hasattr(found, "resolve_command"):
        name, found, rest = found.resolve_command(root, rest)
    context = found.make_context(name, list(rest), parent=root)
    if name == "submit":
        check_command(context, context.params["command"])


def test_every_command_line_is_one_that_siamtune_understands() -> None:
    lines = command_lines()
    assert len(lines) > 15
    verbs = {words(line)[1] for line in lines}
    assert verbs >= {"search", "resume", "board", "submit", "status", "logs"}
    for line in lines:
        parse(words(line))


@pytest.mark.parametrize(
    "line", ["siamtune search --spase full", "siamtune sarch --space full", "siamtune resume"]
)
def test_a_wrong_command_line_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|Missing"):
        parse(words(line))


# --- words --------------------------------------------------------------------------------------


def test_the_readme_explains_every_name_in_capitals_and_every_file() -> None:
    readme = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*.yaml"):
        assert path.name in readme
        for name in PLACEHOLDER.findall(path.read_text()):
            assert name in readme, f"{name} of {path.name}"


def test_no_file_holds_a_secret() -> None:
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:token|password|secret)\s*[:=]\s*[\"']?\w{16}"
    )
    for path in CLUSTER.rglob("*"):
        if path.is_file():
            assert not secret.search(path.read_text()), path.name
