// Takes the pictures. A few minutes of check-ins make a better one than a few seconds: the schedule is a quick one.

import { join } from "node:path";

import { System, endAll, rows, until, visit } from "./tests/system.js";

/** How long patients check in before; `MINUTES` in the environment for less. */
const MINUTES = Number(process.env.MINUTES ?? 12);

const folder = process.argv[2];

try {
  const system = await System.start("--every", "2s");
  await new Promise((resolve) => setTimeout(resolve, MINUTES * 60_000));
  const { patients } = await (await fetch(new URL("patients?limit=100", system.url))).json();
  const often = patients.toSorted((one, other) => other.checkinCount - one.checkinCount)[0].id;

  const shoot = async (name, options, address = "") => {
    const page = await visit(`${system.url}${address}`, { deviceScaleFactor: 1.5, ...options });
    if (address) await page.locator(".entries li").first().waitFor();
    else {
      await rows(page).first().waitFor();
      // On a phone it is there, but folded.
      await page.locator(".flow").waitFor({ state: "attached" });
      await until("something has happened", async () => (await page.locator(".flow.runs").count()) > 0);
    }
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.context().close();
  };

  await shoot("list", { viewport: { width: 1280, height: 860 } });
  await shoot("patient", { viewport: { width: 1040, height: 860 } }, `#patient/${often}`);
  await shoot("phone", { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 });
} finally {
  await endAll();
}
