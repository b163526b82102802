#!lua flags=no-writes
-- Show part of a channel, oldest first; less than was asked for when enough has been read.
-- Returns the time; place and name behind which to go on, place -1 if there is no more; and of each message:
-- its place in the order of the channel, its name there, its value.
local messages = KEYS[1] -- hash: id, value
local line = KEYS[2] -- list of elements
local pending = KEYS[3] -- sorted set of ids by place
local reserved = KEYS[4] -- sorted set of receipts by the end of their lease
local failed = KEYS[5] -- sorted set of ids by when they came to rest
local timeout = KEYS[6] -- the same
local state = KEYS[7] -- hash: how many elements of `line` are dead
local channel = ARGV[1]
local size = tonumber(ARGV[2])
local last, last_name = tonumber(ARGV[3]), ARGV[4] -- of the last page: go on behind it; -1: from the start

local now = clock()
local limit = size + 1 -- one more than is shown tells whether there are others
local found = {} -- of { place, name, id, and value if it has been read }
local horizon -- { place, name } of what was looked at last, if what is behind it was left for another page

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

local function add(place, name, id, value)
  if last < place or last == place and less(last_name, name) then
    found[#found + 1] = { place, name, id, value }
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
  local dead = tonumber(call('HGET', state, 'dead')) or 0
  local count, bytes = 0, 0
  while count < limit and not horizon do
    local elements = call('LRANGE', line, low, low + limit - 1)
    if #elements == 0 then
      break
    end
    low = low + #elements
    for _, element in ipairs(elements) do
      local id = sub(element, 9)
      local value = dead > 0 and call('HGET', messages, id) or nil
      if dead == 0 or live(element, value) then
        add(place_of(element), id, id, value)
        count = count + 1
      end
      bytes = bytes + (value and #value or 0)
      if bytes >= ENOUGH then
        horizon = { place_of(element), id }
      end
      if count == limit or horizon then
        break
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

local shown, bytes = {}, 0
for at, each in ipairs(found) do
  if horizon and before(horizon, each) then
    break
  end
  if at > size or bytes >= ENOUGH then
    horizon = found[at - 1]
    break
  end
  local place, name, id, value = unpack(each, 1, 4)
  value = value or call('HGET', messages, id)
  bytes = bytes + (value and #value or 0)
  shown[#shown + 1] = text(place)
  shown[#shown + 1] = name
  shown[#shown + 1] = value
end
return { text(now), horizon and text(horizon[1]) or '-1', horizon and horizon[2] or '', unpack(shown) }
