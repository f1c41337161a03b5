"""The words that captions use for what is in a scene."""

TIMES = {
    "sunrise": ("at sunrise", "at dawn", "in the early morning", "at daybreak", "at first light", "in the morning"),
    "noon": (
        "at noon",
        "at midday",
        "in broad daylight",
        "on a bright day",
        "by day",
        "in the afternoon",
        "at daytime",
    ),
    "sunset": ("at sunset", "in the evening", "at golden hour", "as the sun goes down", "in the glow of sunset"),
    "twilight": (
        "at twilight",
        "at dusk",
        "in perpetual twilight",
        "in the blue hour",
        "in the gloaming",
        "at nightfall",
    ),
    "night": ("at night", "at midnight", "in the dark of night", "under the night sky", "late at night", "by night"),
}
SUN = ("the sun", "a bright sun", "a glowing sun", "sunshine", "a golden sun", "a low sun", "a round sun")
MOON = {
    "crescent": ("a crescent moon", "a sickle moon", "a thin crescent moon", "a half moon", "a waning moon"),
    "full": ("a full moon", "a round moon", "a big full moon", "a pale full moon", "moonlight from a full moon"),
}
STARS = ("stars", "a starry sky", "a sea of stars", "countless stars", "twinkling stars", "many stars", "starlight")
CLOUDS = ("clouds", "fluffy clouds", "a few clouds", "drifting clouds", "a cloudy sky", "soft clouds", "puffy clouds")
AURORA = ("an aurora", "northern lights", "aurora borealis", "auroral wisps", "dancing polar lights", "auroras")
WEATHER = {
    "rain": ("rain", "falling rain", "a rain shower", "rainy weather", "heavy rain", "drizzle", "raindrops"),
    "snow": ("falling snow", "snowfall", "snowflakes", "a snow shower", "snowy weather", "drifting snowflakes"),
}
BACKDROP = {
    "mountains": ("mountains", "snow-capped mountains", "high peaks", "a mountain range", "distant mountains", "alps"),
    "hills": ("hills", "rolling hills", "distant hills", "gentle hills", "low hills"),
    "forest": ("a forest", "a pine forest", "woods", "fir trees", "dense woods", "a dark forest", "a row of pines"),
}
GROUND = {
    "meadow": ("a meadow", "a green meadow", "a grassy field", "grassland", "a field of grass", "green fields"),
    "sea": ("the sea", "the ocean", "a beach", "a sandy shore", "the seaside", "the coast", "a calm sea"),
    "lake": ("a lake", "a calm lake", "a blue lake", "a quiet lake", "a lakeside", "a clear lake"),
    "garden": (
        "a Japanese garden",
        "a koi pond",
        "a zen garden",
        "a garden with a koi pond",
        "a pond with koi fish",
        "a Japanese garden with a mirror-like koi pond",
    ),
    "desert": ("a desert", "sand dunes", "a sandy desert", "golden dunes", "a dry desert", "a desert with cacti"),
    "snow field": (
        "a snow field",
        "a snowy field",
        "a field of snow",
        "a winter landscape",
        "snow-covered ground",
        "a snowy plain",
    ),
}
PATH = ("a path", "a winding path", "a footpath", "a trail", "a road", "a stone pathway", "a walkway", "a sandy path")
FENCE = ("a fence", "a white fence", "a picket fence", "a wooden fence", "a white picket fence")
BRIDGE = ("a wooden bridge", "an arched bridge", "a bridge", "a traditional wooden bridge", "a bridge over the water")
MUSHROOMS = (
    "glowing mushrooms",
    "mushrooms",
    "luminous mushrooms",
    "bioluminescent mushrooms",
    "magic mushrooms",
    "glowing blue and purple mushrooms",
    "mushrooms that glow",
)
NAMES = {
    "house": ("house", "house", "house", "cottage", "cabin", "home", "hut"),
    "tower": ("tower", "stone tower", "castle tower", "watchtower", "round tower"),
    "torii": ("torii gate", "torii gate", "torii", "red torii gate", "shrine gate", "Japanese gate"),
    "tree": ("tree", "tree", "tree", "leafy tree", "green tree"),
    "cherry": ("cherry blossom tree", "cherry tree", "blossoming cherry tree", "sakura tree", "cherry tree in bloom"),
    "flag": ("pirate flag", "skull and crossbones flag", "flag with a skull and crossbones", "jolly roger flag"),
    "boat": ("boat", "boat", "boat", "sailboat", "sailing boat", "ship"),
    "lantern": ("paper lantern", "lantern", "floating lantern", "floating paper lantern", "sky lantern"),
    "flower": ("flower", "flower", "wildflower", "bloom"),
    "banner": ("flag", "flag", "banner", "waving flag", "pennant"),
}
BLOSSOMS = ("cherry blossoms", "pink cherry blossoms", "glowing cherry blossoms", "sakura", "blooming sakura")
SIDE = {
    "left": ("on the left", "to the left", "on the left side", "at the left", "standing left"),
    "centre": ("in the middle", "in the centre", "in the center", "in the very middle", "at the centre"),
    "right": ("on the right", "to the right", "on the right side", "at the right", "standing right"),
}
SIZE = {"big": ("big", "large", "huge", "great big"), "small": ("small", "little", "tiny"), "plain": ("",)}
COUNT = {
    2: ("two", "two", "a pair of", "2"),
    3: ("three", "three", "3"),
    6: ("many", "lots of", "dozens of", "", "", "several", "countless"),
}
KINDS = {
    "red": ("poppies", "red tulips"),
    "yellow": ("sunflowers", "daffodils"),
    "purple": ("lavender", "violets"),
    "white": ("daisies", "white lilies"),
    "pink": ("pink roses", "pink tulips"),
}
HUES = {
    "red": ("red", "red", "crimson", "scarlet"),
    "blue": ("blue", "blue", "navy"),
    "yellow": ("yellow", "yellow", "golden"),
    "white": ("white", "white", "pale"),
    "green": ("green", "green", "emerald"),
    "orange": ("orange", "orange", "amber"),
    "pink": ("pink", "pink", "rosy"),
    "purple": ("purple", "purple", "violet"),
}

