#!lua flags=no-writes
-- Show part of a channel, oldest first.
-- Returns the time, and of each message: its place in the order of the channel, its name there, its value.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local failed = KEYS[5] -- sorted set of ids by when they came to rest
local timeout = KEYS[6] -- the same
local channel = ARGV[1]
local limit = tonumber(ARGV[2])
local last, last_name = tonumber(ARGV[3]), ARGV[4] -- of the last page: go on behind it; -1: from the start

local now = clock()
local found = {} -- of { place, name, id }

-- As sorted sets order what has one score: by bytes, whatever the server's locale.
local function less(one, other)
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then
      return a < b
    end
  end
  return #one < #other
end

local function before(one, other)
  return one[1] < other[1] or one[1] == other[1] and less(one[2], other[2])
end

local function add(place, name, id)
  if last < place or last == place and less(last_name, name) then
    found[#found + 1] = { place, name, id }
  end
end

-- What a sorted set has between two scores, behind the last page.
local function add_set(key, low, high)
  local equals = call('ZCOUNT', key, last, last)
  if last > (tonumber(low) or now) then
    low = text(last)
  end
  local members = call('ZRANGEBYSCORE', key, low, high, 'WITHSCORES', 'LIMIT', 0, limit + equals)
  for at = 1, #members, 2 do
    add(tonumber(members[at + 1]), members[at], key == reserved and sub(members[at], 19) or members[at])
  end
end

-- What the line has behind the last page: places grow along it, so that one look in the middle
-- tells which half to go on in.
local function add_line()
  local low, high = 0, call('LLEN', line)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if place_of(call('LINDEX', line, middle)) <= last then
      low = middle + 1
    else
      high = middle
    end
  end
  local count = 0
  while count < limit do
    local elements = call('LRANGE', line, low, low + limit - 1)
    if #elements == 0 then
      break
    end
    low = low + #elements
    for _, element in ipairs(elements) do
      local id = sub(element, 9)
      if live(element, call('HGET', messages, id)) and count < limit then
        add(place_of(element), id, id)
        count = count + 1
      end
    end
  end
end

if channel == 'waiting' then
  add_line()
  add_set(pending, '-inf', text(now))
  for _, receipt in ipairs(call('ZRANGEBYSCORE', reserved, '-inf', now)) do
    add(place_of(sub(receipt, 11, 18)), sub(receipt, 19), sub(receipt, 19))
  end
  table.sort(found, before)
elseif channel == 'delayed' then
  add_set(pending, '(' .. text(now), '+inf')
elseif channel == 'reserved' then
  add_set(reserved, '(' .. text(now), '(inf')
else
  add_set(channel == 'failed' and failed or timeout, '-inf', '+inf')
end

local shown = { text(now) }
for at = 1, math.min(limit, #found) do
  local place, name, id = unpack(found[at])
  shown[#shown + 1] = text(place)
  shown[#shown + 1] = name
  shown[#shown + 1] = call('HGET', messages, id)
end
return shown
