// Salesforce's own library reads package directories in source format: what is in each, its manifest, and the same in metadata format.
// In: {"root", "output", "version", "directories": [...]} as JSON on stdin. Out: for each directory what is in it, or why it was refused.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");

const packages = createRequire(join(__dirname, "..", "..", "devhost", "package.json"));
const { ComponentSet, MetadataConverter } = packages("@salesforce/source-deploy-retrieve");

async function read(root, output, directory, version) {
  const set = ComponentSet.fromSource(join(root, directory));
  set.sourceApiVersion = version;
  const components = set.getSourceComponents().toArray();
  const members = components.flatMap((one) => [one, ...one.getChildren()]);
  const folder = join(output, directory);
  await new MetadataConverter().convert(set, "metadata", { type: "directory", outputDirectory: folder, genUniqueDir: false });
  return {
    files: members.flatMap((one) => [one.xml, ...one.walkContent()]).filter(Boolean),
    manifest: await set.getPackageXml(),
    folder,
  };
}

async function main() {
  const { root, output, version, directories } = JSON.parse(readFileSync(0, "utf8"));
  const answers = {};
  for (const directory of directories) {
    answers[directory] = await read(root, output, directory, version).catch((error) => ({ refused: error.message }));
  }
  process.stdout.write(JSON.stringify(answers));
}

main();
