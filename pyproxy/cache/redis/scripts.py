"""What Redis does in one step for the cache.  The layout of a record is ``record``'s.

They need Redis 5 or later.  Where memory is short only those fail that keep something.
"""

from __future__ import annotations

from pyproxy.sharing.redis import Script

# Positions in a record, counted from 1: token 1-32, place 33, length 34-49, head's length 50-57.

_CONTENTS = b"""
local function lies_apart(record)
  return string.sub(record, 33, 33) == 'c'
end
local function content_of(record)
  return ARGV[1] .. string.sub(record, 1, 32)
end
local function whole(record)
  local length = tonumber(string.sub(record, 34, 49))
  return not lies_apart(record) or redis.call('STRLEN', content_of(record)) == length
end
"""

_LINGER = (
    _CONTENTS
    + b"""
local function linger(record)
  if lies_apart(record) then
    local content = content_of(record)
    if redis.call('PTTL', content) > tonumber(ARGV[2]) then
      redis.call('PEXPIRE', content, ARGV[2])
    end
  end
end
local function last_at_least(key, life)
  if redis.call('PTTL', key) < tonumber(life) then
    redis.call('PEXPIRE', key, life)
  end
end
"""
)

FIND = Script(
    _CONTENTS
    + b"""
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if whole(all[i + 1]) then
    found[#found + 1] = all[i + 1]
  else
    redis.pcall('HDEL', KEYS[1], all[i])
  end
end
return found
"""
)
"""Records whose contents are all there; others go.  KEYS: records.  ARGV: contents' names begin."""

BEGIN = Script(
    b"""
redis.call('HSET', KEYS[1], ARGV[1], redis.call('GET', KEYS[2]) or '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
)
"""Know that a content is being written.

KEYS: what is being written for its key, the number of the last purge.  ARGV: token, life.
"""

KEEP = Script(
    _LINGER
    + b"""
local record = ARGV[4]
local token = string.sub(record, 1, 32)
local purges = redis.call('HGET', KEYS[2], token)
redis.call('HDEL', KEYS[2], token)
if not purges or purges ~= (redis.call('GET', KEYS[3]) or purges) then
  return 'outdated'
end
if not whole(record) then
  return 'lost'
end
local old = redis.call('HGET', KEYS[1], ARGV[3])
local others = {}
if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  others = redis.call('HVALS', KEYS[1])
  redis.call('UNLINK', KEYS[1])
end
redis.call('HSET', KEYS[1], ARGV[3], record)
last_at_least(KEYS[1], ARGV[5])
if lies_apart(record) then
  redis.call('PEXPIRE', content_of(record), ARGV[5])
end
if old then
  linger(old)
end
for _, other in ipairs(others) do
  linger(other)
end
return 'kept'
"""
)
"""Make an entry visible, once its content is whole, in the place of another.

Not when its key was invalidated, or a purge began, since it is being written.
KEYS: records, what is being written for the key, the number of the last purge.  ARGV: contents'
names begin, how long a content stays that is not used any more, field, record, life, how many
entries a key may have; times in ms.
"""

REFRESH = Script(
    _LINGER
    + b"""
local old = redis.call('HGET', KEYS[1], ARGV[3])
if not old or string.sub(old, 1, 32) ~= string.sub(ARGV[5], 1, 32) or not whole(old) then
  return 0
end
local record = ARGV[5]
if not lies_apart(old) then
  record = record .. string.sub(old, 58 + tonumber(string.sub(old, 50, 57)))
end
local other = ARGV[3] ~= ARGV[4] and redis.call('HGET', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[4], record)
if ARGV[3] ~= ARGV[4] then
  redis.call('HDEL', KEYS[1], ARGV[3])
  if other then
    linger(other)
  end
end
last_at_least(KEYS[1], ARGV[6])
if lies_apart(record) then
  redis.call('PEXPIRE', content_of(record), ARGV[6])
end
return 1
"""
)
"""Give an entry another head, if it is there still.

KEYS: records.  ARGV: as KEEP's first two, the field, its new name, record without content, life.
"""

REMOVE = Script(
    _LINGER
    + b"""
local old = redis.call('HGET', KEYS[1], ARGV[3])
if not old or string.sub(old, 1, 32) ~= ARGV[4] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[3])
linger(old)
return 1
"""
)
"""Remove an entry.  KEYS: records.  ARGV: as KEEP's first two, field, token."""

INVALIDATE = Script(
    _LINGER
    + b"""
for _, old in ipairs(redis.call('HVALS', KEYS[1])) do
  linger(old)
end
redis.call('UNLINK', KEYS[1], KEYS[2])
return 1
"""
)
"""Remove all entries of a key, and have what is being written for it not become one.

KEYS: records, what is being written.  ARGV: as KEEP's first two.
"""

STAMP = Script(
    b"""
redis.pcall('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
)
"""Have nothing become an entry that is being written now.

KEYS: the number of the last purge.  ARGV: how long it is known.
"""

HEADS = Script(
    b"""
local found, size, number = {0}, 0, 0
for _, key in ipairs(KEYS) do
  if size > tonumber(ARGV[1]) then
    break
  end
  number = number + 1
  local all = redis.call('TYPE', key).ok == 'hash' and redis.call('HGETALL', key) or {}
  for i = 1, #all, 2 do
    local record = all[i + 1]
    local head = tonumber(string.sub(record, 50, 57)) or 0
    record = string.sub(record, 1, 57 + head)
    size = size + #record
    found[#found + 1] = all[i]
    found[#found + 1] = record
  end
end
found[1] = number
return found
"""
)
"""Fields and records without contents, of as many keys as go into some octets, at least one.

KEYS: records.  ARGV: octets.  Returns: how many keys were looked at, then field, record, ...
"""

READ = Script(
    b"""
local piece = redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[2])
if #piece > 0 and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.pcall('PEXPIRE', KEYS[1], ARGV[3])
end
return piece
"""
)
"""A piece of a content, which stays for another while.  ARGV: first and last octet, that time."""

HOLD = Script(
    b"""
for _, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return 1
"""
)
"""Have contents stay for another while.  KEYS: contents.  ARGV: that time."""
