#!lua flags=no-writes
-- Returns waiting, reserved, delayed, failed, timeout, and the microseconds that the oldest waiting
-- message has been due, or -1 if none waits.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local state = KEYS[5] -- hash: how many elements of `line` are dead
local failed = KEYS[6] -- sorted set of ids by when they came to rest
local timeout = KEYS[7] -- the same

-- Elements, or ended leases, that are looked through for the oldest message: no call removes more without
-- tidying up.
local FAR = 1000

local now = clock()
local dead = tonumber(call('HGET', state, 'dead')) or 0
local after = '(' .. text(now)
local in_front = call('LLEN', line) - dead
local due = call('ZCOUNT', pending, '-inf', now)
local expired = call('ZCOUNT', reserved, '-inf', now)
local oldest = math.huge
if in_front > 0 then
  for _, element in ipairs(call('LRANGE', line, 0, dead > 0 and FAR or 0)) do
    if dead == 0 or live(element, call('HGET', messages, sub(element, 9))) then
      oldest = place_of(element)
      break
    end
  end
end
if due > 0 then
  oldest = math.min(oldest, first(pending))
end
for _, receipt in ipairs(call('ZRANGEBYSCORE', reserved, '-inf', now, 'LIMIT', 0, FAR)) do
  oldest = math.min(oldest, place_of(sub(receipt, 11, 18)))
end
return {
  in_front + due + expired,
  call('ZCOUNT', reserved, after, '(inf'),
  call('ZCOUNT', pending, after, '+inf'),
  call('ZCARD', failed),
  call('ZCARD', timeout),
  oldest < math.huge and math.max(now - oldest, 0) or -1,
}
