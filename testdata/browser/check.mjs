// Looks at pages of `runpack report` in a browser: node check.mjs MODULES JOB
//
// JOB is a file of JSON: {"pages": [{"page", "shot", "height", "matching", "differing", "scripted"}]}.
// What was seen is printed as JSON; the test that calls this judges it.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, jobFile] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/package.json`)("playwright-core");
const job = JSON.parse(readFileSync(jobFile, "utf8"));
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

async function look(entry) {
  const seen = { page: entry.page, requests: [], console: [], problems: [] };
  const url = pathToFileURL(entry.page).href;
  const open = async (options) => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.on("request", (request) => { if (request.url() !== url) seen.requests.push(request.url()); });
    page.on("console", (message) => seen.console.push(message.text()));
    page.on("pageerror", (error) => seen.console.push(String(error)));
    page.on("dialog", (dialog) => { seen.problems.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
    await page.goto(url);
    return page;
  };
  const closing = async (page) => page.context().close();

  // Light: the picture, the keyboard, and files compared.
  let page = await open({ viewport: { width: 1000, height: 800 }, colorScheme: "light" });
  seen.title = await page.title();
  // Anything a pack smuggled in would be an element or an attribute that we never write.
  seen.foreign = await page.evaluate(() => Array.from(document.querySelectorAll("*")).filter((element) =>
    ["img", "iframe", "object", "embed", "form", "link", "base", "marquee", "video", "audio"].includes(element.localName)
    || element.getAttributeNames().some((name) => name.startsWith("on") || name === "style" || name === "src"
      || (name === "href" && !element.getAttribute(name).startsWith("#")))).map((element) => element.outerHTML.slice(0, 100)));
  if (entry.shot) {
    const tall = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.screenshot({ path: entry.shot, clip: { x: 0, y: 0, width: 1000, height: Math.min(tall, entry.height) }, fullPage: true });
  }
  seen.focus = [];
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const on = document.activeElement;
      if (!on || on === document.body) return null;
      const style = getComputedStyle(on);
      const all = Array.from(document.querySelectorAll("*"));
      return {
        order: all.indexOf(on), tag: on.localName, text: (on.textContent || on.getAttribute("aria-label") || "").trim().slice(0, 40),
        outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
      };
    });
    if (!at) break;
    seen.focus.push(at);
  }
  if (entry.matching) {
    await page.setInputFiles("#rehash input >> nth=0", entry.matching);
    await page.waitForFunction((count) => document.querySelectorAll("#rehash-told li").length === count, entry.matching.length);
    seen.matching = await page.$$eval("#rehash-told .chip", (chips) => chips.map((chip) => chip.textContent));
    await page.setInputFiles("#rehash input >> nth=0", entry.differing);
    await page.waitForFunction((count) => document.querySelectorAll("#rehash-told li").length === count, entry.differing.length);
    seen.differing = await page.$$eval("#rehash-told .chip", (chips) => chips.map((chip) => chip.textContent));
  }
  seen.broken = await page.evaluate(() => Array.from(document.querySelectorAll("a[href^='#']"))
    .map((link) => link.getAttribute("href").slice(1)).filter((id) => !document.getElementById(id)));
  seen.ids = await page.evaluate(() => {
    const ids = Array.from(document.querySelectorAll("[id]"), (element) => element.id);
    return ids.length - new Set(ids).size;
  });
  await closing(page);

  // Dark and light: text is told from its ground, by the rule of WCAG 2.
  for (const scheme of ["light", "dark"]) {
    page = await open({ viewport: { width: 1000, height: 800 }, colorScheme: scheme });
    if (scheme === "dark" && entry.dark) await page.screenshot({ path: entry.dark });
    seen[`contrast_${scheme}`] = await page.evaluate(() => {
      const part = (value) => { const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
      const shine = (rgb) => 0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2]);
      const numbers = (text) => text.match(/[\d.]+/g).map(Number);
      let least = 99;
      for (const element of document.querySelectorAll("body *:not(svg *)")) {
        if (!Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim())) continue;
        if (!element.getClientRects().length) continue;
        let ground = element;
        let back = [0, 0, 0, 0];
        while (ground) {
          back = numbers(getComputedStyle(ground).backgroundColor);
          if (back.length === 3 || back[3] > 0) break;
          ground = ground.parentElement;
        }
        const [a, b] = [shine(numbers(getComputedStyle(element).color)), shine(back)].sort((x, y) => y - x);
        least = Math.min(least, (a + 0.05) / (b + 0.05));
      }
      return least;
    });
    await closing(page);
  }

  // Without script, on a narrow screen: everything is there and nothing sticks out.
  page = await open({ viewport: { width: 390, height: 800 }, javaScriptEnabled: false });
  seen.unscripted = (await page.locator("main").innerText()).length;
  seen.rehash_hidden = (await page.locator("#rehash:visible").count()) === 0;
  await closing(page);
  page = await open({ viewport: { width: 390, height: 800 } });
  seen.sticks_out = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  seen.elements = await page.evaluate(() => document.querySelectorAll("*").length);
  await closing(page);

  // On paper.
  page = await open({});
  seen.paper_bytes = (await page.pdf({ format: "A4", path: entry.paper })).length;
  await closing(page);
  return seen;
}

const all = [];
for (const entry of job.pages) all.push(await look(entry));
console.log(JSON.stringify(all));
await browser.close();
