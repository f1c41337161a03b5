"""Names of failed tests, from the reports that the suites write into a folder: JUnit, TAP and cargo's output."""

import pathlib
import re
import xml.etree.ElementTree as ElementTree


def failures(folder: pathlib.Path) -> list[str]:
    """One line a test, the suite's name first, in the order of the reports."""
    readers = {".xml": of_junit, ".tap": of_tap, ".log": of_cargo}
    reports = [path for path in sorted(folder.iterdir()) if path.suffix in readers and path.name != "server.log"]
    return [f"{path.stem}: {name}" for path in reports for name in readers[path.suffix](path.read_text(errors="replace"))]


def of_junit(text: str) -> list[str]:
    """pytest's names, as its command line takes them."""
    try:
        cases = ElementTree.fromstring(text).iter("testcase")
    except ElementTree.ParseError:
        return ["its report is incomplete"]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return [f"{case.get('classname', '')}::{case.get('name', '')}" for case in failed]


def of_tap(text: str) -> list[str]:
    """The innermost tests alone: what contains a failed test fails as well, and comes after it."""
    names, deepest = [], -1
    for indent, name in re.findall(r"^( *)not ok \d+ - (.*)$", text, re.MULTILINE):
        if len(indent) >= deepest and not re.search(r" # (SKIP|TODO)\b", name):
            names.append(name)
        deepest = len(indent)
    return names


def of_cargo(text: str) -> list[str]:
    """`cargo test`'s names."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.findall(r"^test (.+) \.\.\. FAILED$", plain, re.MULTILINE)
