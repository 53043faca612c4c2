-- Remove the oldest verdicts. KEYS: verdict stream. ARGV: id of the last that may go, how many must stay, most to remove.
-- Returns how many were removed.

local excess = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[2])
if excess <= 0 then
  return 0
end
local old = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', math.min(excess, tonumber(ARGV[3])))
if #old == 0 then
  return 0
end
local ms, number = string.match(old[#old][1], '^(%d+)-(%d+)$')
redis.call('XTRIM', KEYS[1], 'MINID', ms .. '-' .. string.format('%.0f', tonumber(number) + 1))
return #old
