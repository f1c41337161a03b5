"""Every check of scripts/check-deploy, in order."""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

from . import compose, helm, monitoring, proxies, settings, systemd
from .checks import Checks, require
from .servers import Servers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"


def main():
    checks, binary = Checks(), program()
    with tempfile.TemporaryDirectory(prefix="latentd-deploy-") as name:
        folder = pathlib.Path(name)
        files(checks, binary, folder)
        live(checks, binary, folder)
    print(f"deploy: {checks.passed} passed, {checks.failed} failed")
    sys.exit(checks.failed > 0)


def program():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = pathlib.Path(os.environ.get("LATENTD_BIN", target / "debug" / "latentd")).resolve()
    if not binary.is_file():
        sys.exit(f"no program at {binary}: run `cargo build` or set LATENTD_BIN")
    return binary


def files(checks, binary, folder):
    """What can be known without running anything."""
    compose_files, units, chart = DEPLOY / "compose", DEPLOY / "systemd", DEPLOY / "helm" / "latentd"
    checks.run("compose: config", compose.config, compose_files, folder)
    checks.run("compose: security", compose.security, compose_files, folder)
    checks.run("compose: settings", lambda: settings.exist(binary, compose.environments(compose_files, folder)))
    checks.run("systemd: verify", systemd.verify, units, folder, binary)
    checks.run("systemd: security", systemd.security, units, folder, binary)
    checks.run("systemd: stops", systemd.stops, units)
    checks.run("systemd: settings", lambda: settings.exist(binary, systemd.environments(units)))
    checks.run("helm: lint", helm.lint, chart)
    checks.run("helm: schema", helm.schema, chart)
    checks.run("helm: kubernetes", helm.kubernetes, chart)
    checks.run("helm: security", helm.security, chart)
    checks.run("helm: settings", lambda: settings.exist(binary, helm.environments(chart)))
    promtool, rules = shutil.which("promtool"), DEPLOY / "monitoring"
    checks.run("monitoring: rules", monitoring.rules, promtool, rules)
    checks.run("monitoring: unit tests of the rules", monitoring.rule_tests, promtool, rules)
    checks.run("monitoring: scrape configuration", monitoring.scrape_configuration, promtool, rules)
    pages = [path for path in [*DEPLOY.rglob("*"), ROOT / "docs" / "deploy.md"] if path.is_file()]
    checks.run("variables that files and docs/deploy.md name", settings.documented, binary, pages)


def live(checks, binary, folder):
    """Two gateways on PostgreSQL, behind both proxies, watched by Prometheus."""
    with contextlib.ExitStack() as stack:
        servers = []
        checks.run("two gateways on PostgreSQL", lambda: servers.append(Servers(stack, binary, folder)))
        if not servers:
            return
        (servers,) = servers
        checks.run("requests of every kind", servers.make_every_metric)
        watcher = monitoring.Prometheus(shutil.which("prometheus"), DEPLOY / "monitoring", folder / "prometheus", servers.ports)
        stack.enter_context(watcher.start())
        checks.run("helm: the scaler's query", helm.query_counts, DEPLOY / "helm" / "latentd", servers.database, servers.submit)
        started = []
        for kind, source in [(proxies.Nginx, "nginx.conf"), (proxies.Caddy, "Caddyfile")]:
            name = kind.__name__.lower()
            proxy = kind(shutil.which(name), DEPLOY / "proxies" / source, folder / name, servers.ports)
            checks.run(f"{name}: configuration", proxy.validate, DEPLOY / "proxies" / source)
            stack.enter_context(proxy.start())
            checks.run(f"{name}: in front of gateways", proxies.use, proxy)
            started.append((name, proxy))
        checks.run("monitoring: names in /metrics", lambda: monitoring.all_names_exist(DEPLOY / "monitoring", servers.metrics()))
        checks.run("monitoring: scrapes", watcher.scrapes_both)
        checks.run("monitoring: rules on live gateways", watcher.evaluates_rules)
        checks.run("monitoring: dashboard on live gateways", watcher.answers_the_dashboard)
        checks.run("monitoring: counts once", watcher.counts_once, servers.count_ended)
        checks.run("one gateway stops", lambda: require(servers.stop_first() == 0, "it ended with an error"))
        for name, proxy in started:
            checks.run(f"{name}: one gateway is left", proxies.use, proxy, "submit")


main()
