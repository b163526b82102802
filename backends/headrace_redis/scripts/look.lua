#!lua flags=no-writes
-- Microseconds until there may be something to pop: 0 if there is now, -1 if there is no saying.
local line = KEYS[1] -- list of elements
local pending = KEYS[2] -- sorted set of ids by place
local reserved = KEYS[3] -- sorted set of receipts by the end of their lease
local state = KEYS[4] -- hash: how many elements of `line` are dead

if call('LLEN', line) > (tonumber(call('HGET', state, 'dead')) or 0) then
  return 0
end
local soonest = math.min(first(pending) or math.huge, first(reserved) or math.huge)
return soonest < math.huge and math.max(soonest - clock(), 0) or -1
