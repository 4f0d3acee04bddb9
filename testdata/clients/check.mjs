// The quickstart with the TypeScript client of either era, over HTTP or pipes:
// every answer must fit the tool's outputSchema.
//   node check.mjs BODIES PACK legacy|modern|old URL
//   node check.mjs BODIES PACK legacy|modern|old COMMAND ARGUMENT...
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

const [bodies, pack, era, ...target] = process.argv.slice(2);
const info = { name: 'runpack-check', version: '1' };
const url = target[0].startsWith('http') ? new URL(target[0]) : undefined;
const child = { command: target[0], args: target.slice(1), stderr: 'inherit' };

async function connect() {
  if (era === 'old') {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    const client = new Client(info, { capabilities: {} });
    await client.connect(url ? new StreamableHTTPClientTransport(url) : new StdioClientTransport(child));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
  const client = new Client(info, { capabilities: {}, versionNegotiation: { mode } });
  await client.connect(url ? new StreamableHTTPClientTransport(url) : new StdioClientTransport(child));
  return client;
}

const fail = (why) => { console.error(`${era}: ${why}`); process.exit(1); };
const client = await connect();
const tools = new Map((await client.listTools()).tools.map((tool) => [tool.name, tool]));
if (tools.size !== 18) fail(`${tools.size} tools`);
const ajv = addFormats(new Ajv2020({ strict: false, validateFormats: false }));
for (const file of readdirSync(bodies).sort()) {
  const name = file.replace(/^\d-|\.json$/g, '');
  const text = readFileSync(join(bodies, file), 'utf8');
  const args = JSON.parse(text.replaceAll('runpacks/run-1', pack));
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) fail(`${name}: ${result.content[0].text}`);
  const validate = ajv.compile(tools.get(name).outputSchema);
  if (!validate(result.structuredContent)) fail(`${name}: ${ajv.errorsText(validate.errors)}`);
  if (JSON.stringify(JSON.parse(result.content[0].text)) !== JSON.stringify(result.structuredContent)) fail(`${name}: the text says something else`);
  if (name === 'runpack_verify' && result.structuredContent.status !== 'pass') fail('the pack does not pass');
}
const refused = await client.callTool({ name: 'scenario_next', arguments: { scenario_id: 1 } }).catch((error) => fail(`a refusal is no answer: ${error}`));
if (!refused.isError || !refused.content[0].text.includes('scenario_id')) fail('a refusal does not name the place');
await client.close();
console.log(`typescript, ${era}, ${url ? 'http' : 'pipes'}: ok`);
