import { defineConfig } from "@playwright/test";
import { pin, turn } from "./platform";

// People wait for each other here and never for a clock: what takes longer than this does not come.
export default defineConfig({
  testDir: ".",
  outputDir: "results",
  fullyParallel: false,
  workers: 1,
  retries: 0,
  maxFailures: 1, // the people go on from test to test
  timeout: 240_000,
  expect: { timeout: 30_000 },
  reporter: [["list", { printSteps: true }]],
  use: {
    actionTimeout: 30_000,
    navigationTimeout: 30_000,
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-quic", "--use-fake-device-for-media-stream=fps=10", "--use-fake-ui-for-media-stream",
        ...(turn.address ? [`--host-resolver-rules=MAP ${turn.name}* ${turn.address}`] : []), ...(pin ? ["--ignore-certificate-errors-spki-list=" + pin] : [])],
    },
  },
});
