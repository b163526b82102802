#!lua
-- Store messages where they rest, as they stand; an id that is held is left alone.
local messages = KEYS[1] -- hash: id, value
local channel = KEYS[2] -- sorted set of ids by when they came to rest: `failed` or `timeout`
local state = KEYS[3] -- hash: whether there were large values
-- ARGV: id, value without its place; and so on

local now = clock()
local large = false
for at = 0, #ARGV / 2 - 1 do
  local id, rest = ARGV[2 * at + 1], ARGV[2 * at + 2]
  if call('HEXISTS', messages, id) == 0 then
    call('HSET', messages, id, pack('>I8', now + at) .. rest)
    call('ZADD', channel, text(now + at), id)
    large = large or #rest > LARGE
  end
end
if large then
  note_large(state)
end
return {}
