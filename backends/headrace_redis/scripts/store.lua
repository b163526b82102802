#!lua
-- Store messages of any kind: delayed ones, and those with a unique key, which live in `pending`,
-- where they can be replaced at the cost of a look-up.
-- Returns positions, from 0, each followed by the id that survived there in place of the message's own.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place: waiting once the place is past, until then delayed
local owners = KEYS[4] -- hash: unique key, id of the message that owns it
local state = KEYS[5] -- hash: the last place in line, whether there were large values
local wake = KEYS[6] -- sorted set: its one member wakes one who waits
-- ARGV: id, value without its place, delay in microseconds, 1 to keep the pending message of its
-- key; and so on

local now = clock()
local count = #ARGV / 4
local place = new_places(state, now, count)
local soonest = first(pending)
local due, large, survivors = false, false, {}

for at = 0, count - 1 do
  local id, rest, delay, keep = ARGV[4 * at + 1], ARGV[4 * at + 2], tonumber(ARGV[4 * at + 3]), ARGV[4 * at + 4] == '1'
  if call('HEXISTS', messages, id) == 0 then
    local mine = delay > 0 and now + delay + at or place + at
    local value = pack('>I8', mine) .. rest
    local key = key_of(value)
    local owner = key and call('HGET', owners, key)
    if owner and keep then
      survivors[#survivors + 1] = at
      survivors[#survivors + 1] = owner
    else
      if owner then
        call('ZREM', pending, owner)
        call('HDEL', messages, owner)
      end
      if key then
        call('HSET', owners, key, id)
      end
      call('HSET', messages, id, value)
      large = large or #rest > LARGE
      if bit.band(string.byte(value, 9), IN_LINE) ~= 0 then
        call('RPUSH', line, sub(value, 1, 8) .. id)
      else
        call('ZADD', pending, text(mine), id)
      end
      if delay == 0 or not soonest or mine < soonest then
        due = true
      end
    end
  end
end
if large then
  note_large(state)
end
if due then
  ring(wake)
end
return survivors
