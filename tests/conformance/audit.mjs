// Runs the GraphQL-over-HTTP audit against a server: node audit.mjs URL KEY. Prints each rule that is not met, and "n of m".
import { auditServer } from "graphql-http";

const [url, key] = process.argv.slice(2);
const fetchFn = (input, init) => fetch(input, { ...init, headers: { ...init?.headers, authorization: `Bearer ${key}` } });
const results = await auditServer({ url, fetchFn });
for (const { status, id, name, reason } of results) {
  if (status !== "ok") console.log(status, id, name, reason);
}
console.log(`${results.filter(({ status }) => status === "ok").length} of ${results.length}`);
