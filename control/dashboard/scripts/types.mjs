// Writes src/api/schema.ts from the control server's OpenAPI document; with --check, fails when it has drifted.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";

const here = dirname(fileURLToPath(import.meta.url));
const target = resolve(here, "../src/api/schema.ts");
const root = resolve(here, "../../..");
const local = join(root, ".venv/bin/python");
const python = process.env.PYTHON ?? (existsSync(local) ? local : "python3");

const document = JSON.parse(
  execFileSync(python, ["-m", "control.openapi"], { cwd: root, encoding: "utf8", maxBuffer: 64 << 20 }),
);
const header = "// Generated from the control server's OpenAPI by `npm run types`. Do not edit.\n\n";
const fresh = header + astToString(await openapiTS(document, { alphabetize: true }));

if (!process.argv.includes("--check")) {
  writeFileSync(target, fresh);
  console.log(`wrote ${target}`);
} else if (!existsSync(target) || readFileSync(target, "utf8") !== fresh) {
  console.error(
    `${target} is not what the server's OpenAPI says: run \`npm run types\` and commit the result`,
  );
  process.exit(1);
} else {
  console.log("src/api/schema.ts fits the server's OpenAPI");
}
