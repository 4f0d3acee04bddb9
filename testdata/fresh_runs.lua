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

-- A request as it is sent, before and after the number of its run: numbers are
-- all of one length, so nothing else differs, and little is left to do for each.
local function around(body, tag)
  local number = ("0"):rep(9)
  local sent = wrk.format("POST", "/rpc", { ["Content-Type"] = "application/json" }, string.format(body, tag .. number))
  local at = sent:find(tag .. number, 1, true) + #tag
  return sent:sub(1, at - 1), sent:sub(at + #number)
end

function init(args)
  local tag = args[1] .. "-" .. number .. "-"
  wrk.headers["Host"] = wrk.headers["Host"] or (wrk.host .. ":" .. wrk.port)
  begin_head, begin_tail = around(begin, tag)
  ask_head, ask_tail = around(ask, tag)
  -- The first request is made to be looked at, and not sent.
  started, asked = 0, 1
end

-- What came of the requests is asked of the store afterwards: looking at every
-- answer here would cost more than making the next request.
function request()
  if started - asked > behind then
    asked = asked + 1
    return ask_head .. string.format("%09d", asked) .. ask_tail
  end
  started = started + 1
  return begin_head .. string.format("%09d", started) .. begin_tail
end
