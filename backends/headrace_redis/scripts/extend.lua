#!lua flags=allow-oom
-- Let leases end a while from now. Returns the positions, from 0, of stale receipts.
local reserved = KEYS[1] -- sorted set of receipts by the end of their lease
local pending = KEYS[2] -- sorted set of ids by place
local deliveries = KEYS[3] -- hash: id, how often it was handed out
local wake = KEYS[4] -- sorted set: its one member wakes one who waits
local seconds = tonumber(ARGV[1]) -- in microseconds
-- ARGV after that: receipts

local now = clock()
sweep(now, reserved, pending, deliveries)
local receipts = { unpack(ARGV, 2) }
local soonest = first(reserved)
local till = text(now + seconds)
local leases, stale = {}, {}
for at, lease in ipairs(call('ZMSCORE', reserved, unpack(receipts))) do
  if lease then
    leases[#leases + 1] = till
    leases[#leases + 1] = receipts[at]
  else
    stale[#stale + 1] = at - 1
  end
end
if #leases > 0 then
  call('ZADD', reserved, unpack(leases))
  if now + seconds < soonest then
    ring(wake) -- those who wait have a sooner end to wait for
  end
end
return stale
