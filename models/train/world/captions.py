"""Captions of a scene: keywords, plain sentences, long prose, with some words left out at random."""

from __future__ import annotations

import random

from . import words
from .scene import Scene, Thing

VOWELS = "aeiou"
# Probabilities of leaving out an attribute, since prompts are seldom complete.
# Things are never left out, so that things that a prompt does not name do not appear.
FORGETS = {"time": 0.10, "ground": 0.10, "sky": 0.02, "backdrop": 0.03, "thing": 0.0}


def caption(scene: Scene, rng: random.Random, *, long: bool = True, complete: bool = False) -> str:
    """One caption of a scene: long prose only if `long`; with everything in the scene if `complete`."""
    parts = Parts(scene, rng, complete)
    text = rng.choices((keywords, plain, sentences, flowery), (3, 4, 3, 3 if long else 0))[0](parts, rng)
    if rng.random() < 0.15 and not complete:
        text = " ".join(word for word in text.split() if rng.random() > 0.05)
    if rng.random() < 0.3:
        text = text.lower()
    return text[:1].upper() + text[1:] if rng.random() < 0.3 else text


def training_caption(scene: Scene, rng: random.Random, *, long: bool) -> str:
    """A caption to train on: one of `caption`'s, or prose if `long`; sometimes with things that the model cannot draw."""
    text = prose(scene, rng) if long and rng.random() < 0.6 else caption(scene, rng, long=long)
    if rng.random() < 0.06:
        unknown = rng.choice(words.UNKNOWN)
        text = f"{unknown}, {text}" if rng.random() < 0.5 else f"{text.rstrip('.')} and {unknown}"
    return text


class Parts:
    """The phrases of a scene."""

    def __init__(self, scene: Scene, rng: random.Random, complete: bool):
        self.scene, self.rng, self.complete = scene, rng, complete
        said = lambda kind: complete or rng.random() >= FORGETS[kind]
        self.time = rng.choice(words.TIMES[scene.time]) if said("time") else ""
        self.ground = rng.choice(words.GROUND[scene.ground]) if said("ground") else ""
        self.backdrop = (
            rng.choice(words.BACKDROP[scene.backdrop]) if scene.backdrop != "none" and said("backdrop") else ""
        )
        self.sky = [phrase for phrase in self.skies() if said("sky")]
        self.things = [phrase for phrase in self.all_things() if said("thing")]
        rng.shuffle(self.sky)
        rng.shuffle(self.things)

    def skies(self) -> list[str]:
        scene, pick = self.scene, self.rng.choice
        found = []
        if scene.sun:
            found.append(pick(words.SUN))
        if scene.moon != "none":
            found.append(pick(words.MOON[scene.moon]))
        if scene.stars:
            found.append(pick(words.STARS))
        if scene.clouds:
            found.append(pick(words.CLOUDS))
        if scene.aurora:
            found.append(pick(words.AURORA))
        if scene.weather != "none":
            found.append(pick(words.WEATHER[scene.weather]))
        return found

    def all_things(self) -> list[str]:
        scene, pick = self.scene, self.rng.choice
        found = [self.thing(name, thing) for name, thing in scene.things.items() if not self.topped(name)]
        for present, phrases in (
            (scene.path, words.PATH),
            (scene.fence, words.FENCE),
            (scene.bridge, words.BRIDGE),
            (scene.mushrooms, words.MUSHROOMS),
        ):
            if present:
                found.append(pick(phrases))
        return found

    def topped(self, name: str) -> bool:
        """Whether this is the flag on the tower: the tower's phrase names it."""
        banner, tower = (self.scene.things.get(one) for one in ("banner", "tower"))
        return name == "banner" and bool(banner and tower) and banner.side == tower.side

    def thing(self, name: str, thing: Thing) -> str:
        pick, chance = self.rng.choice, self.rng.random
        if self.complete:
            chance = lambda: 0.5
        if name == "flower" and chance() < 0.2:
            return pick(words.KINDS[thing.colour])
        if name == "cherry" and chance() < 0.3:
            noun = pick(words.BLOSSOMS)
            return f"{noun} {pick(words.SIDE[thing.side])}" if chance() < 0.8 else noun
        noun = pick(words.NAMES[name])
        if name == "tree" and self.scene.ground in ("desert", "sea") and chance() < 0.7:
            noun = "palm tree"
        hue = pick(words.HUES[thing.colour]) if thing.colour and chance() < 0.93 else ""
        adjectives = " ".join(filter(None, (pick(words.SIZE[thing.size]), hue)))
        if thing.count == 1:
            phrase = article(f"{adjectives} {noun}".strip())
        else:
            phrase = " ".join(filter(None, (pick(words.COUNT[thing.count]), adjectives, plural(noun))))
        if name == "tower" and self.topped("banner"):
            banner = self.scene.things["banner"]
            cloth = article(f"{pick(words.HUES[banner.colour])} {pick(words.NAMES['banner'])}")
            phrase = pick((f"{phrase} with {cloth} on top", f"{cloth} on {phrase}", f"{phrase} flying {cloth}"))
        if thing.side and chance() < 0.88:
            phrase += " " + pick(words.SIDE[thing.side])
        return phrase


