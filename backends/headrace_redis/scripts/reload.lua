#!lua flags=allow-oom
-- Move messages from where they rest to the end of the line, as if they were new, a piece at a time.
-- Returns how many were moved, how many were looked at: none, or the first of those that there are, until
-- enough has been read; and the time until which messages had come to rest when this began.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local channel = KEYS[3] -- sorted set of ids by when they came to rest: `failed` or `timeout`
local state = KEYS[4] -- hash: the last place in line
local wake = KEYS[5] -- sorted set: its one member wakes one who waits
local limit = tonumber(ARGV[1])
local until_ = tonumber(ARGV[2]) -- 0: now
-- ARGV after that: ids, or none for all

local now = clock()
if until_ == 0 then
  until_ = now
end
local ids
if #ARGV == 2 then
  ids = call('ZRANGEBYSCORE', channel, '-inf', until_, 'LIMIT', 0, limit)
else
  ids = { unpack(ARGV, 3) }
end
local place = new_places(state, now, #ids)
local moved, walked, bytes = 0, 0, 0
for _, id in ipairs(ids) do
  if bytes >= ENOUGH then
    break
  end
  walked = walked + 1
  if call('ZREM', channel, id) == 1 then
    local value = call('HGET', messages, id)
    bytes = bytes + #value
    local flags, at = string.byte(value, 9), 10
    if bit.band(flags, SPENT) ~= 0 then
      at = at + 4 + unpack_bytes('>I4', value, at)
      flags = flags - SPENT
    end
    local bytes = pack('>I8', place)
    place = place + 1
    call('HSET', messages, id, bytes .. string.char(bit.bor(flags, IN_LINE)) .. sub(value, at))
    call('RPUSH', line, bytes .. id)
    moved = moved + 1
  end
end
if moved > 0 then
  ring(wake)
end
return { moved, walked, text(until_) }
