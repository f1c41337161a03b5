"""Training text of the tiny tokenizers, and the strings of the golden token ids."""

import random

SUBJECTS = """cat dog fox astronaut horse lighthouse mountain river castle robot dragon owl whale teapot
bicycle violin sailor wizard garden forest desert city street market train library mushroom bridge
island waterfall butterfly portrait woman man child knight queen samurai farmer dancer""".split()
STYLES = """oil painting, watercolor, photograph, pencil sketch, pixel art, render, illustration, poster,
macro shot, studio lighting, golden hour, cinematic, highly detailed, sharp focus, bokeh, film grain,
isometric, low poly, impressionist, minimalist, surreal, vintage, neon, dramatic, soft, misty""".split(", ")
COLOURS = "red orange yellow green blue violet black white golden silver crimson turquoise".split()
PLACES = """on the moon, under the sea, in the rain, at night, at sunrise, in a small village, beside the
window, over the ocean, inside a glass bottle, near the fire, in the style of the old masters""".split(", ")
NEGATIVE = "blurry, low quality, bad anatomy, watermark, text, jpeg artifacts, deformed, ugly"
OTHER = """It's a dog's life, they're here, we've seen it, I'm sure you'll agree, he'd say don't.
The quick brown fox jumps over the lazy dog. A sign says "OPEN 24 HOURS" at 1280x720, 50mm f/1.8, ISO 400.
Ein kleines Haus in den Bergen, Größe und Straße. Une maison près de la forêt, déjà vu, à côté du château.
ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz 0123456789 !"#$%&'()*+,-./:;<=>?@[]^_`{|}~
El niño come una manzana en la montaña. Дом у моря, красный закат. 猫と山 東京の夜景 一只猫在月亮上.""".split("\n")


def corpus() -> list[str]:
    """The training lines: the same on every machine."""
    draw = random.Random(20240512)
    lines = list(OTHER) * 6 + [NEGATIVE] * 8
    for _ in range(400):
        line = (
            f"a {draw.choice(COLOURS)} {draw.choice(SUBJECTS)} and a {draw.choice(SUBJECTS)} "
            f"{draw.choice(PLACES)}, {draw.choice(STYLES)}, {draw.choice(STYLES)}"
        )
        lines.append(line if draw.random() < 0.7 else line.capitalize() + ".")
    return [" ".join(line.split()) for line in lines]


LONG = (
    "A sweeping cinematic photograph of an old lighthouse on a rocky island at golden hour, waves breaking over "
    "black stones, seabirds in the misty air, a small red boat with two sailors rowing to the harbour, warm windows "
    "in the village behind, dramatic clouds lit from below, film grain, sharp focus, highly detailed, painted in the "
    "style of the old masters with soft light, turquoise water and a violet sky, a child waves from the bridge, "
    "and a dog sleeps beside the fire while the train passes through the forest"
)

STRINGS = [
    "",
    " ",
    "a",
    "a photo of a cat",
    "A Photo Of A CAT",
    LONG,
    LONG + ". " + LONG,
    "cat " * 75,
    "cat " * 74 + "dog",
    "cat " * 76,
    "wow!",
    "wow! what a view!! really?!",
    "!",
    "!!!!",
    "hello ! world !",
    "a !b !c",
    "it's a dog's life, they're here, we've won, I'm in, you'll see, he'd go, don't",
    "IT'S A DOG'S LIFE, THEY'RE HERE",
    "rock 'n' roll 's 're",
    "it\u2019s a dog\u2019s life",
    "1280x720 at 50mm f/1.8, ISO 400, 24/7",
    "0123456789 3.14159 1,000,000",
    "¹²³ ½ Ⅷ ٣٤ ೩ 一二三",
    "... --- ??? ;;; ((nested [brackets] {here})) <tag> a/b\\c #hash @user 100% $5 ^_^ ~`|",
    "snake_case and camelCase and kebab-case",
    "(masterpiece:1.2), [low quality], best quality",
    "😀",
    "a cat 😀 with a hat 🎩 and 🐈\u200d⬛",
    "👨\u200d👩\u200d👧\u200d👦 family, 👍🏽 thumbs, 🏳️\u200d🌈 flag, 🇩🇪",
    "☃️ snow ❤ heart ❤️ ©™®",
    "一只猫在月亮上",
    "東京の夜景、雨、ネオン",
    "ｶﾀｶﾅ カタカナ ひらがな",
    "서울의 밤거리",
    "قطة على القمر، لوحة زيتية",
    "แมวบนดวงจันทร์",
    "बिल्ली चाँद पर",
    "חתול על הירח",
    "Дом у моря, красный закат",
    "ΑΒΓ αβγς Σίσυφος",
    "café déjà vu naïve",
    "cafe\u0301 de\u0301ja\u0300 vu nai\u0308ve",
    "Å \u212b A\u030a ﬁ ﬂ ŉ ǆ",
    "x\u0336y\u0336 z\u0300\u0301\u0302\u0303",
    "Ｆｕｌｌ－ｗｉｄｔｈ　ＴＥＸＴ！　１２３",
    "tab\there\nnewline\r\nreturn\n\n\nmany",
    "many    spaces     inside",
    "   leading and trailing   ",
    "\u00a0nbsp\u00a0inside\u2003em\u2009thin\u3000wide\u200bzero\ufeffbom",
    "İstanbul'da IŞIK ılık İİ",
    "STRASSE Straße GROẞ ß",
    "control \x00\x01\x07\x08\x1b\x7f chars \x85 \u200e\u200f\u202a marks",
    "</s>",
    "a cat </s> a dog",
    "<|endoftext|>",
    "a cat <|endoftext|> a dog <|startoftext|> end",
    "<|ENDOFTEXT|> <|StartOfText|>",
    "<pad> <unk> <extra_id_0> <extra_id_99> <extra_id_5>cat",
    "</w> cat</w> ▁ ▁cat Ġcat",
    "superkalifragilistischexpialigetisch" * 6,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "https://example.com/a?b=c&d=%20e#f user@example.org",
    "A\ud7a3 \U0001f9ff \U00020000 \U0010ffff \ufffd \ufffe",
    "“quoted” ‘single’ «guillemets» – en — em … ellipsis",
    "x²+y²=z², ∑∫√∞ ≠ ≤ → ←",
    "ǅ ŒUVRE ÆON Ĳ ﬀ K (kelvin) Ω (ohm)",
]