def article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in VOWELS else f"a {phrase}"


def plural(noun: str) -> str:
    head, _, tail = noun.partition(" in ")
    return f"{head}s" + (f" in {tail}" if tail else "")


def joined(phrases: list[str], rng: random.Random) -> str:
    """a, b and c"""
    if len(phrases) < 2:
        return "".join(phrases)
    return ", ".join(phrases[:-1]) + rng.choice((" and ", ", ", " and ")) + phrases[-1]


def keywords(parts: Parts, rng: random.Random) -> str:
    """Phrases between commas, in any order, without articles half of the time."""
    found = parts.things + parts.sky + list(filter(None, (parts.ground, parts.backdrop)))
    if parts.time:
        found.append(parts.time.split(" ", 1)[1] if rng.random() < 0.6 and " the " not in parts.time else parts.time)
    rng.shuffle(found)
    if rng.random() < 0.5:
        found = [bare(phrase) for phrase in found]
    found += rng.sample(words.STYLE, rng.choice((0, 0, 1, 2, 4)))
    if rng.random() < 0.3:
        rng.shuffle(found)
    return ", ".join(found)


def bare(phrase: str) -> str:
    first, _, rest = phrase.partition(" ")
    return rest if first in ("a", "an", "the") and rest else phrase


def place(parts: Parts, rng: random.Random) -> str:
    """Where the image is, as an adverb."""
    if not parts.ground:
        return ""
    near = (
        ("by", "at", "near", "on", "beside", "of", "over")
        if parts.scene.ground in ("sea", "lake")
        else ("in", "in", "on", "of")
    )
    return f"{rng.choice(near)} {parts.ground}"


def plain(parts: Parts, rng: random.Random) -> str:
    """One simple sentence."""
    head, rest = parts.things[:1], parts.things[1:]
    if not head:
        head = [parts.ground or "a landscape"]
        words_after = [parts.time]
    else:
        words_after = [place(parts, rng), parts.time]
        if rng.random() < 0.2:
            words_after.reverse()
    if rng.random() < 0.3:
        head = [f"{rng.choice(words.OPENING)} {head[0]}"]
    text = " ".join(filter(None, head + words_after))
    more = rest + parts.sky
    if rng.random() < 0.3:
        rng.shuffle(more)
    if parts.backdrop:
        more.append(parts.backdrop + rng.choice((" in the background", " behind", "", " in the distance")))
    if more:
        text += rng.choice((", ", " with ", ", with ", " and ")) + joined(more, rng)
    return text


def sentences(parts: Parts, rng: random.Random) -> str:
    """A few short sentences."""
    mood = f"{rng.choice(words.MOOD)} " if rng.random() < 0.4 else ""
    place_name = bare(parts.ground) if parts.ground else "landscape"
    found = [f"{article(mood + place_name)} {parts.time}".strip()]
    if parts.things:
        verb = rng.choice(("there is", "we see", "in it stands", "it has", "look at", "with"))
        found.append(f"{verb} {joined(parts.things, rng)}")
    if parts.sky:
        tail = rng.choice(("in the sky", "above", "overhead", "up high", "over everything"))
        found.append(f"{joined(parts.sky, rng)} {tail}")
    if parts.backdrop:
        found.append(f"{rng.choice(('in the background', 'behind', 'far away', 'in the distance'))} {parts.backdrop}")
    if rng.random() < 0.4:
        rng.shuffle(found)
    if rng.random() < 0.3:
        found.append(joined(rng.sample(words.STYLE, 2), rng))
    return ". ".join(one[:1].upper() + one[1:] for one in found) + "."


