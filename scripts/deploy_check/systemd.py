"""deploy/systemd: systemd's own check of the units, and its measure of what a service could do to the system."""

import configparser
import re

from .checks import command, require

# `systemd-analyze security` calls less than 2 safe; the units are at 1.4 and 1.5 with systemd 252.
EXPOSURE = 2.0
INSTALLED = "/usr/local/bin/latentd"
DRAIN_TIMEOUT_S = 30


def units(folder):
    return sorted(folder.glob("*.service"))


def prepared(folder, work, binary):
    """Copies of the units that name a program which is there."""
    copies = []
    for unit in units(folder):
        text = unit.read_text()
        require(INSTALLED in text, f"{unit.name} does not start {INSTALLED}")
        copy = work / unit.name
        copy.write_text(text.replace(INSTALLED, str(binary)))
        copies.append(copy)
    return copies


def verify(folder, work, binary):
    output = command("systemd-analyze", "verify", "--man=no", *prepared(folder, work, binary))
    require(not output.strip(), output)
    return f"{len(units(folder))} units"


def security(folder, work, binary):
    found = []
    for unit in prepared(folder, work, binary):
        report = command(
            "systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE * 10)}", unit
        )
        level = float(re.search(r"exposure level for \S+: ([\d.]+)", report)[1])
        require(level < EXPOSURE, f"{unit.name}: {level}")
        found.append(f"{unit.name} {level}")
    return ", ".join(found)


def sections(unit):
    parser = configparser.RawConfigParser(strict=False, interpolation=None, dict_type=Repeated)
    parser.optionxform = str
    parser.read_string(unit.read_text())
    return parser


class Repeated(dict):
    """Keeps every value of a key that is there several times, a line each."""

    def __setitem__(self, key, value):
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = self[key] + value
        super().__setitem__(key, value)


def stops(folder):
    """A stop waits for longer than a running request may take to finish."""
    for unit in units(folder):
        service = sections(unit)["Service"]
        require(int(service["TimeoutStopSec"]) > DRAIN_TIMEOUT_S + 10, f"{unit.name}: TimeoutStopSec is too short")
        require(service["RestartPreventExitStatus"] == "2", f"{unit.name}: restarts with wrong settings")


def environments(folder):
    """The subcommand with its flags and the variables of each unit."""
    for unit in units(folder):
        service = sections(unit)["Service"]
        words = service["ExecStart"].replace("%i", "0").split()
        variables = {pair.partition("=")[0] for pair in service["Environment"].split()}
        yield words[1:], variables
