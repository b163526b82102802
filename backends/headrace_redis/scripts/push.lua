#!lua
-- Store messages that are due at once and have no unique key; an id that is held is left alone.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements: what was pushed, in order
local state = KEYS[3] -- hash: the last place in line, and how many elements are dead, whether there were large values
local wake = KEYS[4] -- sorted set: its one member wakes one who waits
-- ARGV: id, value without its place; and so on

local count = #ARGV / 2
local ids = {}
for at = 1, count do
  ids[at] = ARGV[2 * at - 1]
end
local held = call('HMGET', messages, unpack(ids))
local place = new_places(state, clock(), count)
local elements, pairs, seen, large = {}, {}, {}, false
for at, id in ipairs(ids) do
  if not held[at] and not seen[id] then
    seen[id] = true
    local bytes = pack('>I8', place)
    place = place + 1
    elements[#elements + 1] = bytes .. id
    pairs[#pairs + 1] = id
    pairs[#pairs + 1] = bytes .. ARGV[2 * at]
    large = large or #ARGV[2 * at] > LARGE
  end
end
if #elements > 0 then
  call('HSET', messages, unpack(pairs))
  call('RPUSH', line, unpack(elements))
end
if large then
  note_large(state)
end
ring(wake)
return {}
