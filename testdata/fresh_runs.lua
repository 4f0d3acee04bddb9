-- wrk's script of `just bench-server`: every second request starts a run, the
-- others ask whether an earlier one may go on. A run is asked about only after
-- so many others were started that its own start has been answered.
local behind = tonumber(os.getenv("BEHIND") or "64")
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local head = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s","arguments":%s}}'
local begin = string.format(head, "scenario_start", '{"scenario_id":"fresh","run_config":{"tenant_id":1,"namespace_id":1,'
  .. '"run_id":"%s","scenario_id":"fresh","dispatch_targets":[],"policy_tags":[]},'
  .. '"started_at":{"kind":"unix_millis","value":1700000001000},"issue_entry_packets":false}')
local ask = string.format(head, "scenario_next", '{"scenario_id":"fresh","request":{"tenant_id":1,"namespace_id":1,'
  .. '"run_id":"%s","trigger_id":"t","agent_id":"a","time":{"kind":"unix_millis","value":1700000001000},'
  .. '"correlation_id":null}}')

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  -- The first request is made to be looked at, and not sent.
  started, asked, wrong = 0, 1, 0
  tag = args[1] .. "-" .. number .. "-"
end

function request()
  if started - asked > behind then
    asked = asked + 1
    return wrk.format(nil, "/rpc", nil, string.format(ask, tag .. asked))
  end
  started = started + 1
  return wrk.format(nil, "/rpc", nil, string.format(begin, tag .. started))
end

function response(status, _, body)
  if status ~= 200 or body:find('"error"', 1, true) then
    wrong = wrong + 1
    if wrong == 1 then io.stderr:write(body .. "\n") end
  end
end
