#!/usr/bin/env python3
"""Tests of the pack, without cargo: executables are restored exactly, the checkout's files and device code of other cards
are not in it, a large one fails."""

import hashlib
import json
import os
import pathlib
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from gpu_check import fatbins, pack  # noqa: E402

EMBEDDED = pack.ROOT / "models/mini/vae/diffusion_pytorch_model.safetensors"


def fatbin(*entries: tuple[int, int, bytes]) -> bytes:
    """A fat binary of entries of kind, architecture and payload, with headers of 64 bytes."""
    made = b"".join(
        struct.pack("<HHIQ12xI32x", kind, 0, 64, len(payload), arch) + payload for kind, arch, payload in entries
    )
    return fatbins.CONTAINER + struct.pack("<Q", len(made)) + made


class Packed(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def packed(self, programs: dict[str, bytes]) -> pathlib.Path:
        stage = self.folder / "stage"
        (stage / "bin").mkdir(parents=True)
        for name, contents in programs.items():
            (stage / "bin" / name).write_bytes(contents)
        blanked = [pack.blank(stage / "bin" / name) for name in programs]
        (stage / "executables.json").write_text(json.dumps(blanked), encoding="utf-8")
        (stage / "commit").write_text("abc\n", encoding="utf-8")
        file = self.folder / "pack"
        pack.compress(stage, file)
        return file

    def test_executables_are_restored_exactly(self) -> None:
        shared, embedded = os.urandom(300_000), EMBEDDED.read_bytes()
        programs = {"one": b"1" + embedded + shared, "two": shared + b"2", "three": b"3" + shared}
        file = self.packed(programs)
        # The model, which is in the checkout, is not in it, and the data that the three share is in it once.
        self.assertLess(file.stat().st_size, 1.1 * len(shared))
        self.assertEqual(pack.unpack(file, self.folder / "there"), "abc")
        for name, contents in programs.items():
            there = self.folder / "there/bin" / name
            self.assertEqual(hashlib.sha256(there.read_bytes()).digest(), hashlib.sha256(contents).digest())
            self.assertTrue(os.access(there, os.X_OK))

    def test_device_code_of_other_cards_is_not_packed(self) -> None:
        ours, other, ptx = os.urandom(1000), os.urandom(200_000), os.urandom(1000)
        whole = fatbin((fatbins.ELF, 80, other), (fatbins.ELF, 90, ours), (1, 80, ptx))
        file = self.packed({"one": b"before" + whole + b"after" + whole})
        self.assertLess(file.stat().st_size, len(other) // 10)
        pack.unpack(file, self.folder / "there")
        kept = fatbin((fatbins.ELF, 90, ours), (1, 80, ptx)).ljust(len(whole), b"\0")
        self.assertEqual((self.folder / "there/bin/one").read_bytes(), b"before" + kept + b"after" + kept)

    def test_a_fat_binary_without_code_for_our_card_stays_as_it_is(self) -> None:
        whole = bytearray(fatbin((fatbins.ELF, 80, os.urandom(100))))
        before = bytes(whole)
        self.assertEqual(fatbins.keep_only(whole, 90), 0)
        self.assertEqual(bytes(whole), before)

    def test_a_layout_that_has_changed_is_an_error(self) -> None:
        whole = fatbin((fatbins.ELF, 80, bytes(100)))
        with self.assertRaisesRegex(SystemExit, "layout has changed"):
            fatbins.keep_only(bytearray(whole[:8] + struct.pack("<Q", 90) + whole[16:] + bytes(100)), 90)

    def test_another_checkout_is_an_error(self) -> None:
        file = self.packed({"one": EMBEDDED.read_bytes()})
        root, pack.ROOT = pack.ROOT, self.folder
        self.addCleanup(setattr, pack, "ROOT", root)
        other = self.folder / EMBEDDED.relative_to(root)
        other.parent.mkdir(parents=True)
        other.write_bytes(bytes(EMBEDDED.stat().st_size))
        with self.assertRaisesRegex(SystemExit, "is the checkout of the pack's commit"):
            pack.unpack(file, self.folder / "there")

    def test_a_pack_over_the_limit_is_an_error(self) -> None:
        file = self.folder / "pack"
        for mib, spare in ((pack.LIMIT_MIB, 0), (1, pack.LIMIT_MIB)):
            with open(file, "wb") as large:
                large.truncate(mib * pack.MIB)
            with self.assertRaisesRegex(SystemExit, "too large"):
                pack.report(file, spare)
        pack.report(file, 1)


if __name__ == "__main__":
    unittest.main()
