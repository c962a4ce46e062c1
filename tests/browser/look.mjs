// Looks at the status page in a headless Chromium, as people with a phone, a tablet, a desk and a wall would.
//
// node look.mjs URL DEVICES PICTURES MODULES: the address of the page, how many devices there are to be, a directory for
// screenshots (or "-"), and the directory in which `npm install` put axe-core and puppeteer-core. It ends the process whose id it
// reads from stdin last of all, and looks at what the page says then. Prints one line for each thing that is not as it should be.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [, , url, devices, pictures, modules] = process.argv;
const require = createRequire(path.join(modules, "package.json"));
const { default: puppeteer } = await import(require.resolve("puppeteer-core"));
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const many = Number(devices) > 50;

const faults = [];
// From then on a browser has to complain.
let ended = false;
const expect = (right, what) => { if (!right) faults.push(what); };

const chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(file => fs.existsSync(file));
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: ["--no-sandbox"] });

async function open(width, scheme) {
  const page = await browser.newPage();
  page.on("console", message => { if (message.type() === "error" && !ended) faults.push(`console: ${message.text()}`); });
  page.on("pageerror", error => faults.push(`script: ${error.message}`));
  page.on("request", request => { const to = request.url(); if (!to.startsWith(url) && !to.startsWith("data:")) faults.push(`asks ${to}`); });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width, height: width < 500 ? 844 : 900 });
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("#devices tr"));
  return page;
}

async function look(page, name) {
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
  expect(wide <= 0, `${name}: scrolls sideways by ${wide} px`);
  if (pictures !== "-") await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  for (const { id, nodes } of violations) faults.push(`${name}: axe: ${id}: ${nodes[0].html.slice(0, 200)}`);
}

for (const scheme of ["light", "dark"]) {
  for (const width of [390, 768, 1280, 2560]) {
    const page = await open(width, scheme), name = `${scheme}-${width}-${devices}`;
    await look(page, name);
    const tall = await page.evaluate(() => Math.max(...[...document.querySelectorAll("#devices tr")].map(tr => tr.getBoundingClientRect().height)));
    expect(tall < 260, `${name}: a row is ${tall} px high`);
    if (!many) {
      await page.evaluate(() => document.querySelector("#devices a").click());
      await page.waitForFunction(() => document.querySelector("#points tr"));
      await look(page, `${name}-device`);
    }
    await page.close();
  }
}

const page = await open(1280, "light");
const text = selector => page.$eval(selector, node => node.textContent);
const rows = () => page.$$eval("#devices tr", all => all.length);
expect(await rows() === Math.min(50, Number(devices)), `${await rows()} rows for ${devices} devices`);

// Showing all of it again takes no time that anybody notices: the middle of nine rounds.
const rounds = await page.evaluate(() => [...Array(9)].map(() => { const begun = performance.now(); show(); return performance.now() - begun; }));
console.error(`${devices} devices are shown in ${rounds.sort((a, b) => a - b)[4].toFixed(1)} ms`);

// What somebody has selected stays selected while the page goes on.
await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("#devices th a")));
const chosen = await page.evaluate(() => getSelection().toString());
const before = await text("#agent");
await page.waitForFunction(before => document.getElementById("agent").textContent !== before, {}, before);
expect(chosen && chosen === await page.evaluate(() => getSelection().toString()), "the selection is lost when the page goes on");

// By keyboard: to the search, into a device and back.
await page.keyboard.press("/");
const first = await text("#devices th a");
await page.keyboard.type(first);
expect(await rows() >= 1, "nothing is found by its own name");
await page.keyboard.type(" no such device");
expect(await rows() === 0 && await page.$eval("#none", node => !node.hidden), "what is not there is found");
await page.$eval("#search", node => { node.value = ""; node.dispatchEvent(new Event("input")); });
await page.focus("#devices th a");
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelector("#points tr"));
expect((await text("#points tr")).length > 10, "a device shows no points");
await page.keyboard.press("Escape");
await page.waitForFunction(() => !document.getElementById("list").hidden);

if (many) {
  const shown = await text("#devices th a");
  await page.click("#next");
  await page.waitForFunction(shown => document.querySelector("#devices th a").textContent !== shown, {}, shown);
}

// A filter by state.
await page.evaluate(() => document.querySelectorAll("#states button").forEach(button => button.click()));
expect(await rows() === 0, "devices of no state are shown");
await page.evaluate(() => document.querySelectorAll("#states button").forEach(button => button.click()));

const title = await page.title();
expect(/[✓!✗…]/.test(title), `the title says nothing of the state: ${title}`);
expect((await page.$eval("#icon", icon => icon.href)).startsWith("data:image/svg+xml"), "there is no icon");
console.log(JSON.stringify({ headline: await text("#headline"), problems: await text("#problems"), log: (await text("#log")).length }));

// The agent ends: the page says so.
for await (const line of createInterface({ input: process.stdin })) {
  ended = true;
  process.kill(Number(line), "SIGKILL");
  break;
}
await page.waitForFunction(() => document.getElementById("banner").classList.contains("gone"), { timeout: 60000 });
expect(/does not answer/.test(await text("#headline")) && /does not answer/.test(await page.title()), "the end of the agent is not told");
await browser.close();
for (const fault of faults) console.log(fault);
process.exit(0);
