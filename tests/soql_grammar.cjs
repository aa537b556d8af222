// Salesforce's own SOQL grammar for many texts at once: a JSON array of texts on stdin; on stdout an array of what is wrong with each,
// null where nothing is. It knows syntax only: which objects and fields exist, and how long a text may be, is the org's matter.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");

const packages = createRequire(join(__dirname, "..", "devhost", "package.json"));
const { SOQLParser } = packages("@salesforce/soql-common/lib/soql-parser");
const parser = SOQLParser({ isApex: false, isMultiCurrencyEnabled: true, apiVersion: 60 });

// Characters that are no token at all are not among the parser's errors: it drops them and says so on the console.
let dropped = [];
console.error = (message) => dropped.push(message);

function fault(text) {
  dropped = [];
  const result = parser.parseQuery(text);
  const said = [...result.getParserErrors().map((error) => error.getMessage()), ...dropped];
  return result.getSuccess() && !said.length ? null : said.join("; ") || "refused without a word";
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(fault)));
