// A headless Chromium that visits the pages of the examples.
//
//   page.js echo URL PNG      the echo server's page: what its log says, by line
//   page.js chat URL PNG      two visitors of the chat: what each of them sees
//   page.js deflate URL       messages over permessage-deflate, from a page
//
// Prints what it saw; says "stop the server" and goes on when that has been done.
const { chromium } = require("playwright-core");

const FLAGS = [
  "--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-first-run",
];

// The texts of all elements, once `last` stands in the last of them.
async function log(page, selector, last) {
  await page.waitForFunction(([selector, last]) => {
    const all = document.querySelectorAll(selector);
    return all.length > 0 && all[all.length - 1].textContent === last;
  }, [selector, last], { timeout: 10000 });
  return page.$$eval(selector, (all) => all.map((each) => each.textContent));
}

// Nothing may go wrong unseen; other hosts may not be asked for anything.
function watch(page, url) {
  page.on("pageerror", (err) => console.log("page error:", err.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) console.log("foreign request:", request.url());
  });
}

async function visitor(browser, url) {
  const page = await browser.newPage({ viewport: { width: 800, height: 500 } });
  watch(page, url);
  const response = await page.goto(url);
  console.log("status", response.status(), "title", await page.title(), "lang", await page.getAttribute("html", "lang"));
  return page;
}

async function echo(browser, url, png) {
  const page = await visitor(browser, url);
  const line = (last) => log(page, "#output div", last);
  await page.click("#send"); // not open: nothing
  await page.click("#close");
  await page.click("#open");
  await line("OPEN");
  await page.click("#open"); // is open: nothing
  await page.click("#send");
  await line("RESPONSE: Hello world!");
  await page.fill("#input", "<b>bold</b> & \"quoted\" ü");
  await page.click("#send");
  await line("RESPONSE: <b>bold</b> & \"quoted\" ü");
  await page.screenshot({ path: png });
  await page.click("#close");
  await line("CLOSE");
  await page.click("#send"); // closed: nothing
  await page.click("#open"); // a second time
  await line("OPEN");
  console.log("stop the server");
  await line("CLOSE");
  await page.click("#open");
  await page.waitForFunction(() => document.querySelectorAll("#output div").length === 10);
  console.log((await line("CLOSE")).join("\n"));
}

async function chat(browser, url, png) {
  const pages = [await visitor(browser, url), await visitor(browser, url)];
  const says = async (i, text, key) => {
    await pages[i].fill("#msg", text);
    if (key) await pages[i].press("#msg", key);
    else await pages[i].click("input[type=submit]");
    for (const page of pages) await log(page, "#log div", text);
  };
  await says(0, "Hello, is anybody here?");
  await says(1, "Yes: <i>me</i> & ü", "Enter");
  for (let i = 0; i < 30; i++) await says(i % 2, "line " + i);
  await pages[0].screenshot({ path: png });
  console.log("stop the server");
  for (const page of pages) {
    const lines = await log(page, "#log div", "Connection closed.");
    console.log(lines.length, lines[0], lines[1], await page.inputValue("#msg") === "" ? "empty" : "not empty");
    console.log("scrolled", await page.$eval("#log", (e) => e.scrollTop + e.clientHeight >= e.scrollHeight - 1));
  }
}

async function deflate(browser, url) {
  const page = await visitor(browser, url);
  const result = await page.evaluate(async () => {
    const ws = new WebSocket(location.href.replace("http", "ws") + "deflate");
    ws.binaryType = "arraybuffer";
    const next = () => new Promise((resolve, reject) => {
      ws.onmessage = (event) => resolve(event.data);
      ws.onclose = (event) => reject(new Error("closed " + event.code));
    });
    await new Promise((resolve) => { ws.onopen = resolve; });
    const seen = [ws.extensions];
    for (const size of [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]) {
      const text = Array.from({ length: size }, (_, i) => String.fromCharCode(97 + (i * i + (i >> 5)) % 26)).join("");
      const bytes = new Uint8Array(size).map((_, i) => (i * 2654435761) >>> 24);
      for (const message of [text, text.slice(0, size / 2).replaceAll("e", "é"), bytes]) {
        ws.send(message);
        const got = await next();
        const same = typeof message === "string" ? got === message
          : new Uint8Array(got).every((byte, i) => byte === bytes[i]) && got.byteLength === size;
        if (!same) seen.push("wrong at " + size);
      }
    }
    const closed = new Promise((resolve) => { ws.onclose = (event) => resolve([event.code, event.wasClean].join(" ")); });
    ws.close(4000, "bye");
    return [...seen, await closed];
  });
  console.log(result.join("\n"));
}

async function main([what, url, png]) {
  const browser = await chromium.launch({ executablePath: process.env.CWS_CHROMIUM, args: FLAGS });
  try {
    await { echo, chat, deflate }[what](browser, url, png);
  } finally {
    await browser.close();
  }
}

main(process.argv.slice(2)).catch((err) => {
  console.error(err);
  process.exit(1);
});
