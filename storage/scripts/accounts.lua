-- The accounts of one run; stands before each script that changes them.
--
-- KEYS: line hash, run hash, set of ended numbers, verdict stream, set of lines, set of the line's unsettled runs.
-- ARGV begins with: line, run, cap of the stream.
-- Numbers below `floor` have ended, so have those in the set; `next` is how many frames the run has captured.
-- Wall clocks stay strings: a Lua number holds integers only up to 2^53.

local LINE, RUN, ENDED, VERDICTS, LINES, UNSETTLED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local line_name, run_name, cap = ARGV[1], ARGV[2], ARGV[3]
local ADVANCE = 10000           -- most numbers the floor passes in one call, to keep other clients waiting little
local KEPT = 30 * 24 * 3600     -- seconds the accounts of a finished run stay, to recognise what comes twice

local kept = redis.call('HMGET', RUN, 'floor', 'next', 'over')
local floor, captured, over = tonumber(kept[1] or 0), tonumber(kept[2] or 0), kept[3] == '1'

local function text(number)
  return string.format('%.0f', number)
end

-- All numbers below `upto` exist.
local function capture(upto)
  if upto > captured then
    redis.call('HINCRBY', LINE, 'captured', text(upto - captured))
    captured = upto
  end
end

-- All numbers below `upto` have had their outcome. Those that are not known here were lost with the server's data: they
-- leave the accounts, since nobody will tell them again.
local function pass(upto)
  local stop, lost = math.min(upto, captured, floor + ADVANCE), 0
  while floor < stop do
    lost = lost + 1 - redis.call('SREM', ENDED, text(floor))
    floor = floor + 1
  end
  if lost > 0 then
    redis.call('HINCRBY', LINE, 'captured', text(-lost))
  end
end

-- End a number; false when it has ended before. Must be the first to write: a full server refuses the first write.
local function finish(seq)
  return seq >= floor and redis.call('SADD', ENDED, text(seq)) == 1
end

-- Show a verdict as the line's last, unless a newer frame has one. `fields` are names and values.
local function show(seq, fields)
  local last = redis.call('HMGET', LINE, 'verdict_run', 'verdict_seq')
  if last[1] and (last[1] > run_name or (last[1] == run_name and tonumber(last[2]) > seq)) then
    return
  end
  redis.call('HSET', LINE, 'verdict_run', run_name, 'verdict_seq', text(seq), unpack(fields))
end

-- Write the accounts back; 1 when the floor has further to go.
local function settle()
  local stop = floor + ADVANCE
  while floor < stop and redis.call('SREM', ENDED, text(floor)) == 1 do
    floor = floor + 1
  end
  redis.call('HSET', RUN, 'floor', text(floor), 'next', text(captured))
  local latest = redis.call('HGET', LINE, 'run')
  -- A killed capture never says that its run is over; that there is a later one says so too.
  if floor == captured and (over or (latest and latest > run_name)) then
    redis.call('EXPIRE', RUN, KEPT)
  else
    redis.call('PERSIST', RUN)
  end
  if floor == captured then
    redis.call('SREM', UNSETTLED, run_name)
  else
    redis.call('SADD', UNSETTLED, run_name)
  end
  if not latest then
    redis.call('SADD', LINES, line_name)
    redis.call('HSET', LINE, 'line', line_name)
  end
  if not latest or latest <= run_name then
    redis.call('HSET', LINE, 'run', run_name, 'next_seq', text(captured))
  end
  return floor == stop and 1 or 0
end
