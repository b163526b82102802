#!lua flags=allow-oom
-- Remove delivered messages. Returns the positions, from 0, of stale receipts.
local messages = KEYS[1] -- hash: id, value
local reserved = KEYS[2] -- sorted set of receipts by the end of their lease
local pending = KEYS[3] -- sorted set of ids by place
local deliveries = KEYS[4] -- hash: id, how often it was handed out
-- ARGV: receipts

sweep(clock(), reserved, pending, deliveries)
local leases = call('ZMSCORE', reserved, unpack(ARGV))
local ids, recounted, stale = {}, {}, {}
for at, receipt in ipairs(ARGV) do
  if leases[at] then
    ids[#ids + 1] = sub(receipt, 19)
    if sub(receipt, 9, 10) ~= '\0\1' then
      recounted[#recounted + 1] = ids[#ids]
    end
  else
    stale[#stale + 1] = at - 1
  end
end
if #ids == 0 then
  return stale
end
if call('ZREM', reserved, unpack(ARGV)) < #ids then
  local seen = {}
  for at, receipt in ipairs(ARGV) do
    if leases[at] and seen[receipt] then
      stale[#stale + 1] = at - 1
    end
    seen[receipt] = true
  end
end
call('HDEL', messages, unpack(ids))
if #recounted > 0 then
  call('HDEL', deliveries, unpack(recounted))
end
return stale
