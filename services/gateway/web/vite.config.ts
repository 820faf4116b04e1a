import { defineConfig, type Plugin } from "vite";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

// Every file that shrinks is written a second and third time, compressed once here and never by the gateway. The one that is large is
// kept compressed only.
function precompress(): Plugin {
  return {
    name: "precompress",
    apply: "build",
    async writeBundle({ dir }) {
      const assets = join(dir!, "assets");
      const names = (await readdir(assets)).filter((name) => /\.(js|css|svg|wasm)$/.test(name));
      await Promise.all(names.map(async (name) => {
        const content = await readFile(join(assets, name));
        const large = content.length > 1 << 20;
        const quality = large ? 9 : 11; // 11 takes the wasm half a minute and saves 6 %
        const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_LGWIN]: 22 };
        await writeFile(join(assets, name + ".br"), await promisify(brotliCompress)(content, { params }));
        await writeFile(join(assets, name + ".gz"), await promisify(gzip)(content, { level: 9 }));
        if (large) await rm(join(assets, name));
      }));
    },
  };
}

export default defineConfig({
  plugins: [precompress()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the policy allows no data: URLs where code or styles stand
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: { input: ["index.html", "https.html"] },
  },
});
