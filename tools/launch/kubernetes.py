"""Writes a JobSet that runs a command on the hosts of a TPU slice, or on GPU hosts, and applies it if asked to.

A pod that ends with exit code 75, is evicted or loses its host starts the whole set again, and the same command goes
on; one that ends with 1 or 2 fails it. JobSet (jobset.sigs.k8s.io) must be installed in the cluster, and the run's
folder be one that all pods see: --claim names a volume claim, which is mounted at --mount.
"""

import subprocess
from collections.abc import Sequence
from typing import Any

from tools.launch.command import Launch, add_submit, check_at_least, check_name, check_variables, read
from vision import program
from vision.errors import UserError

_PORT = 61234
_ONE_SLICE = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
_GRACE_SECONDS = 120  # between SIGTERM and SIGKILL, for the last save
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, prints the manifest, or applies it."""
    parser = program.Parser(__doc__)
    parser.add_argument("--name", default="vision", help="of the job set (default: vision)")
    parser.add_argument("--namespace", default="default", help="where it goes (default: default)")
    parser.add_argument("--image", required=True, help="of the container, with the code in its working folder")
    parser.add_argument("--hosts", type=int, default=1, help="pods, one process in each (default: 1)")
    parser.add_argument("--tpu", metavar="ACCELERATOR", help="GKE's name of the TPU, such as tpu-v5-lite-podslice")
    parser.add_argument("--topology", help="of the slice, such as 4x4; goes with --tpu")
    parser.add_argument("--gpu", metavar="ACCELERATOR", help="GKE's name of the GPU, such as nvidia-h100-80gb")
    parser.add_argument("--chips", type=int, default=4, help="TPU chips or GPUs of each host (default: 4)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the command")
    parser.add_argument("--claim", help="a PersistentVolumeClaim for the runs and the data")
    parser.add_argument("--mount", default="/mnt/runs", help="where it is mounted (default: /mnt/runs)")
    parser.add_argument("--max_restarts", type=int, default=100, help="of the whole set (default: 100)")
    add_submit(parser, "kubectl apply it")
    launch = read(parser, argv)
    whole = manifest(launch)
    import yaml

    text = yaml.safe_dump(whole, sort_keys=False, width=1000)
    if launch.options.submit:
        _apply(text)
    else:
        print(text, end="")
    program.finish({"manifest": whole}, as_json=launch.options.json)
    return 0


def manifest(launch: Launch) -> dict[str, Any]:
    """Returns the JobSet."""
    options = launch.options
    name = check_name(options.name, most=40)  # the pods' names, with indices, are names too
    check_at_least(options.hosts, 1, "--hosts")
    check_at_least(options.chips, 1, "--chips")
    if bool(options.tpu) != bool(options.topology):
        raise UserError("--tpu and --topology go together, such as --tpu tpu-v5-lite-podslice --topology 4x4")
    if options.tpu and options.gpu:
        raise UserError("--tpu and --gpu exclude each other")
    template = {
        "parallelism": options.hosts,
        "completions": options.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one pod alone cannot come back: the set is started again as a whole
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "main", "operator": "In", "values": [1, 2]},
                }
            ]
        },
        "template": {"spec": _pod(launch, name)},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            "namespace": options.namespace,
            **({"annotations": _ONE_SLICE} if options.tpu else {}),
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": options.max_restarts,
                "rules": [{"name": "failed", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "network": {"enableDNSHostnames": True, "subdomain": name},
            "replicatedJobs": [{"name": "host", "replicas": 1, "template": {"spec": template}}],
        },
    }


def _pod(launch: Launch, name: str) -> dict[str, Any]:
    options = launch.options
    command = [word.replace("$(", "$$(") for word in launch.command]  # what Kubernetes would expand
    variables: list[dict[str, Any]] = [
        {"name": key, "value": value.replace("$(", "$$(")} for key, value in check_variables(options.env).items()
    ]
    selector: dict[str, str] = {}
    resources: dict[str, Any] = {}
    if options.tpu:
        selector = {
            "cloud.google.com/gke-tpu-accelerator": options.tpu,
            "cloud.google.com/gke-tpu-topology": options.topology,
        }
        resources = {"limits": {"google.com/tpu": options.chips}}
    elif options.gpu:
        selector = {"cloud.google.com/gke-accelerator": options.gpu}
        resources = {"limits": {"nvidia.com/gpu": options.chips}}
    if options.hosts > 1 and not options.tpu:  # TPU hosts learn of each other from GKE
        variables.append({"name": "PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}})
        command += ["--coordinator_address", f"{name}-host-0-0.{name}:{_PORT}"]
        command += ["--num_processes", str(options.hosts), "--process_id", "$(PROCESS_ID)"]
    container: dict[str, Any] = {"name": "main", "image": options.image, "command": command}
    container |= {"env": variables} if variables else {}
    container |= {"resources": resources} if resources else {}
    pod: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": _GRACE_SECONDS}
    pod |= {"nodeSelector": selector} if selector else {}
    if options.claim:
        container["volumeMounts"] = [{"name": "runs", "mountPath": options.mount}]
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}}]
    return {**pod, "containers": [container]}


def _apply(text: str) -> None:
    try:
        done = subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError("there is no kubectl on this machine; apply the printed manifest where there is") from error
    if done.returncode:
        raise UserError(f"kubectl ended with exit code {done.returncode}; its message is above")


if __name__ == "__main__":
    program.run(main)
