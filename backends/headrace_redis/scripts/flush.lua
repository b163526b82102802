#!lua flags=allow-oom
-- Delete what a channel holds, a piece at a time, which ends early when enough has been read.
-- Returns how many were deleted, whether there may be more, and the time when this began.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local deliveries = KEYS[5] -- hash: id, how often it was handed out
local owners = KEYS[6] -- hash: unique key, id of the message that owns it
local state = KEYS[7] -- hash: how many elements of `line` are dead
local failed = KEYS[8] -- sorted set of ids by when they came to rest
local timeout = KEYS[9] -- the same
local channel = ARGV[1]
local piece = tonumber(ARGV[2])
local began = tonumber(ARGV[3]) -- 0: now

local now = clock()
if began == 0 then
  began = now
end
sweep(now, reserved, pending, deliveries)

local function delete_from(key, low, high)
  local ids = call('ZRANGEBYSCORE', key, low, high, 'LIMIT', 0, piece)
  if #ids == 0 then
    return 0
  end
  -- Their values tell who owns a unique key. Nobody does that rests, and most queues have no keys.
  if key == pending and call('EXISTS', owners) == 1 then
    local bytes = 0
    for at, id in ipairs(ids) do
      local value = call('HGET', messages, id)
      disown(owners, id, value)
      bytes = bytes + #value
      if bytes >= ENOUGH then
        ids = { unpack(ids, 1, at) }
        break
      end
    end
  end
  call('ZREM', key, unpack(ids))
  call('HDEL', messages, unpack(ids))
  call('HDEL', deliveries, unpack(ids))
  return #ids
end

local function delete_from_line()
  local dead = tonumber(call('HGET', state, 'dead')) or 0
  local ids, walked, bytes = {}, 0, 0
  for _, element in ipairs(call('LRANGE', line, 0, piece - 1)) do
    if place_of(element) > began or bytes >= ENOUGH then
      break
    end
    walked = walked + 1
    local id = sub(element, 9)
    local value = dead > 0 and call('HGET', messages, id)
    bytes = bytes + (value and #value or 0)
    if dead == 0 or live(element, value) then
      ids[#ids + 1] = id
    else
      dead = dead - 1
    end
  end
  if walked > 0 then
    call('LTRIM', line, walked, -1)
    call('HSET', state, 'dead', dead)
  end
  if #ids > 0 then
    call('HDEL', messages, unpack(ids))
  end
  return #ids, walked
end

local count, walked
if channel == 'waiting' then
  count, walked = delete_from_line()
  if walked == 0 then
    count = delete_from(pending, '-inf', began)
    walked = count
  end
elseif channel == 'delayed' then
  count = delete_from(pending, '(' .. text(began), '+inf')
  walked = count
else
  count = delete_from(channel == 'failed' and failed or timeout, '-inf', began)
  walked = count
end
return { count, walked, text(began) }
