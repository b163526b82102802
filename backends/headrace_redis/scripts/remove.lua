#!lua flags=allow-oom
-- Delete chosen messages that are waiting, delayed, or at rest.
-- Returns how many, and how many ids were looked at: the first of them, until enough has been read.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local deliveries = KEYS[5] -- hash: id, how often it was handed out
local owners = KEYS[6] -- hash: unique key, id of the message that owns it
local state = KEYS[7] -- hash: how many elements of `line` are dead
local failed = KEYS[8] -- sorted set of ids by when they came to rest
local timeout = KEYS[9] -- the same
local channel = ARGV[1] -- its name; or `pending`: waiting or delayed
-- ARGV after that: ids

local now = clock()
sweep(now, reserved, pending, deliveries)
local resting = ({ failed = failed, timeout = timeout })[channel]
local owned = call('EXISTS', owners) == 1
local removed, walked, dead, bytes = 0, 0, 0, 0

-- Only where nothing else tells: a few bytes of a value cost as much as all of it.
local function read(id)
  local value = call('HGET', messages, id)
  bytes = bytes + (value and #value or 0)
  return value
end

for at = 2, #ARGV do
  if bytes >= ENOUGH then
    break
  end
  walked = walked + 1
  local id = ARGV[at]
  local found = false
  if resting then
    found = call('ZREM', resting, id) == 1
  else
    local place = tonumber(call('ZSCORE', pending, id))
    if place then
      found = channel == 'pending' or (place <= now) == (channel == 'waiting')
      if found then
        call('ZREM', pending, id)
        if owned then
          disown(owners, id, read(id))
        end
      end
    elseif channel ~= 'delayed' and not call('ZSCORE', failed, id) and not call('ZSCORE', timeout, id) then
      local value = read(id)
      found = value and in_line(line, value)
      dead = dead + (found and 1 or 0)
    end
  end
  if found then
    call('HDEL', messages, id)
    call('HDEL', deliveries, id)
    removed = removed + 1
  end
end
if dead > 0 then
  trim(messages, line, state, (tonumber(call('HGET', state, 'dead')) or 0) + dead)
end
return { removed, walked }
