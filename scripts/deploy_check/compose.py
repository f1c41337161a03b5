"""deploy/compose: Compose's own check of the file, and what every service must have."""

import functools
import subprocess

import yaml

from .checks import command, require

# These make one folder and end; they may be root, without a network.
ONE_SHOT = {"s3-bucket"}
REQUIRED = ["POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "LATENTD_API_KEY"]


def program():
    """Compose as a plugin of docker, or as a program of its own."""
    plugin = ["docker", "compose"]
    try:
        found = subprocess.run([*plugin, "version"], capture_output=True).returncode == 0
    except FileNotFoundError:
        found = False
    return plugin if found else ["docker-compose"]


def filled_in(folder):
    """.env.example with its empty variables filled in."""
    lines = (folder / ".env.example").read_text().splitlines()
    empty = [line[:-1] for line in lines if line.endswith("=") and not line.startswith("#")]
    require(empty == REQUIRED, f".env.example has to be filled in at {empty}")
    return "".join(f"{line}x\n" if line[:-1] in empty else f"{line}\n" for line in lines)


@functools.cache
def resolved(folder, work):
    """The file as Compose understands it."""
    (work / "env").write_text(filled_in(folder))
    return yaml.safe_load(command(*config_of(folder, work / "env")))


def config_of(folder, variables):
    return [*program(), "--env-file", variables, "--file", folder / "compose.yaml", "config"]


def config(folder, work):
    """Compose understands the file, and refuses it while a variable that must be set is not."""
    services = resolved(folder, work)["services"]
    unset = [str(word) for word in config_of(folder, folder / ".env.example")]
    done = subprocess.run(unset, capture_output=True, text=True)
    require(done.returncode != 0 and "in .env" in done.stderr, f"accepts empty variables: {done.stderr}")
    text = (folder / "compose.yaml").read_text()
    for name in REQUIRED:
        uses, checked = text.count(f"${{{name}"), text.count(f"${{{name}:?set {name} in .env}}")
        require(uses == checked > 0, f"{name} may be empty")
    return f"{len(services)} services, {' '.join(program())}"


def security(folder, work):
    """No root, no privileges, no writable root file system; limits, restarts and health checks."""
    whole = resolved(folder, work)
    root = folder.parent.parent
    for name, service in whole["services"].items():
        require(service.get("read_only"), f"{name}: its root file system is writable")
        require(service.get("cap_drop") == ["ALL"], f"{name}: has capabilities")
        require("no-new-privileges:true" in service["security_opt"], f"{name}: may gain privileges")
        require(service["deploy"]["resources"]["limits"]["memory"], f"{name}: no memory limit")
        if name in ONE_SHOT:
            require(service["restart"] == "no" and service["network_mode"] == "none", f"{name}: is more than one-shot")
            continue
        require(service["restart"] == "unless-stopped", f"{name}: is not started again")
        require(service["healthcheck"].get("test") or name == "worker", f"{name}: no health check")
        build = service.get("build")
        require(build or service.get("user"), f"{name}: its user is the image's")
        user = service.get("user") or image_user(root / build["dockerfile"])
        require(user.partition(":")[0] not in ("", "0", "root"), f"{name}: runs as root")
    return f"{len(whole['services'])} services"


def image_user(dockerfile):
    """The numeric user of an image, who must be the one that its data directories belong to."""
    text = dockerfile.read_text()
    (user,) = [line.split()[1] for line in text.splitlines() if line.startswith("USER ")]
    require(f"useradd --system --uid {user} " in text and "install -d -o latentd /data /models" in text, dockerfile)
    return user


def environments(folder, work):
    """The subcommand and the variables of each container of latentd."""
    for service in resolved(folder, work)["services"].values():
        if service["image"].startswith("latentd:"):
            yield service["command"], set(service["environment"])
