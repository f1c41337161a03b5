"""nginx and Caddy: their own checks of deploy/proxies, and both in front of real gateways."""

import os
import pathlib
import subprocess
import sys

from crash_test.processes import free_port, last_lines

from .checks import command, require
from .servers import KEY, environment, process, wait_for

HERE = pathlib.Path(__file__).resolve().parent
NAME = "images.example.com"
GATEWAY = "127.0.0.1:8080"


def replaced(text, replacements):
    """The text with each of these, which must be there, replaced."""
    for old, new in replacements:
        require(old in text, f"{old!r} is not in the configuration that is checked")
        text = text.replace(old, new)
    return text


def certificate(folder):
    """A certificate for localhost, and its key."""
    made = folder / "tls.pem", folder / "tls-key.pem"
    if not made[0].exists():
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", *subject, "-out", made[0], "-keyout", made[1],
        )
    return made


class Proxy:
    """A proxy with the configuration of deploy/proxies: only addresses and certificates are replaced."""

    def __init__(self, program, source, folder, gateways):
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.certificate = certificate(folder.parent)
        self.log = folder / "log"
        self.path = folder / source.name
        folder.mkdir()
        self.write(source.read_text(), gateways)


class Nginx(Proxy):
    def write(self, text, gateways):
        upstreams = "\n".join(f"    server 127.0.0.1:{port} max_fails=2 fail_timeout=5s;" for port in gateways)
        lets_encrypt = f"/etc/letsencrypt/live/{NAME}"
        site = replaced(
            text,
            [
                (f"    server {GATEWAY} max_fails=2 fail_timeout=5s;", upstreams),
                ("    listen 80;", f"    listen 127.0.0.1:{free_port()};"),
                ("    listen [::]:80;\n", ""),
                ("    listen 443 ssl http2;", f"    listen 127.0.0.1:{self.port} ssl http2;"),
                ("    listen [::]:443 ssl http2;\n", ""),
                (f"{lets_encrypt}/fullchain.pem", str(self.certificate[0])),
                (f"{lets_encrypt}/privkey.pem", str(self.certificate[1])),
                (NAME, "localhost"),
            ],
        )
        (self.folder / "site.conf").write_text(site)
        places = "".join(
            f"    {name}_temp_path {self.folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.path.write_text(
            f"daemon off;\nuser {'root' if os.geteuid() == 0 else 'nobody'};\npid {self.folder}/pid;\n"
            f"error_log stderr notice;\nevents {{}}\nhttp {{\n    access_log {self.folder}/access.log;\n{places}"
            f"    include {self.folder}/site.conf;\n}}\n"
        )

    def validate(self, _):
        output = command(self.program, "-t", "-e", "stderr", "-c", self.path)
        require("[warn]" not in output, output)
        return "nginx -t"

    def start(self):
        return process([self.program, "-e", "stderr", "-c", self.path], self.log)


class Caddy(Proxy):
    def write(self, text, gateways):
        site = replaced(
            text,
            [
                (f"reverse_proxy {GATEWAY}", f"reverse_proxy {' '.join(f'127.0.0.1:{port}' for port in gateways)}"),
                (f"\n{NAME} {{\n", f"\nhttps://localhost:{self.port} {{\n\tbind 127.0.0.1\n"
                 f"\ttls {self.certificate[0]} {self.certificate[1]}\n"),
            ],
        )
        self.path.write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
        self.variables = environment(HOME=str(self.folder), XDG_DATA_HOME=str(self.folder))

    def validate(self, source):
        command(self.program, "validate", "--adapter", "caddyfile", "--config", self.path, env=self.variables)
        formatted = command(self.program, "fmt", source, env=self.variables)
        require(formatted == source.read_text(), "run `caddy fmt --overwrite`")
        return "caddy validate and fmt"

    def start(self):
        start = [self.program, "run", "--adapter", "caddyfile", "--config", self.path]
        return process(start, self.log, env=self.variables)


def use(proxy, *only):
    """Runs the client through the proxy; what it saw."""
    client = [sys.executable, HERE / "client.py", proxy.url, *only]
    variables = environment(FAL_KEY=KEY, SSL_CERT_FILE=str(proxy.certificate[0]))
    wait_for(f"{proxy.url}", lambda: answers(proxy))
    done = subprocess.run(
        [str(word) for word in client], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=300,
    )
    require(done.returncode == 0, f"{done.stdout}\nthe proxy's log:\n{last_lines(proxy.log)}")
    return "".join(f"\n    {line}" for line in done.stdout.splitlines())


def answers(proxy):
    call = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert", proxy.certificate[0]]
    done = subprocess.run([*map(str, call), f"{proxy.url}/health/live"], capture_output=True, text=True)
    return done.stdout == "200"
