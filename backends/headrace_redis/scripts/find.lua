#!lua flags=no-writes
-- Look for chosen messages in a channel.
-- Returns the time, how many ids were looked at: the first of them, until enough has been read; and of each one
-- that is there: its place in the order of the channel, its name there, the length of its value.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local failed = KEYS[5] -- sorted set of ids by when they came to rest
local timeout = KEYS[6] -- the same
local channel = ARGV[1]
-- ARGV after that: ids

local now = clock()
local found = { text(now), 0 }
local bytes = 0

local function add(id, place, name)
  found[#found + 1] = text(place)
  found[#found + 1] = name
  found[#found + 1] = call('HSTRLEN', messages, id)
end

-- Receipts by id: with the end of their lease while it lasts, with their place when it has ended.
local leases = {}
if channel == 'reserved' then
  local members = call('ZRANGEBYSCORE', reserved, '(' .. text(now), '(inf', 'WITHSCORES')
  for at = 1, #members, 2 do
    leases[sub(members[at], 19)] = { tonumber(members[at + 1]), members[at] }
  end
elseif channel == 'waiting' then
  for _, receipt in ipairs(call('ZRANGEBYSCORE', reserved, '-inf', now)) do
    leases[sub(receipt, 19)] = { place_of(sub(receipt, 11, 18)), sub(receipt, 19) }
  end
end

local resting = ({ failed = failed, timeout = timeout })[channel]
for at = 2, #ARGV do
  if bytes >= ENOUGH then
    break
  end
  found[2] = found[2] + 1
  local id = ARGV[at]
  if leases[id] then
    add(id, unpack(leases[id]))
  elseif resting then
    local time = call('ZSCORE', resting, id)
    if time then
      add(id, tonumber(time), id)
    end
  elseif channel ~= 'reserved' then
    local place = tonumber(call('ZSCORE', pending, id))
    if place then
      if (place <= now) == (channel == 'waiting') then
        add(id, place, id)
      end
    elseif channel == 'waiting' and not call('ZSCORE', failed, id) and not call('ZSCORE', timeout, id) then
      local value = call('HGET', messages, id) -- nothing else tells whether it is in line
      if value then
        bytes = bytes + #value
        if in_line(line, value) then
          add(id, place_of(value), id)
        end
      end
    end
  end
end
return found
