"""The files in clusters/: over ssh on the loopback address, or against their published schemas."""

import copy
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from contextlib import ExitStack
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from journals import rows
from ray.autoscaler._private.util import prepare_config

ROOT = Path(__file__).parent.parent
TOOLS = ("/usr/sbin/sshd", "ssh-keygen", "rsync", "unshare")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
# `ray down` runs `ray stop`, which ends every Ray that it sees: let it see only its own.
ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
ALONE += [] if os.getuid() == 0 else ["--user", "--map-current-user"]


def can_be_alone():
    """Whether processes of their own can be had here."""
    return not MISSING and not subprocess.run([*ALONE, "true"], check=False).returncode


# `ray status` takes two nodes of one address for one.
NODES = """
import ray
from chameleon_ray.ray_access import join_ray
join_ray("auto")
print(len(ray.nodes()), "nodes")
"""

LISTENING = """
import psutil
found = [(p.name(), c.laddr) for p in psutil.process_iter() for c in p.net_connections("tcp")
         if c.status == psutil.CONN_LISTEN]
for name, (ip, port) in found:
    print(f"{ip}:{port} of {name}")
print("addresses:", *{ip for _, (ip, _) in found})
"""

needs_ssh = pytest.mark.skipif(
    not can_be_alone(),
    reason=f"needs {', '.join(MISSING)}: apt-get install openssh-server openssh-client rsync"
    if MISSING
    else "unshare --pid is not permitted here",
)


@pytest.fixture
def ports():
    """Three ports that nothing listens on."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in free]


@pytest.fixture
def terminal(tmp_path):
    """Lines of bash, run as by somebody with a home, a key and ssh; what they print."""
    home, short = tmp_path / "home", tempfile.mkdtemp(dir="/tmp")  # a socket has a short path
    (tmp_path / "bin").mkdir()
    (home / ".ssh").mkdir(parents=True)
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.defpath}"
    for key in (home / ".ssh" / "id_ed25519", tmp_path / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (tmp_path / "sshd_config").write_text(
        f"HostKey {tmp_path}/host_key\n"
        f"AuthorizedKeysFile {home}/.ssh/id_ed25519.pub\n"
        "StrictModes no\n"
        "UsePAM no\n"
        f"SetEnv HOME={home} RAY_TMPDIR={short}\n"
    )
    (tmp_path / "ssh_config").write_text(
        f"Host *\n  ProxyCommand /usr/sbin/sshd -i -f {tmp_path}/sshd_config\n"
        f"  IdentityFile {home}/.ssh/id_ed25519\n"  # ssh looks for ~ elsewhere
    )
    ssh = tmp_path / "bin" / "ssh"  # in front of the real one: no daemon, and not the user's own
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    (home / ".bashrc").write_text(f"cd; export PATH={path}\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's service would make it
    mine = {"HOME": str(home), "PATH": path, "RAY_TMPDIR": short}
    kept = {name: os.environ[name] for name in ("USER", "LANG", "TERM") if name in os.environ}

    def run(lines):
        done = subprocess.run(
            ["timeout", "--signal=KILL", "240", *ALONE, "bash", "-euxc", textwrap.dedent(lines)],
            env=kept | mine,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    yield run
    shutil.rmtree(short)


def adapted(name, folder, port, **provider):
    """A file of clusters/ with other addresses, port, user and key, and nothing else."""
    text = (ROOT / "clusters" / name).read_text().replace("6379", str(port))
    config = yaml.safe_load(text)
    config["cluster_name"] += f"-{port}"
    config["provider"] |= provider
    config["auth"]["ssh_user"] = subprocess.getoutput("id -un")
    config["auth"]["ssh_private_key"] = str(folder / "home" / ".ssh" / "id_ed25519")
    (folder / name).write_text(yaml.safe_dump(config))
    (folder / "env.yaml").write_text("measurer: simulated\nmeasurement_seconds: 0.1\n")


@needs_ssh
@pytest.mark.ray
@pytest.mark.slow
def test_a_network_is_tuned_on_machines_over_ssh(terminal, tmp_path, ports):
    """ssh.yaml: up, submit, exec, rsync-down and down, with a head and a worker."""
    adapted("ssh.yaml", tmp_path, ports[0], head_ip="127.0.0.1", worker_ips=["127.0.0.2"])
    (tmp_path / "nodes.py").write_text(NODES)
    tuning = f"resnet18 --layers 1,2 --trials 64 --policy random --env {tmp_path}/env.yaml"
    told = terminal(f"""
        (umask 077; ray get-auth-token --generate >/dev/null)
        ray up ssh.yaml --yes --no-config-cache
        until ray exec ssh.yaml 'python {tmp_path}/nodes.py' | grep '2 nodes'; do sleep 1; done
        ray submit ssh.yaml {ROOT}/tune_network.py -- {tuning} --address auto --run runs/mine
        ray exec ssh.yaml 'python -m chameleon_ray status'
        ray rsync-down ssh.yaml '~/runs/' runs/
        ray down ssh.yaml --yes
        ! pgrep gcs_server
    """)
    assert "No run of chameleon-ray is going on there" in told
    assert len(rows(tmp_path / "runs" / "mine")) == 128


@needs_ssh
@pytest.mark.ray
@pytest.mark.slow
def test_one_machine_of_a_cluster_listens_on_loopback_alone(terminal, tmp_path, ports):
    """one_box.yaml: up and down; between them nobody outside reaches it."""
    adapted("one_box.yaml", tmp_path, ports[0], head_ip="127.0.0.1")
    (tmp_path / "listening.py").write_text(LISTENING)
    told = terminal("""
        (umask 077; ray get-auth-token --generate >/dev/null)
        ray up one_box.yaml --yes --no-config-cache
        python listening.py
        ray down one_box.yaml --yes
        ! pgrep gcs_server
    """)
    assert f"127.0.0.1:{ports[0]} of gcs_server" in told.replace("::ffff:", "")
    (found,) = [line for line in told.splitlines() if line.startswith("addresses: ")]
    assert set(found.replace("::ffff:", "").split()[1:]) == {"127.0.0.1"}


@needs_ssh
@pytest.mark.ray
@pytest.mark.slow
def test_a_network_is_tuned_as_a_ray_job(terminal, tmp_path, ports):
    """`ray job submit`, with the token, to a Ray that was started by hand."""
    pytest.importorskip("aiohttp_cors", reason="`ray job` needs ray[default]")
    (tmp_path / "env.yaml").write_text("measurer: simulated\n")
    tuning = f"resnet18 --layers 2 --trials 16 --policy random --env {tmp_path}/env.yaml"
    gcs, dashboard, agent = ports
    told = terminal(f"""
        export RAY_AUTH_MODE=token RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
        (umask 077; ray get-auth-token --generate >/dev/null)
        ray start --head --port={gcs} --dashboard-port={dashboard} --num-cpus=2 \\
            --dashboard-agent-listen-port={agent}
        export RAY_API_SERVER_ADDRESS=http://127.0.0.1:{dashboard}
        until ray job submit -- true; do sleep 1; done
        ray job submit -- python {ROOT}/tune_network.py {tuning} --address auto --run {tmp_path}/run
        ! RAY_AUTH_TOKEN={"f" * 64} ray job list
    """)
    assert len(rows(tmp_path / "run")) == 16, told


def launched(name):
    """A file for Ray's launcher, with what Ray adds to it, and its schema."""
    config = prepare_config(yaml.safe_load((ROOT / "clusters" / name).read_text()))
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    return config, json.loads(schema.read_text())


