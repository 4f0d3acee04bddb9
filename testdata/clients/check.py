"""The quickstart with the Python client of either era, over HTTP or pipes:
every answer must fit the tool's outputSchema.
  check.py BODIES PACK legacy|auto|2026-07-28 URL
  check.py BODIES PACK legacy|auto|2026-07-28 COMMAND ARGUMENT..."""

import json
import pathlib
import sys

import anyio
from jsonschema import Draft202012Validator
from mcp import Client
from mcp.client.stdio import StdioServerParameters

bodies, pack, mode, *target = sys.argv[1:]
http = target[0].startswith("http")


async def main():
    server = target[0] if http else StdioServerParameters(command=target[0], args=target[1:])
    async with Client(server, mode=mode, read_timeout_seconds=30) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert len(tools) == 18, len(tools)
        for file in sorted(pathlib.Path(bodies).iterdir()):
            name = file.stem.split("-", 1)[1]
            arguments = json.loads(file.read_text().replace("runpacks/run-1", pack))
            result = await client.call_tool(name, arguments)
            assert not result.is_error, (name, result.content)
            Draft202012Validator(tools[name].output_schema).validate(result.structured_content)
            assert json.loads(result.content[0].text) == result.structured_content, name
            assert name != "runpack_verify" or result.structured_content["status"] == "pass", result
        refused = await client.call_tool("scenario_next", {"scenario_id": 1})
        assert refused.is_error and "scenario_id" in refused.content[0].text, refused
    print(f"python, {mode}, {'http' if http else 'pipes'}: ok")


anyio.run(main)
