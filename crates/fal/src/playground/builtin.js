// What the built-in model knows, and prompts that show it.

/** What it generates, in the server's words. */
export const KNOWS =
  "sunrise, noon, sunset, twilight, night; sun, moon, stars, clouds, aurora, rain, snow; mountains, hills, forest; " +
  "meadow, sea, lake, Japanese garden, desert, snow field; houses, towers, torii gates, bridges, boats, trees, cherry " +
  "trees, lanterns, mushrooms, flowers, fences, paths; their colours, sides, numbers and sizes";

export const PROMPTS = [
  "a red house on the left of a lake at sunset, two boats",
  "glowing mushrooms in a forest at night, a full moon",
  "a cherry blossom tree beside a koi pond, a wooden bridge, paper lanterns",
  "three red boats on the sea at noon, white clouds",
  "aurora and stars over a snow field at night, a torii gate in the middle",
  "rain over green hills, a tower on the left, a fence",
];
