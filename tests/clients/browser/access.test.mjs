// Accessibility: no violation found by axe, usable by keyboard alone, no animation under prefers-reduced-motion.

import assert from "node:assert/strict";
import { BASE, PHONE, long, generate, phase, images, pageTest, small, violationsOf } from "./support.mjs";

for (const colorScheme of ["light", "dark"]) {
  for (const [place, options] of [["a desktop", {}], ["a phone", PHONE]]) {
    pageTest(`axe finds no violation on ${place}, ${colorScheme}`, { ...options, colorScheme, reducedMotion: "reduce" }, async (page) => {
      await page.goto(BASE);
      if (place === "a phone") await page.locator("#settings > summary").click();
      assert.deepEqual(await violationsOf(page), []);
      await page.getByRole("textbox", { name: "Steps" }).fill("99");
      await page.getByRole("button", { name: /^Generate/ }).click();
      assert.deepEqual(await violationsOf(page), []);
      await long(page);
      await generate(page);
      await phase(page, "generating");
      assert.deepEqual(await violationsOf(page), []);
      await page.getByRole("button", { name: "Cancel", exact: true }).click();
      await phase(page, "failed");
      assert.deepEqual(await violationsOf(page), []);
      await small(page);
      await generate(page);
      await images(page);
      assert.deepEqual(await violationsOf(page), []);
      for (const tab of ["Gallery", "Code", "Log"]) {
        await page.getByRole("tab", { name: tab }).click();
        assert.deepEqual(await violationsOf(page), []);
      }
    });
  }
}

pageTest("the page is usable by keyboard alone", { reducedMotion: "reduce" }, async (page) => {
  await page.goto(BASE);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "API");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  await page.keyboard.type("a red house");
  await page.keyboard.press("Control+Enter");
  await images(page);
  await page.getByRole("tab", { name: "Image" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.activeElement.id), "tab-code");
  assert.ok(await page.locator("#code").isVisible());
  const moving = await page.evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0);
});
