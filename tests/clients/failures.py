"""Names of failed tests with their reasons, from the reports that the suites write into a folder: JUnit, TAP and cargo."""

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
    failed = [(case, case.find(kind)) for case in cases for kind in ("failure", "error") if case.find(kind) is not None]
    return [with_reason(f"{case.get('classname', '')}::{case.get('name', '')}", why.get("message", "")) for case, why in failed]


def of_tap(text: str) -> list[str]:
    """The innermost tests alone: what contains a failed test fails as well, and comes after it."""
    names, deepest = [], -1
    for test in re.finditer(r"^( *)not ok \d+ - (.*)$", text, re.MULTILINE):
        indent, name = test.groups()
        if len(indent) >= deepest and not re.search(r" # (SKIP|TODO)\b", name):
            why = re.compile(r"\n *error: (?:\|-\n *)?(.*)").search(text, test.end())
            names.append(with_reason(name, why[1] if why else ""))
        deepest = len(indent)
    return names


def with_reason(name: str, why: str) -> str:
    """The name and the first line of the failure."""
    return f"{name} ({why.splitlines()[0][:160]})" if why else name


def of_cargo(text: str) -> list[str]:
    """`cargo test`'s names."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.findall(r"^test (.+) \.\.\. FAILED$", plain, re.MULTILINE)
