#!lua flags=allow-oom
-- Move deliveries to a channel where they rest. Returns the positions, from 0, of stale receipts.
local messages = KEYS[1] -- hash: id, value
local reserved = KEYS[2] -- sorted set of receipts by the end of their lease
local pending = KEYS[3] -- sorted set of ids by place
local deliveries = KEYS[4] -- hash: id, how often it was handed out
local channel = KEYS[5] -- sorted set of ids by when they came to rest: `failed` or `timeout`
-- ARGV: receipt, value without its place; and so on

local now = clock()
sweep(now, reserved, pending, deliveries)
local ids, pairs, times, stale = {}, {}, {}, {}
for at = 0, #ARGV / 2 - 1 do
  local receipt, rest = ARGV[2 * at + 1], ARGV[2 * at + 2]
  if call('ZREM', reserved, receipt) == 1 then
    local id = sub(receipt, 19)
    ids[#ids + 1] = id
    pairs[#pairs + 1] = id
    pairs[#pairs + 1] = sub(receipt, 11, 18) .. rest
    times[#times + 1] = text(now + at)
    times[#times + 1] = id
  else
    stale[#stale + 1] = at
  end
end
if #ids > 0 then
  call('HSET', messages, unpack(pairs))
  call('ZADD', channel, unpack(times))
  call('HDEL', deliveries, unpack(ids))
end
return stale
