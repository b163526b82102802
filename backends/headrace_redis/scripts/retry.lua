#!lua flags=allow-oom
-- Give back deliveries as they are now, due at once in their old places or later.
-- Returns the positions, from 0, of stale receipts.
local messages = KEYS[1] -- hash: id, value
local reserved = KEYS[2] -- sorted set of receipts by the end of their lease
local pending = KEYS[3] -- sorted set of ids by place
local deliveries = KEYS[4] -- hash: id, how often it was handed out
local wake = KEYS[5] -- sorted set: its one member wakes one who waits
-- ARGV: receipt, delay in microseconds, value without its place; and so on

local now = clock()
sweep(now, reserved, pending, deliveries)
local soonest = first(pending) or math.huge
local ids, pairs, places, stale = {}, {}, {}, {}
local due = false
for at = 0, #ARGV / 3 - 1 do
  local receipt, delay, rest = ARGV[3 * at + 1], tonumber(ARGV[3 * at + 2]), ARGV[3 * at + 3]
  if call('ZREM', reserved, receipt) == 1 then
    local id = sub(receipt, 19)
    local place = delay > 0 and now + delay + at or place_of(sub(receipt, 11, 18))
    due = due or delay == 0 or place < soonest
    ids[#ids + 1] = id
    pairs[#pairs + 1] = id
    pairs[#pairs + 1] = pack('>I8', place) .. rest
    places[#places + 1] = text(place)
    places[#places + 1] = id
  else
    stale[#stale + 1] = at
  end
end
if #ids > 0 then
  call('HSET', messages, unpack(pairs))
  call('ZADD', pending, unpack(places))
  call('HDEL', deliveries, unpack(ids))
end
if due then
  ring(wake)
end
return stale
