-- What every script may use: put between the first line and the rest of each by `headrace_redis.scripts`.
--
-- Times and places are whole microseconds since the epoch, by the server's clock. They stay
-- under 2^53, so Lua's and the sorted sets' doubles hold them exactly; `..` would not, hence `text`.
--
-- place     when a message was pushed, reloaded, or fell or falls due: its order among the waiting
-- element   place (8 bytes) and id: an entry of `line`, and the tail of a receipt
-- receipt   when it was popped (8 bytes), how often (2 bytes), element: a member of `reserved`
-- value     place (8 bytes), flags (1 byte), and what `headrace_redis.codec` has packed
local call, sub = redis.call, string.sub
local pack, unpack_bytes = struct.pack, struct.unpack

local IN_LINE, SPENT, KEYED = 1, 2, 4 -- flags, as in `headrace_redis.codec`

-- Bytes of values after which a call reads no more: all others wait while the server copies them, and
-- an answer must arrive while its leases last.
local ENOUGH = 4 * 1024 * 1024

-- Bytes from which a value that comes in is large. Of others a hundred are less than is enough, though each be
-- written again with a note of 16 KiB.
local LARGE = 20 * 1024

-- No member of `reserved` begins so. It is there to keep the set from being packed into one block,
-- which it would be when small, and of which each change would then touch every byte.
local PADDING = string.rep('\255', 65)

local function clock()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

local function text(number)
  return string.format('%.0f', number)
end

-- To be compared as a number: Lua compares strings by the rules of the server's locale.
local function place_of(bytes)
  return (unpack_bytes('>I8', bytes))
end

-- What stands first in a sorted set, as a number; nil when it is empty.
local function first(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

local function ring(wake)
  call('ZADD', wake, 0, '')
end

-- Messages whose lease has ended wait again, in their old places. The thousand that one call
-- moves is more than a worker holds; if there are others, the next call moves those.
local function sweep(now, reserved, pending, deliveries)
  local expired = call('ZRANGEBYSCORE', reserved, '-inf', now, 'LIMIT', 0, 1000)
  if #expired == 0 then
    return
  end
  local places, counts = {}, {}
  for at, receipt in ipairs(expired) do
    local id = sub(receipt, 19)
    places[2 * at - 1], places[2 * at] = text(place_of(sub(receipt, 11, 18))), id
    counts[2 * at - 1], counts[2 * at] = id, unpack_bytes('>I2', sub(receipt, 9, 10))
  end
  call('ZREM', reserved, unpack(expired))
  call('ZADD', pending, unpack(places))
  call('HSET', deliveries, unpack(counts))
end

-- The first of `count` new places in `line`: behind all that were ever given out there. They end
-- with the present time where they can, so that none of them lies in the future.
local function new_places(state, now, count)
  local last = tonumber(call('HGET', state, 'last')) or 0
  local place = math.max(last, now - count) + 1
  call('HSET', state, 'last', text(place + count - 1))
  return place
end

-- The unique key that a value names, or nil.
local function key_of(value)
  local flags, at = string.byte(value, 9), 10
  if bit.band(flags, KEYED) == 0 then
    return nil
  end
  if bit.band(flags, SPENT) ~= 0 then
    at = at + 4 + unpack_bytes('>I4', value, at)
  end
  return sub(value, at + 4, at + 3 + unpack_bytes('>I4', value, at))
end

-- The message no longer owns its key, if it did.
local function disown(owners, id, value)
  local key = key_of(value)
  if key and call('HGET', owners, key) == id then
    call('HDEL', owners, key)
  end
end

-- Whether a message that is in no sorted set stands in `line`. What was ever in line says so by
-- a flag; places grow along the line, which is only taken from at its front.
local function in_line(line, value)
  if bit.band(string.byte(value, 9), IN_LINE) == 0 then
    return false
  end
  local front = call('LINDEX', line, 0)
  return front and place_of(value) >= place_of(front)
end

-- Whether an element of `line` still stands for a message. One that was removed from the midst
-- of the line leaves its element there, dead, as taking that out would mean to look for it.
local function live(element, value)
  return value and sub(value, 1, 8) == sub(element, 1, 8)
end

-- Take dead elements off both ends of the line: at most a hundred of each, the next call goes on. The one that
-- is alive behind them is read, and is the only one, but for those whose id was pushed again.
local function trim(messages, line, state, dead)
  for _, ends in ipairs({ { 0, 'LPOP' }, { -1, 'RPOP' } }) do
    for _ = 1, math.min(100, dead) do
      local element = call('LINDEX', line, ends[1])
      if not element or live(element, call('HGET', messages, sub(element, 9))) then
        break
      end
      call(ends[2], line)
      dead = dead - 1
    end
  end
  call('HSET', state, 'dead', dead)
end

-- Remember for good that the queue has, or had, a large value: what is read many at a time is then measured before.
local function note_large(state)
  call('HSET', state, 'large', 1)
end