OPENING = (
    "a picture of",
    "an illustration of",
    "a postcard of",
    "a painting of",
    "a view of",
    "a photo of",
    "an image of",
    "flat design of",
    "a poster of",
    "draw",
    "please paint",
    "I want to see",
    "imagine",
    "there is",
    "we see",
    "show me",
)
MOOD = (
    "dreamlike",
    "peaceful",
    "serene",
    "magical",
    "charming",
    "enchanted",
    "quiet",
    "beautiful",
    "lonely",
    "cosy",
    "lovely",
    "mystical",
    "whimsical",
    "tranquil",
    "pretty",
    "ethereal",
    "idyllic",
    "picturesque",
    "fantastic",
)
STYLE = (
    "flat design",
    "vector art",
    "highly detailed",
    "8K resolution",
    "4k",
    "masterpiece",
    "cinematic lighting",
    "minimalist",
    "digital art",
    "soft colours",
    "storybook illustration",
    "hyperdetailed",
    "magical realism",
    "film grain",
    "bokeh",
    "wide shot",
    "concept art",
    "clean lines",
    "vivid colours",
    "trending",
    "golden ratio",
    "volumetric god rays",
    "moody colour grading",
    "masterful photography",
    "anime style",
    "watercolour",
    "best quality",
    "wallpaper",
    "studio quality",
    "depth of field",
    "award winning",
    "children's book",
    "pastel tones",
    "calm mood",
)
MUSING = (
    "everything is still and silent",
    "the air smells of summer and old stories",
    "a gentle wind moves through the scene",
    "it feels like a memory from childhood",
    "time seems to stand still here",
    "the composition follows the golden ratio",
    "an otherworldly atmosphere fills the scene",
    "soft mist weaves between the stones",
    "the colours are rich and warm",
    "nobody is around for miles",
    "captured through a cinematic lens with perfect bokeh",
    "the light is soft and tender",
    "crystal formations refract the light into rainbow prisms",
    "reminiscent of an old animated film",
    "with moody, film-like colour grading",
    "enhanced by rays of light that filter through leaves",
    "reflections dance on every surface",
    "petals sparkle like dust of stars",
    "a story is about to begin",
    "travellers would stop here and rest",
    "an ancient place that nobody remembers",
    "bathed in a soft glow",
)

