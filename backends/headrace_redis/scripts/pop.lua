#!lua flags=allow-oom
-- Reserve due messages, oldest first.
-- Returns the head that these receipts have in common, elements, values, and the deliveries beyond the
-- first as position, count; or, with nothing to reserve, microseconds until that may change (-1: no saying).
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local deliveries = KEYS[5] -- hash: id, how often it was handed out; only of those whose lease has ended once
local owners = KEYS[6] -- hash: unique key, id of the message that owns it
local state = KEYS[7] -- hash: how many elements of `line` are dead, and whether there were large values
local wake = KEYS[8] -- sorted set: its one member wakes one who waits
local limit = tonumber(ARGV[1])
local lease = tonumber(ARGV[2]) -- microseconds
local heed = tonumber(ARGV[3]) -- microseconds: who waited hands on what will change within them; 0: has not waited

-- Values that one command reads. So many that are not large are less than is enough; where there may be large
-- ones, each is measured before, which takes a microsecond beside the four to six of all else that is done for it.
local PIECE = 100

local now = clock()
sweep(now, reserved, pending, deliveries)

-- Merge: the front of the line with what is due beside it.
local front = call('LRANGE', line, 0, limit - 1)
local due = call('ZRANGEBYSCORE', pending, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
local elements, beside = front, {}
if #due > 0 then
  elements = {}
  local next_front, next_due = 1, 1
  while #elements < limit and (front[next_front] or due[next_due]) do
    local in_front = front[next_front] and place_of(front[next_front]) or math.huge
    local place = tonumber(due[next_due + 1]) or math.huge
    if place < in_front then
      elements[#elements + 1] = pack('>I8', place) .. due[next_due]
      beside[#elements] = true
      next_due = next_due + 2
    else
      elements[#elements + 1] = front[next_front]
      next_front = next_front + 1
    end
  end
end

local known = call('HMGET', state, 'dead', 'large')
local dead, large = tonumber(known[1]) or 0, known[2]
local head = pack('>I8', now)
local once = head .. '\0\1'
local till = text(now + lease)
local taken, values, leases, back, again = {}, {}, { 'inf', PADDING }, {}, {}
local walked, dropped, bytes, measured = 0, 0, 0, 0
local recount = #due > 0 and call('EXISTS', deliveries) == 1
for start = 1, #elements, PIECE do
  if bytes >= ENOUGH then
    break
  end
  local ids = {}
  for at = start, math.min(start + PIECE - 1, #elements) do
    local id = sub(elements[at], 9)
    if large then
      measured = measured + call('HSTRLEN', messages, id)
      if measured > ENOUGH and at > 1 then
        break
      end
    end
    ids[#ids + 1] = id
  end
  if #ids == 0 then
    break
  end
  for place, value in ipairs(call('HMGET', messages, unpack(ids))) do
    local at = start + place - 1
    local element, receipt = elements[at], nil
    if bytes >= ENOUGH then
      break
    end
    if beside[at] then
      local id = ids[place]
      back[#back + 1] = id
      receipt = once .. element
      if recount then
        local count = tonumber(call('HGET', deliveries, id)) or 0
        if count > 0 then
          count = math.min(count + 1, 65535)
          receipt = head .. pack('>I2', count) .. element
          again[#again + 1] = #taken
          again[#again + 1] = count
        end
      end
      disown(owners, id, value)
    else
      walked = walked + 1
      if dead == 0 or live(element, value) then
        receipt = once .. element
      else
        dropped = dropped + 1
      end
    end
    if receipt then
      taken[#taken + 1] = element
      values[#values + 1] = value
      bytes = bytes + #value
      leases[#leases + 1] = till
      leases[#leases + 1] = receipt
    end
  end
end
if walked > 0 then
  call('LTRIM', line, walked, -1)
end
if #back > 0 then
  call('ZREM', pending, unpack(back))
end
if bytes >= ENOUGH and not large then
  note_large(state) -- though nobody has said so, as one would who knows no such note
end
if dropped > 0 then
  call('HINCRBY', state, 'dead', -dropped)
end

local soonest = first(pending)
if #taken == 0 then
  if call('EXISTS', line) == 1 then
    return 0 -- there were dead elements only, and there are others behind them
  end
  local lease_end = first(reserved)
  soonest = math.min(soonest or math.huge, lease_end or math.huge)
  return soonest < math.huge and math.max(soonest - now, 0) or -1
end
call('ZADD', reserved, unpack(leases))
-- One who waits is told if anything is left, and of times that only we, who waited too, knew of.
soonest = math.min(soonest or math.huge, heed > 0 and first(reserved) or math.huge)
if soonest <= now + heed or call('EXISTS', line) == 1 then
  ring(wake)
end
return { head, taken, values, again }
