"""The words that captions use, for the note that latentd adds to a prompt with others.

    python models/train/vocabulary.py DIRECTORY        writes DIRECTORY/vocabulary.json
"""

from __future__ import annotations

import json
import pathlib
import random
import re
import sys

from sizes import mixed, scene_of
from world import captions

CAPTIONS = 60_000

# What the model generates, for people: the end of latentd's note "… The built-in model knows only: {}".
KNOWS = (
    "sunrise, noon, sunset, twilight, night; sun, moon, stars, clouds, aurora, rain, snow; mountains, hills, forest; "
    "meadow, sea, lake, Japanese garden, desert, snow field; houses, towers, torii gates, bridges, boats, trees, cherry "
    "trees, lanterns, mushrooms, flowers, flags, fences, paths; their colours, sides, numbers and sizes"
)

# English words that carry no thing to generate; a note about them would hide those that matter.
FUNCTION_WORDS = (
    "a about above across after again against all along also although always among an and another any around as at away "
    "back be because been before behind being below beneath beside besides between beyond both but by can could do does "
    "down during each either else enough even every few for from front further get give go had has have he her here high "
    "him his how however i if in inside into is it its itself just keep last least left less let like low made make many "
    "may me might more most much must my near neither never next no nor not nothing now of off on once one only onto or "
    "other our out outside over own part per please put quite rather right same see seen several she should show side "
    "since so some something somewhere still such than that the their them then there these they this those though through "
    "throughout to together too top toward towards under underneath until up upon us using very want was we well were what "
    "when where which while who whole whose why will with within without would yet you your "
    "image picture photo photograph painting drawing illustration art artwork scene view style background foreground "
    "beautiful nice good great best quality high detailed detail details resolution ultra hd uhd colour color colours "
    "colors light bright dark"
).split()


# Words of captions' moods and styles that name things which are not generated.
NOT_GENERATED = ("book", "childhood", "children", "crystal", "travellers")


def words() -> list[str]:
    """Every word of many captions without those that name what cannot be generated, and the function words."""
    found = set(FUNCTION_WORDS)
    for count in range(CAPTIONS):
        scene, rng = scene_of(mixed(count)), random.Random(f"vocabulary {count}")
        text = captions.prose(scene, rng) if count % 3 == 0 else captions.caption(scene, rng)
        found.update(re.findall(r"[^\W\d_]{2,}", text.lower()))
    return sorted(found - set(NOT_GENERATED))


def write(directory: pathlib.Path) -> None:
    text = json.dumps({"knows": KNOWS, "words": words()}, ensure_ascii=False, indent=0)
    (directory / "vocabulary.json").write_text(text + "\n")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
