#!lua flags=allow-oom
-- Give back what a cancelled pop took, as if it had not: in its old place, with nothing counted.
local reserved = KEYS[1] -- sorted set of receipts by the end of their lease
local pending = KEYS[2] -- sorted set of ids by place
local wake = KEYS[3] -- sorted set: its one member wakes one who waits
-- ARGV: receipts

-- `deliveries` still has the count that was there before.
for _, receipt in ipairs(ARGV) do
  if call('ZREM', reserved, receipt) == 1 then
    call('ZADD', pending, text(place_of(sub(receipt, 11, 18))), sub(receipt, 19))
  end
end
ring(wake)
return {}
