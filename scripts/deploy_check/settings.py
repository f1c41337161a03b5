"""Every flag and variable that deploy/ sets exists in the program."""

import re

from .checks import command, require

# Variables of others that the program honours: PostgreSQL's, Amazon's, Hugging Face's and NVIDIA's.
FOREIGN = {
    "PGPASSWORD", "PGPASSFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL_S3", "AWS_ALLOW_HTTP", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "CUDA_CACHE_PATH",
}


def known(binary, subcommand):
    """The flags and variables of a subcommand, from its help."""
    text = command(binary, subcommand, "--help")
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)), set(re.findall(r"\[env: (LATENTD_\w+)", text))


def exist(binary, environments):
    """Each of these is the arguments of a process and the names of its variables."""
    count = 0
    for arguments, variables in environments:
        flags, names = known(binary, arguments[0])
        used = {word for word in arguments[1:] if word.startswith("--")}
        require(used <= flags, f"latentd {arguments[0]} has no {used - flags}")
        unknown = variables - names - FOREIGN
        require(not unknown, f"latentd {arguments[0]} reads no {unknown}")
        count += len(used) + len(variables)
    return f"{count} flags and variables"


def documented(binary, pages):
    """Every LATENTD_ variable that these texts name is one of `serve` or `worker`."""
    names = known(binary, "serve")[1] | known(binary, "worker")[1]
    for page in pages:
        unknown = set(re.findall(r"\bLATENTD_[A-Z_]+\b", page.read_text())) - names - {"LATENTD_ADDRESS"}
        require(not unknown, f"{page}: no variable {unknown}")