def flowery(parts: Parts, rng: random.Random) -> str:
    """Prose with many words that cannot be drawn."""
    mood = lambda: rng.choice(words.MOOD)
    place_name = bare(parts.ground) if parts.ground else "scene"
    found = [f"{article(mood())} {place_name} {parts.time}".strip()]
    verbs = (
        "stands",
        "rests",
        "waits",
        "can be seen",
        "drifts lazily",
        "glows softly",
        "appears",
        "emerges",
        "arches gracefully",
    )
    for phrase in parts.things:
        form = rng.randrange(3)
        if form == 0:
            found.append(f"{phrase} {rng.choice(verbs)}, {rng.choice(words.MUSING)}")
        elif form == 1:
            found.append(f"{rng.choice(words.MUSING)} beside {phrase}")
        else:
            found.append(
                f"{phrase} {rng.choice(verbs)} in the {mood()} {rng.choice(('light', 'air', 'silence', 'glow'))}"
            )
    if parts.sky:
        above = rng.choice(("hang in the sky", "fill the heavens", "shine above it all", "are all around"))
        found.append(f"{joined(parts.sky, rng)} {above}")
    if parts.backdrop:
        found.append(
            f"in the background, {parts.backdrop} {rng.choice(('rise', 'slumber', 'fade away', 'close the view'))}"
        )
    found += rng.sample(words.MUSING, rng.choice((0, 1, 2, 3)))
    head, rest = found[0], found[1:]
    if rng.random() < 0.6:
        rng.shuffle(rest)
    found = [head, *rest]
    found.append(joined(rng.sample(words.STYLE, rng.choice((1, 2, 4, 6))), rng))
    return ". ".join(one[:1].upper() + one[1:] for one in found) + "."


def prose(scene: Scene, rng: random.Random) -> str:
    """A long description that names everything in the scene, in the register of prompts on model pages."""
    parts, pick = Parts(scene, rng, complete=True), rng.choice
    found = []
    said = {name: parts.thing(name, thing) for name, thing in scene.things.items() if not parts.topped(name)}
    for name in ("path", "fence", "bridge", "mushrooms"):
        if getattr(scene, name):
            said[name] = pick(getattr(words, name.upper()))
    if "path" in said and "mushrooms" in said and rng.random() < 0.6:
        found.append(pick(words.PROSE["path and mushrooms"]).format(said.pop("path"), said.pop("mushrooms")))
    found += [pick(words.PROSE[name]).format(phrase) for name, phrase in said.items()]
    found += rng.sample(words.PROSE_CLOSE, rng.choice((0, 1, 1, 2, 3)))
    if parts.backdrop:
        found.append(f"{parts.backdrop} {pick(('rise in the distance', 'close the view', 'lie behind it all'))}")
    if len(parts.sky) > 1 and rng.random() < 0.8:
        found.append(pick(words.PROSE_SKY).format(parts.sky[0], joined(parts.sky[1:], rng)))
    elif parts.sky:
        found.append(pick(words.PROSE_SKY_ALONE).format(joined(parts.sky, rng)))
    rng.shuffle(found)
    place_name = bare(parts.ground)
    head = pick(words.PROSE_HEAD)
    while "{mood}" in head:
        head = head.replace("{mood}", pick(words.MOOD), 1)
    found.insert(0, head.format(place=place_name, time=parts.time))
    if scene.ground == "garden" and "pond" not in place_name and rng.random() < 0.7:
        found.insert(rng.randint(1, len(found)), pick(words.PROSE_WATER).format("a mirror-like koi pond"))
    if rng.random() < 0.7:
        found.append(joined(rng.sample(words.STYLE, rng.choice((1, 2, 4))), rng))
    return linked(found, rng)


def linked(clauses: list[str], rng: random.Random) -> str:
    """Sentences of one clause or of two."""
    sentences, rest = [], list(clauses)
    while rest:
        taken = rest[: 2 if rng.random() < 0.35 else 1]
        rest = rest[len(taken) :]
        sentence = ", ".join(taken)
        sentences.append(sentence[:1].upper() + sentence[1:])
    return ". ".join(sentences) + "."
