-- Numbers that will never be judged. ARGV: line, run, cap, counter, the JSON of an `unknown` verdict before and after
-- its number (both empty: skipped, no verdicts), wall clock, then pairs first, last.
-- Returns how many ended, the floor, and 1 when the floor has further to go.

local counter, before, after, wall_ns = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local count, newest = 0, nil
for pair = 8, #ARGV, 2 do
  local first, last = math.max(tonumber(ARGV[pair]), floor), tonumber(ARGV[pair + 1])
  for seq = first, last do
    if finish(seq) then
      count, newest = count + 1, math.max(newest or 0, seq)
      if before ~= '' then
        redis.call('XADD', VERDICTS, 'MAXLEN', '~', cap, '*', 'v', before .. text(seq) .. after)
      end
    end
  end
  capture(last + 1)
end
if count > 0 then
  redis.call('HINCRBY', LINE, counter, count)
  if before ~= '' then
    show(newest, {'status', 'unknown', 'score', '', 'p_value', '', 'threshold', '', 'model', '', 'verdict_ns', wall_ns})
  end
end
local further = settle()
return {count, floor, further}