def closed(schema):
    """A schema of Kubernetes that refuses keys it does not know, as `kubectl` does."""
    if isinstance(schema, dict):
        closing = "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema
        rest = {key: closed(value) for key, value in schema.items()}
        return rest | ({"additionalProperties": False} if closing else {})
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


def on_kubernetes():
    """The RayCluster and the RayJob, and the schema of each."""
    packed = (ROOT / "tests" / "data" / "kuberay_rayjob.json.gz").read_bytes()
    job = closed(json.loads(gzip.decompress(packed)))
    spec = job["properties"]["spec"]["properties"]["rayClusterSpec"]
    cluster = job | {"properties": job["properties"] | {"spec": spec}}
    files = yaml.safe_load_all((ROOT / "clusters" / "kubernetes.yaml").read_text())
    return list(zip(files, (cluster, job), strict=True))


class TestSchemas:
    """What cannot be started here has the keys and types that were published."""

    @pytest.mark.parametrize("name", ["local", "one_box", "ssh", "aws", "gcp"])
    def test_ray_knows_every_key(self, name):
        """And refuses one that is mistyped."""
        config, schema = launched(f"{name}.yaml")
        jsonschema.validate(config, schema)
        with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
            jsonschema.validate(config | {"setup_comands": []}, schema)

    def test_kuberay_knows_every_key(self):
        """And refuses one that is mistyped, wherever it stands."""
        for resource, schema in on_kubernetes():
            jsonschema.validate(resource, schema)
            wrong = resource | {"spec": resource["spec"] | {"rayVersoin": "2"}}
            with pytest.raises(jsonschema.ValidationError, match="rayVersoin"):
                jsonschema.validate(wrong, schema)
        cluster, schema = on_kubernetes()[0]
        mistyped = copy.deepcopy(cluster)
        mistyped["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["img"] = "x"
        with pytest.raises(jsonschema.ValidationError, match="img"):
            jsonschema.validate(mistyped, schema)

    def test_what_was_not_started_says_so(self):
        """In its first line."""
        for name in ("aws", "gcp", "kubernetes"):
            first = (ROOT / "clusters" / f"{name}.yaml").read_text().partition("\n")[0]
            assert first.startswith("# Not started by us")

    @pytest.mark.parametrize("name", ["local", "one_box", "ssh", "aws", "gcp"])
    def test_every_ray_asks_for_a_token(self, name):
        """Whoever starts Ray turns authentication on in the same breath."""
        config, _ = launched(f"{name}.yaml")
        commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        starting = [command for command in commands if "ray start" in command]
        assert starting
        assert all("export RAY_AUTH_MODE=token" in command for command in starting)

    def test_kuberay_makes_a_token(self):
        """The RayCluster asks for it; the RayJob uses that cluster."""
        (cluster, _), (job, _) = on_kubernetes()
        assert cluster["spec"]["authOptions"] == {"mode": "token"}
        assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
