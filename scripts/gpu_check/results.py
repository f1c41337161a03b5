"""The results of a call: one folder while it runs, and one archive of it that is complete at every moment."""

import os
import pathlib
import tarfile

# Larger files are left out and named: the transfer of the archive may be limited to 16 MiB.
LARGEST = 8 << 20
# The limit of one step's output; the middle of a longer one is cut out.
LONGEST_OUTPUT = 1 << 20


class Results:
    """The files of steps in `folder`, archived in `archive`; `summary.txt` has a line with the outcome of each step."""

    def __init__(self, folder: pathlib.Path, archive: pathlib.Path):
        self.folder, self.archive = folder, archive
        folder.mkdir(parents=True, exist_ok=True)
        archive.parent.mkdir(parents=True, exist_ok=True)

    def note(self, line: str) -> None:
        """Adds a line to the summary, rewrites the archive, and only then prints the line: every printed line is archived."""
        with open(self.folder / "summary.txt", "a", encoding="utf-8") as summary:
            summary.write(line + "\n")
        self._pack()
        print(line, flush=True)

    def _pack(self) -> None:
        """Writes the archive under another name and renames it, so that a kill leaves the old one or the new one."""
        part = self.archive.with_name(self.archive.name + ".part")
        with open(part, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
                for path in sorted(self.folder.rglob("*")):
                    if path.is_file() and not self._too_large(path):
                        tar.add(path, path.relative_to(self.folder.parent), recursive=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.archive)

    def _too_large(self, path: pathlib.Path) -> bool:
        size = path.stat().st_size
        if size > LARGEST:
            path.with_name(path.name + ".left-out").write_text(f"{size} bytes\n", encoding="utf-8")
        return size > LARGEST


def shorten(path: pathlib.Path) -> None:
    """Cuts the middle out of an output that is too long."""
    size = path.stat().st_size
    if size <= LONGEST_OUTPUT:
        return
    with open(path, "rb+") as file:
        head = file.read(LONGEST_OUTPUT // 2)
        file.seek(-(LONGEST_OUTPUT // 2), os.SEEK_END)
        tail = file.read()
        file.seek(0)
        file.write(head + b"\n[... %d bytes cut out ...]\n" % (size - len(head) - len(tail)) + tail)
        file.truncate()
