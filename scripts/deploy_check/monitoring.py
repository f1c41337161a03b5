"""Prometheus' own checks of deploy/monitoring, and a real Prometheus that scrapes real gateways and runs every query."""

import json
import re
import subprocess
import urllib.parse
import urllib.request

import yaml

from crash_test.processes import free_port, last_lines

from .checks import command, require
from .servers import KEY, process, wait_for

# Series exist only once something was counted under their labels. These need an outage: that of a disk, a database or a
# receiver, or two gateways of different versions.
RARE = {
    "latentd_requests_total": {"outcome": {"engine", "worker_lost", "start_timeout"}},
    "latentd_rejected_total": {"reason": {"busy", "disk_full", "queue_full", "unavailable"}},
    "latentd_webhook_attempts_total": {"outcome": {"given_up"}},
}
METRIC = re.compile(r"\b(?:latentd_\w+|up)\b(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(by|without)\s*\(([^)]*)\)")


def rules(promtool, folder):
    return command(promtool, "check", "rules", folder / "latentd.rules.yml").splitlines()[-1].strip()


def scrape_configuration(promtool, folder):
    command(promtool, "check", "config", "--syntax-only", folder / "prometheus.yml")
    files = yaml.safe_load((folder / "prometheus.yml").read_text())["rule_files"]
    require(all((folder / name).is_file() for name in files), f"a rule file is missing: {files}")


def rule_tests(promtool, folder):
    """The unit tests pass, and each alert has one in which it fires and one in which it does not."""
    command(promtool, "test", "rules", folder / "latentd.rules.test.yml", cwd=folder)
    tests = yaml.safe_load((folder / "latentd.rules.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for alert in alerts(folder):
        fires = {bool(case.get("exp_alerts")) for case in cases if case["alertname"] == alert["alert"]}
        require(fires == {True, False}, f"{alert['alert']} needs a test in which it fires and one in which it does not")
    return f"{len(cases)} cases of {len(alerts(folder))} alerts"


def alerts(folder):
    groups = yaml.safe_load((folder / "latentd.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries(folder):
    """Title, query and legend of every target of the dashboard."""
    dashboard = json.loads((folder / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def parsed(metrics):
    """Label values by metric and label, of the text of /metrics."""
    found = {"up": {"job": {"latentd"}, "instance": set()}}
    for line in metrics.splitlines():
        if not line.startswith("#"):
            name, labels = re.match(r"(\w+)(\{.*\})?", line).groups()
            # Prometheus adds these.
            known = found.setdefault(name, {"job": {"latentd"}, "instance": set()})
            for label, value in re.findall(r'(\w+)="([^"]*)"', labels or ""):
                known.setdefault(label, set()).add(value)
    return found


def names_exist(metrics, expression):
    """Every metric, label and label value of a query is in /metrics."""
    found = parsed(metrics)
    used = list(METRIC.finditer(expression))
    require(used, f"no metric in {expression}")
    for match in used:
        name = match[0].partition("{")[0]
        require(name in found, f"/metrics has no {name}")
        for label, _, values in MATCHER.findall(match[1] or ""):
            require(label in found[name], f"{name} has no label {label}")
            rare = RARE.get(name, {}).get(label, set())
            for value in values.split("|"):
                is_there = value == "$job" or value in found[name][label] | rare
                require(is_there, f"{name} has no {label}={value!r}: it has {sorted(found[name][label])}")
    labels = set().union(*(found[match[0].partition("{")[0]] for match in used))
    for kind, names in GROUPING.findall(expression):
        for label in filter(None, map(str.strip, names.split(","))):
            require(label in labels, f"{kind} ({label}): no such label in {expression}")


def all_names_exist(folder, metrics):
    queries = [rule["expr"] for rule in alerts(folder)] + [query for _, query, _ in dashboard_queries(folder)]
    for query in queries:
        names_exist(metrics, query)
    return f"{len(queries)} queries"


class Prometheus:
    """Prometheus with the configuration of deploy/monitoring; only addresses, files and intervals are replaced."""

    def __init__(self, program, source, folder, gateways):
        self.program, self.source, self.folder = program, source, folder
        self.port = free_port()
        folder.mkdir()
        configuration = yaml.safe_load((source / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(source / name) for name in configuration["rule_files"]]
        (folder / "key").write_text(KEY)
        (scrape,) = configuration["scrape_configs"]
        scrape["authorization"]["credentials_file"] = str(folder / "key")
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in gateways]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def start(self):
        flags = [f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data"]
        return process([self.program, *flags, f"--web.listen-address=127.0.0.1:{self.port}"], self.folder / "log")

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def scrapes_both(self):
        """Both gateways are up, by the scrape's own key, and have been for the few seconds that a rate needs."""
        ready = "min(min_over_time(up[5s])) == 1 and min(count_over_time(up[5s])) >= 4 and count(up) == 2"
        try:
            wait_for("Prometheus to scrape both gateways", lambda: self.query(ready), 60)
        except Exception as error:
            raise type(error)(f"{error}\n{last_lines(self.folder / 'log')}") from error
        return "2 gateways are up"

    def evaluates_rules(self):
        """Every rule was evaluated without an error, and no alert fires on healthy gateways."""
        loaded = wait_for("the rules to be evaluated", self.evaluated)
        bad = [rule["name"] for rule in loaded if rule["health"] != "ok" or rule["state"] == "firing"]
        require(not bad, f"{bad} are firing or in error")
        return f"{len(loaded)} alerts, none firing"

    def evaluated(self):
        rules = [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

    def answers_the_dashboard(self):
        """Each query of the dashboard has a result, with every label that its legend names."""
        count = 0
        for title, query, legend in dashboard_queries(self.source):
            query = query.replace("$job", ".*").replace("$__rate_interval", "10m")
            result = self.query(query)
            require(result, f"{title}: no result of {query}")
            for label in re.findall(r"\{\{(\w+)\}\}", legend):
                require(all(label in series["metric"] for series in result), f"{title}: no label {label}: {result[0]}")
            count += 1
        return f"{count} queries have results"

    def counts_once(self, count_ended):
        """Two gateways report the same requests: the aggregation of rules and dashboard counts them once."""
        ended = count_ended()
        counted = "sum(avg without (instance) (latentd_requests_total))"
        wait_for(f"{ended} requests in Prometheus", lambda: float(self.query(counted)[0]["value"][1]) == ended, 30)
        return f"{ended} requests"