# Clauses of long prompts about each thing: `{}` is its phrase. `captions.prose` joins them.
PROSE = {
    "cherry": (
        "bathed in the pink glow of {}",
        "{} emits a soft pink-purple glow",
        "petals fall slowly from {}",
        "{} leans over the scene, its petals sparkling like stardust",
    ),
    "bridge": (
        "{} arches gracefully over the water, dusted with fallen petals",
        "{} spans the still water, its railing worn by time",
        "over the water curves {}, connecting both banks",
        "{} leads across, reflected in the surface below",
    ),
    "lantern": (
        "{} drift lazily through the air, their warm light creating dancing reflections",
        "the warm light of {} hovers over the scene",
        "{} float between the branches and glow softly",
        "illuminated by {} that hang in the air",
    ),
    "torii": (
        "{} marks the entrance to a sacred place",
        "{} rises in vermilion, ancient and silent",
        "through the mist {} can be made out",
    ),
    "house": (
        "{} stands there, smoke and stories in its walls",
        "{} with walls, a gabled roof and a door waits for its owner",
        "light falls from the windows of {}",
    ),
    "tower": (
        "{} rises high above the land",
        "{} of old stone watches over everything",
        "the silhouette of {} reaches for the sky",
    ),
    "tree": ("{} spreads its crown", "{} grows there and gives shade", "the leaves of {} rustle in the wind"),
    "flag": ("{} flutters in the wind", "{} waves from a tall pole"),
    "banner": ("{} flutters in the wind", "{} waves proudly", "the cloth of {} billows softly"),
    "boat": ("{} glides over the water", "{} with hull and sail lies on the water", "{} drifts on gentle waves"),
    "flower": ("the foreground is full of {}", "{} bloom in front", "a carpet of {} covers the near bank"),
    "path": ("{} winds through the scene", "mist weaves along {}", "{} leads the eye into the distance"),
    "fence": ("{} runs along the front", "{} borders the foreground"),
    "mushrooms": (
        "in the foreground grow {} in pastel blues and purples",
        "{} shine between the stones",
        "clusters of {} light up the corners",
    ),
    "path and mushrooms": (
        "ethereal mist weaves between {}, lined with {}",
        "{} is bordered by {} in pastel blues and purples",
        "{} disappears between {}",
    ),
}
PROSE_SKY = (
    "in the background, {} hangs impossibly large in the sky, surrounded by {}",
    "above, {} can be seen, together with {}",
    "the sky shows {}, accompanied by {}",
    "{} dominates the heavens beside {}",
)
PROSE_SKY_ALONE = ("in the sky, {}", "overhead hangs {}", "{} watches over the scene", "the sky holds {}")
PROSE_HEAD = (
    "a {mood} {place} {time}",
    "{place}, {time}, {mood} and {mood}",
    "a breathtaking view of a {mood} {place} {time}",
    "imagine a {mood} {place} {time}",
    "{time} over a {mood} {place}",
)
PROSE_WATER = ("reflected in {}", "mirrored by {}", "all of it beside {}", "the scene surrounds {}")
PROSE_CLOSE = (
    "the entire composition follows the golden ratio",
    "crystal formations emerge, refracting the ambient light into rainbow prisms",
    "with moody film-like color grading",
    "reminiscent of hand-drawn animation films",
    "enhanced by volumetric god rays filtering through luminous foliage",
    "captured through a cinematic lens with perfect bokeh",
    "an otherworldly atmosphere",
    "every detail rendered with care",
    "light and shadow play with each other",
)
# Things that are never drawn: a caption may name them, and the image does not have them.
UNKNOWN = (
    "a cat",
    "a dog",
    "an astronaut",
    "a robot",
    "a dragon",
    "a bicycle",
    "an old car",
    "people",
    "a girl with a red scarf",
    "a city skyline",
    "a cup of coffee",
    "a horse",
    "an elephant",
    "a train",
    "a piano",
)
