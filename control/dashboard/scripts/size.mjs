// Measures what a first visit loads, compressed, and fails above the budget.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const BUDGET = 200_000;
const dist = resolve(dirname(fileURLToPath(import.meta.url)), "../dist");

function* files(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else yield path;
  }
}

let total = 0;
for (const path of files(dist)) {
  const size = gzipSync(readFileSync(path), { level: 9 }).length;
  total += size;
  console.log(`${(size / 1000).toFixed(1).padStart(8)} kB gzip  ${relative(dist, path)}`);
}
console.log(`${(total / 1000).toFixed(1).padStart(8)} kB gzip  in all, of ${BUDGET / 1000} kB`);
if (total > BUDGET) {
  console.error(`the first load is over its budget of ${BUDGET / 1000} kB: find what grew, or load it later`);
  process.exit(1);
}
