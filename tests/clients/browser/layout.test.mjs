// The layout with many requests, tiles of requests without an image, and the API page in dark mode.

import assert from "node:assert/strict";
import { BASE, generate, images, long, pageTest, small } from "./support.mjs";

pageTest("twelve requests and more fit into a window of 1280 pixels, each with a tile that is not blank", {}, async (page) => {
  await page.goto(BASE);
  // The first one takes long, so that the others wait.
  await long(page, "hills", 4);
  await generate(page);
  for (let count = 1; count <= 13; count += 1) {
    await small(page, `a red house, number ${count}`);
    await page.locator("#num_images").getByRole("radio", { name: String((count % 4) + 1) }).check();
    await generate(page);
  }
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.equal(await wide(), 0);
  await page.locator("#history li").first().getByText("a red house, number 13").waitFor();
  await page.getByRole("button", { name: "Cancel", exact: true }).waitFor();
  await page.locator("#history li").nth(1).getByText(/ahead$/).waitFor();

  await page.locator("#history button").last().click();
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await page.waitForFunction(() => {
    const sources = [...document.querySelectorAll("#history img")].map((image) => image.src);
    return sources.length === 13 && sources.every((source) => source.startsWith("data:image/jpeg"));
  });
  assert.equal(await wide(), 0);
  await page.locator("#history button").first().click();
  assert.equal((await images(page)).length, 2);
  const frame = await page.locator("#frame").boundingBox();
  assert.ok(frame.x > 384 && frame.x + frame.width <= 1280, JSON.stringify(frame));
});

pageTest("the empty frame does not say that there are no images where there are some", {}, async (page) => {
  await page.goto(BASE);
  await page.getByText("Nothing generated yet").waitFor();
  await small(page);
  await generate(page);
  await images(page);
  await page.goto("about:blank");
  await page.goto(BASE);
  await page.getByText("Choose one of your images below").waitFor();
  assert.equal(await page.getByText("Nothing generated yet").count(), 0);
});

for (const colorScheme of ["light", "dark"]) {
  pageTest(`the API page is ${colorScheme} where the browser is, and leads back`, { colorScheme }, async (page) => {
    await page.goto(BASE);
    await page.getByRole("link", { name: "API" }).click();
    await page.locator(".opblock").first().waitFor();
    const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    assert.equal(background, colorScheme === "dark" ? "rgb(28, 32, 34)" : "rgba(0, 0, 0, 0)");
    await page.getByRole("link", { name: "Playground" }).click();
    await page.getByRole("button", { name: /^Generate/ }).waitFor();
  });
}
