-- A sign of life. ARGV: line, run, cap, next number, camera, wall clock, 1 in the last beat of a run, the number below
-- which all have their outcome.
-- Returns 1 when the floor has further to go.

local upto, settled = tonumber(ARGV[4]), tonumber(ARGV[8])
capture(upto)
pass(settled)
-- Beats are ordered by their run and number, not by the wall clock: it may be set back.
local latest = redis.call('HGET', LINE, 'run')
local told = tonumber(redis.call('HGET', RUN, 'told') or 0)
-- The last beat of a run stands: one that a paused worker held back must not bring the line to life again.
if over and ARGV[7] ~= '1' then
  return settle()
end
if not latest or latest < run_name or (latest == run_name and upto >= told) then
  redis.call('HSET', LINE, 'camera', ARGV[5], 'beat_ns', ARGV[6])
end
redis.call('HSET', RUN, 'told', text(math.max(told, upto)))
if ARGV[7] == '1' then
  redis.call('HSET', RUN, 'over', '1')
  over = true
end
local further = settle()
return floor < settled and 1 or further
