// Takes the pictures. A few minutes of check-ins make a better one than a few seconds: the schedule is a quick one.

import { join } from "node:path";

import { System, endAll, rows, until, visit } from "./tests/system.js";

/** How long patients check in before; `MINUTES` in the environment for less. */
const MINUTES = Number(process.env.MINUTES ?? 12);

const folder = process.argv[2];

try {
  const system = await System.start("--every", "2s");
  await system.poison("p-007");
  await new Promise((resolve) => setTimeout(resolve, MINUTES * 60_000));
  const { patients } = await (await fetch(new URL("patients?limit=100", system.url))).json();
  const often = patients.toSorted((one, other) => other.checkinCount - one.checkinCount)[0].id;

  const shoot = async (name, options, address = "", prepare = async () => {}) => {
    const page = await visit(`${system.url}${address}`, { deviceScaleFactor: 1.5, ...options });
    if (address) await page.locator(".entries li").first().waitFor();
    else {
      await rows(page).first().waitFor();
      // On a phone it is there, but folded.
      await page.locator(".flow").waitFor({ state: "attached" });
      await until("something has happened", async () => (await page.locator(".flow.runs").count()) > 0);
    }
    await prepare(page);
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.context().close();
  };

  const desktop = { viewport: { width: 1280, height: 860 } };
  const phone = { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 };
  await shoot("list-light", desktop);
  await shoot("list-dark", { ...desktop, colorScheme: "dark" });
  await shoot("patient", { viewport: { width: 1040, height: 860 } }, `#patient/${often}`);
  await shoot("quarantined", { viewport: { width: 1040, height: 620 } }, "", async (page) => {
    await page.fill("#search", "p-007");
    await rows(page).locator("a").click();
    await page.getByText(/the next event of this patient/).waitFor();
  });
  await shoot("phone", phone);
  await shoot("phone-dark", { ...phone, colorScheme: "dark" }, `#patient/${often}`);
  const pipeline = await visit(system.url, { deviceScaleFactor: 1.5, viewport: { width: 1000, height: 900 } });
  await until("something has happened", async () => (await pipeline.locator(".flow.runs").count()) > 0);
  await pipeline.locator(".pipeline").screenshot({ path: join(folder, "pipeline.png") });
} finally {
  await endAll();
}
