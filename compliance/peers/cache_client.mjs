// Run tests of the npm package "http-cache-tests", or tell what they are.
//
// Arguments: the package's folder; then, to run tests, the address without a slash at its end, and
// the ids of the tests (none: all of them).
//
// Writes JSON: the definitions of all groups, or an object of what came out by the test's id (true,
// or [the kind of error, its message]).  The package runs a hundred tests side by side.  Its group on
// Surrogate-Control, of a W3C Note and not of RFC 9111, is left out.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, base, ...ids] = process.argv.slice(2);
const load = (...names) => import(pathToFileURL(join(folder, ...names)));
const groups = (await load("tests", "index.mjs")).default;
let written = groups;
if (base !== undefined) {
  const fetch = createRequire(join(folder, "package.json"))("node-fetch");
  const { runTests, getResults } = await load("client", "runner.mjs");
  const wanted = (test) => ids.length === 0 || ids.includes(test.id);
  const chosen = groups.map((each) => ({ ...each, tests: each.tests.filter(wanted) }));
  await runTests(chosen, fetch, false, base);
  written = getResults();
}
// A test that fails at a response's head never reads its content, and such a connection stays open.
process.stdout.write(JSON.stringify(written) + "\n", () => process.exit(0));
