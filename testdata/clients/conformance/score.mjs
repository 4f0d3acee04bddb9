// What a run of the conformance suite came to: `score.mjs RESULTS BASELINE SCORED [APPLIES]`.
//
// RESULTS is the folder the suite wrote. BASELINE names what is known to fail:
// an entry for what was not run is an error, because the suite says nothing
// about it. SCORED has a line for each scenario that counts, APPLIES one
// for each that means something without the suite's fixtures, and one with an
// exclamation mark for each of their checks that does not: of the rest, those
// are counted that the baseline does not name.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [results, baseline, scored, applies] = process.argv.slice(2);
const lines = (file) => readFileSync(file, "utf8").split("\n").map((line) => line.replace(/#.*/, "").trim()).filter(Boolean);
const expected = lines(baseline).filter((line) => line.startsWith("- ")).map((line) => line.slice(2));

const runs = readdirSync(results, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => ({
    scenario: name.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT[\dZ-]+$/, ""),
    checks: JSON.parse(readFileSync(join(results, name, "checks.json"), "utf8")),
}));
const named = new Set(runs.flatMap(({ scenario, checks }) => [scenario, ...checks.map(({ id }) => `${scenario}:${id}`)]));
const unknown = (entries) => entries.filter((entry) => !named.has(entry));
const applying = applies ? lines(applies).filter((line) => !line.startsWith("!")) : [];
const vacuous = applies ? lines(applies).filter((line) => line.startsWith("!")).map((line) => line.slice(1)) : [];
const missing = [expected, lines(scored), applying, vacuous].flatMap(unknown);
if (missing.length > 0) {
    console.log(`named, but not run: ${[...new Set(missing)].join(", ")}`);
    process.exit(1);
}

/** What came out of the checks of these scenarios that are no mere information. */
function count(scenarios, except = []) {
    const wanted = new Set(scenarios);
    const checks = runs.filter(({ scenario }) => wanted.has(scenario))
        .flatMap(({ scenario, checks }) => checks.map((check) => ({ ...check, entry: `${scenario}:${check.id}` })))
        .filter(({ status, entry }) => ["SUCCESS", "FAILURE", "WARNING"].includes(status) && !except.includes(entry));
    return `${checks.filter(({ status }) => status === "SUCCESS").length}/${checks.length}`;
}

const parts = [`scored ${count(lines(scored))} checks`, `all ${count(runs.map(({ scenario }) => scenario))}`];
if (applies) parts.unshift(`P ${count(applying, [...expected, ...vacuous])}`);
console.log(parts.join(", "));
